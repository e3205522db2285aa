/** What is kept of a pod over a restart of the agent, beside its own directory: `pods/<uid>/nodelet.json`. */
import { existsSync } from 'node:fs';
import { readJsonIfExists, replaceFileSync } from '../base/index.ts';
import type { Desired, PodMemory, ProbeResults, Terminal } from './core/model.ts';
import type { KubeletPaths } from './paths.ts';

const VERSION = 1;

export interface PodRecord {
  readonly startTime: number;
  readonly desired: Desired;
  readonly endingAt?: number;
  readonly terminal?: Terminal;
  /** Of running containers by id: so that a restart flips no ready container to unready. */
  readonly probes?: Readonly<Record<string, ProbeResults>>;
}

interface StoredRecord extends PodRecord {
  readonly version: number;
}

export class RecordFile {
  readonly #path: string;
  readonly #folder: string;
  #written = '';

  constructor(paths: KubeletPaths, uid: string) {
    this.#path = paths.record(uid);
    this.#folder = paths.pod(uid);
  }

  /** Undefined where there is none, or none that this version understands. */
  read(): PodRecord | undefined {
    const stored = readJsonIfExists(this.#path) as StoredRecord | undefined;
    return stored?.version === VERSION ? stored : undefined;
  }

  /** Writes where something differs from the last time; nothing before the pod's directory is made. */
  write(record: PodRecord): void {
    const stored: StoredRecord = { version: VERSION, ...record };
    const text = JSON.stringify(stored);
    if (text === this.#written || !existsSync(this.#folder)) return;
    // After a power cut the containers are gone as well: not worth a wait for the disk.
    replaceFileSync(this.#path, text, { durable: false });
    this.#written = text;
  }
}

export function recordOf(
  memory: PodMemory,
  desired: Desired,
  probes: ReadonlyMap<string, ProbeResults>,
): PodRecord {
  return {
    startTime: memory.startTime,
    desired,
    ...(memory.endingAt === undefined ? {} : { endingAt: memory.endingAt }),
    ...(memory.terminal === undefined ? {} : { terminal: memory.terminal }),
    ...(probes.size === 0 ? {} : { probes: Object.fromEntries(probes) }),
  };
}
