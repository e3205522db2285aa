/** What the runtime remembers of sandboxes and containers, one small JSON file each, in the state directory. */
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import {
  hasCode,
  isTemporaryName,
  NodeletError,
  readJsonIfExists,
  replaceFileSync,
  type Span,
} from '../base/index.ts';
import type { NetworkResult } from '../cni/index.ts';
import type { LocalContainerConfig, PodSandboxConfig } from '../cri/index.ts';
import type { ContainerEdits } from './cdi-edits.ts';
import type { OciIdMap } from './launch/spec.ts';
import type { ContainerState, SandboxState } from './state.ts';
import type { ResolvedUser } from './users.ts';

const VERSION = 1;

export interface SandboxRecord {
  readonly version: number;
  /** The boot that it belongs to: processes and descriptors of another one are gone. */
  readonly bootId: string;
  readonly id: string;
  readonly config: PodSandboxConfig;
  readonly runtimeHandler: string;
  /** Nanoseconds since 1970. */
  readonly createdAt: number;
  state: SandboxState;
  shimPid: number;
  /** PID of the pause process, 0 where there is none. */
  pausePid: number;
  network: NetworkResult | undefined;
  readonly hostname: string;
  readonly uidMap: readonly OciIdMap[];
  readonly gidMap: readonly OciIdMap[];
  spans: readonly Span[];
}

export interface ContainerRecord {
  readonly version: number;
  readonly bootId: string;
  readonly id: string;
  readonly sandboxId: string;
  readonly config: LocalContainerConfig;
  readonly imageId: string;
  /** As the status shows it: a digest reference where there is one. */
  readonly imageRef: string;
  readonly user: ResolvedUser;
  /** What its CDI devices add. */
  readonly edits?: ContainerEdits | undefined;
  /** The AppArmor profile that its programs begin under. */
  readonly apparmorProfile?: string | undefined;
  readonly stopSignal: string;
  readonly createdAt: number;
  state: ContainerState;
  pid: number;
  startedAt: number;
  finishedAt: number;
  exitCode: number;
  oomKilled: boolean;
  /** Empty until it has ended. */
  reason: string;
  message: string;
  spans: readonly Span[];
}

/** An exit as the shim wrote it down (native/shim/process.c). */
export interface ExitRecord {
  readonly pid: number;
  readonly code: number;
  readonly oomKills: number;
  /** Nanoseconds since 1970. */
  readonly startedAt: number;
  readonly finishedAt: number;
}

/** Between attempts to write what could not be written (milliseconds). */
const RETRY_INTERVAL = 1000;

export class RecordStore {
  readonly #root: string;
  /** Records that are to be written, by their ids. */
  readonly #unsaved = new Map<string, ContainerRecord | SandboxRecord>();
  #writing = false;

  /** `<state>/sandboxes` */
  constructor(root: string) {
    this.#root = root;
  }

  sandboxDirectory(id: string): string {
    return join(this.#root, id);
  }

  containerDirectory(sandboxId: string, id: string): string {
    return join(this.#root, sandboxId, 'containers', id);
  }

  shimSocket(sandboxId: string): string {
    return join(this.#root, sandboxId, 'shim.sock');
  }

  exitFile(sandboxId: string, id: string): string {
    return join(this.containerDirectory(sandboxId, id), 'exit');
  }

  saveSandbox(record: SandboxRecord): void {
    this.#unsaved.delete(record.id);
    mkdirSync(join(this.#root, record.id, 'containers'), { recursive: true, mode: 0o700 });
    replaceFileSync(join(this.#root, record.id, 'sandbox.json'), JSON.stringify(record), { durable: false });
  }

  /**
   * Writes it when nothing else is to be done, on a full disk once there is room. For what the shim has written down or can
   * be asked for: a crash before loses nothing.
   */
  saveSoon(record: ContainerRecord | SandboxRecord): void {
    this.#unsaved.set(record.id, record);
    if (this.#writing) return;
    this.#writing = true;
    setImmediate(() => this.#writeUnsaved());
  }

  #writeUnsaved(): void {
    try {
      this.flush();
      this.#writing = false;
    } catch {
      setTimeout(() => this.#writeUnsaved(), RETRY_INTERVAL).unref();
    }
  }

  /**
   * Writes each that can be written: one that cannot holds back no other. Throws what the first failure was; what could not be
   * written stays to be written.
   */
  flush(): void {
    const failures: unknown[] = [];
    for (const record of Array.from(this.#unsaved.values())) {
      try {
        if ('sandboxId' in record) this.saveContainer(record);
        else this.saveSandbox(record);
      } catch (error) {
        this.#unsaved.set(record.id, record);
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }

  saveContainer(record: ContainerRecord): void {
    this.#unsaved.delete(record.id);
    const directory = this.containerDirectory(record.sandboxId, record.id);
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    replaceFileSync(join(directory, 'container.json'), JSON.stringify(record), { durable: false });
  }

  removeSandbox(id: string): void {
    for (const record of this.#unsaved.values())
      if (record.id === id || ('sandboxId' in record && record.sandboxId === id))
        this.#unsaved.delete(record.id);
    rmSync(this.sandboxDirectory(id), { recursive: true, force: true });
  }

  removeContainer(sandboxId: string, id: string): void {
    this.#unsaved.delete(id);
    rmSync(this.containerDirectory(sandboxId, id), { recursive: true, force: true });
  }

  /** Undefined until the container has ended. */
  readExit(sandboxId: string, id: string): ExitRecord | undefined {
    let value: unknown;
    try {
      value = readJsonIfExists(this.exitFile(sandboxId, id));
    } catch {
      return undefined; // the space that the shim took, not written yet
    }
    if (typeof value !== 'object' || value === null) return undefined;
    const raw = value as Record<string, unknown>;
    return {
      pid: Number(raw.pid),
      code: Number(raw.code),
      oomKills: Number(raw.oomKills),
      startedAt: Number(raw.startedAt),
      finishedAt: Number(raw.finishedAt),
    };
  }

  /** Everything on disk. A directory without a readable record is reported by its id alone: its owner died creating it. */
  load(): {
    sandboxes: SandboxRecord[];
    containers: ContainerRecord[];
    broken: { sandboxId: string; containerId?: string }[];
  } {
    const sandboxes: SandboxRecord[] = [];
    const containers: ContainerRecord[] = [];
    const broken: { sandboxId: string; containerId?: string }[] = [];
    for (const id of names(this.#root)) {
      const record = readRecord(join(this.#root, id, 'sandbox.json')) as SandboxRecord | undefined;
      if (record === undefined) {
        broken.push({ sandboxId: id });
        continue;
      }
      sandboxes.push(record);
      for (const containerId of names(join(this.#root, id, 'containers'))) {
        const container = readRecord(join(this.#root, id, 'containers', containerId, 'container.json')) as
          | ContainerRecord
          | undefined;
        if (container === undefined) broken.push({ sandboxId: id, containerId });
        else containers.push(container);
      }
    }
    return { sandboxes, containers, broken };
  }
}

function names(directory: string): string[] {
  try {
    return readdirSync(directory).filter((name) => !isTemporaryName(name));
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return [];
    throw error;
  }
}

function readRecord(path: string): unknown {
  let value: unknown;
  try {
    value = readJsonIfExists(path);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null || !('version' in value)) return undefined;
  if (value.version !== VERSION) {
    throw new NodeletError(
      'STATE_VERSION',
      `cannot read "${path}": it was written by another version of nodelet`,
      {
        hint: 'stop its pods with that version, or remove the state directory after a reboot',
      },
    );
  }
  return value;
}

export const RECORD_VERSION = VERSION;
