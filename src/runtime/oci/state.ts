/**
 * Containers as they are kept between calls: a directory each below `--root`, made by `create` and removed by `delete`. What a
 * container does is never written down but asked of the kernel: its first process, by pid and start time, and its cgroup.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { hasCode, NodeletError, readJsonIfExists, replaceFileSync } from '../../base/index.ts';
import { type CgroupHost, directoryOf, readEvents } from '../../linux/cgroups/index.ts';
import { AT_FDCWD, LOCK, O } from '../../linux/constants.ts';
import { Fd } from '../../linux/fd.ts';
import { native } from '../../linux/native.ts';
import { bootId, readStat } from '../../linux/procfs.ts';
import { check } from '../../linux/syscall-error.ts';
import type { ContainerStatus } from './transitions.ts';

export interface OciRecord {
  readonly version: 1;
  readonly ociVersion: string;
  readonly id: string;
  readonly bundle: string;
  readonly rootfs: string;
  /** 0 until the first process is there. */
  readonly pid: number;
  /** In ticks since boot; with the boot id what tells the process from a later one. */
  readonly startTime: number;
  readonly bootId: string;
  readonly created: string;
  readonly annotations: Readonly<Record<string, string>>;
  /** As a path in every hierarchy. */
  readonly cgroup: string;
}

export const START_SOCKET = 'start.sock';
const RECORD = 'state.json';
const CONFIG = 'config.json';

/** Throws OCI_INVALID_ID: an id becomes the name of a directory and of a cgroup. */
export function checkId(id: string): string {
  if (/^[\w+.-]+$/.test(id) && id !== '.' && id !== '..' && id.length <= 255) return id;
  throw new NodeletError(
    'OCI_INVALID_ID',
    `invalid container id ${JSON.stringify(id.length > 80 ? `${id.slice(0, 80)}…` : id)}: expected letters, digits and _ + - . (255 at most)`,
  );
}

export class OciStore {
  readonly root: string;

  constructor(root: string) {
    this.root = root;
  }

  directory(id: string): string {
    return join(this.root, checkId(id));
  }

  /** Makes the container's directory: whoever made it has the id. Throws OCI_EXISTS. */
  claim(id: string): string {
    const directory = this.directory(id);
    mkdirSync(this.root, { recursive: true, mode: 0o700 });
    try {
      mkdirSync(directory, { mode: 0o700 });
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw error;
      throw new NodeletError('OCI_EXISTS', `container with id exists: ${JSON.stringify(id)}`, {
        hint: 'delete it first, or choose another id',
      });
    }
    return directory;
  }

  /** One call at a time changes a container; released by closing. Throws OCI_NOT_FOUND. */
  lock(id: string): Fd {
    const opened = native().openat2(AT_FDCWD, this.directory(id), O.RDONLY | O.DIRECTORY, 0, 0);
    if (opened === -2) throw notFound(id);
    const fd = new Fd(check(opened, 'open', this.directory(id)));
    check(native().flock(fd.number, LOCK.EX), 'flock');
    return fd;
  }

  write(record: OciRecord): void {
    replaceFileSync(join(this.directory(record.id), RECORD), JSON.stringify(record), {
      mode: 0o600,
      durable: false,
    });
  }

  /** What `create` was given, for exec, update and hooks. */
  writeConfig(id: string, text: string): void {
    replaceFileSync(join(this.directory(id), CONFIG), text, { mode: 0o600, durable: false });
  }

  config(id: string): string {
    return readFileSync(join(this.directory(id), CONFIG), 'utf8');
  }

  /** Undefined for a directory whose create did not come that far. Throws OCI_NOT_FOUND. */
  read(id: string): OciRecord | undefined {
    const directory = this.directory(id);
    const record = readJsonIfExists(join(directory, RECORD)) as OciRecord | undefined;
    if (record === undefined && !existsSync(directory)) throw notFound(id);
    if (record !== undefined && (record.version !== 1 || record.id !== id)) {
      throw new NodeletError(
        'OCI_STATE_DAMAGED',
        `the record of container ${JSON.stringify(id)} is not readable`,
        { hint: 'nodelet-oci delete --force removes what is left of it' },
      );
    }
    return record;
  }

  /** Throws OCI_NOT_FOUND, also for a container that is still being created. */
  get(id: string): OciRecord {
    const record = this.read(id);
    if (record === undefined) throw notFound(id);
    return record;
  }

  list(): string[] {
    try {
      return readdirSync(this.root, { withFileTypes: true })
        .filter((entry) => entry.isDirectory() && /^[\w+.-]+$/.test(entry.name))
        .map((entry) => entry.name)
        .sort();
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return [];
      throw error;
    }
  }

  remove(id: string): void {
    rmSync(this.directory(id), { recursive: true, force: true });
  }

  /** The socket is there until somebody has started the container. */
  startable(id: string): boolean {
    return existsSync(join(this.directory(id), START_SOCKET));
  }
}

export function notFound(id: string): NodeletError {
  return new NodeletError('OCI_NOT_FOUND', `container ${JSON.stringify(id)} does not exist`);
}

/** True while that very process runs; a zombie has ended. */
export function isRunning(record: OciRecord): boolean {
  if (record.pid === 0 || record.bootId !== bootId()) return false;
  const stat = readStat(record.pid);
  return stat !== undefined && stat.startTime === record.startTime && !'ZX'.includes(stat.state);
}

export function statusOf(store: OciStore, host: CgroupHost, record: OciRecord): ContainerStatus {
  if (record.pid === 0) return 'creating';
  if (!isRunning(record)) return 'stopped';
  if (readEvents(directoryOf(host.unified, record.cgroup))?.get('frozen') === 1) return 'paused';
  return store.startable(record.id) ? 'created' : 'running';
}

/** The state as hooks and `state` give it out. */
export function stateOf(record: OciRecord, status: ContainerStatus): Record<string, unknown> {
  return {
    ociVersion: record.ociVersion,
    id: record.id,
    pid: status === 'stopped' ? 0 : record.pid,
    status,
    bundle: record.bundle,
    rootfs: record.rootfs,
    created: record.created,
    owner: '',
    ...(Object.keys(record.annotations).length === 0 ? {} : { annotations: record.annotations }),
  };
}
