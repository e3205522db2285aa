/** What the agent's thread and the image workers say to each other. One job at a time in each worker. */
import type { LayerJob, LayerResult } from './layer-job.ts';
import type { LayerSummary } from './writer.ts';

/** One file of an archive that was read: kept in memory where it is small, else put into a file of its own. */
export interface ArchiveMember {
  readonly name: string;
  /** Target of a symbolic or hard link. */
  readonly link?: string;
  readonly size: number;
  readonly digest: string;
  readonly content?: Uint8Array;
  readonly file?: string;
}

interface Jobs {
  /** Check a blob, unpack it. */
  readonly layer: { readonly job: LayerJob; readonly result: LayerResult };
  /** Adapt a layer to those below; false: it needs them while it is unpacked. */
  readonly settle: {
    readonly job: {
      readonly directory: string;
      readonly lower: readonly string[];
      readonly summary: LayerSummary;
    };
    readonly result: boolean;
  };
  /** Make a layer visible. */
  readonly commit: {
    readonly job: { readonly directory: string; readonly target: string; readonly record: object };
    readonly result: undefined;
  };
  readonly remove: { readonly job: { readonly paths: readonly string[] }; readonly result: undefined };
  readonly measure: {
    readonly job: { readonly path: string };
    readonly result: { readonly bytes: number; readonly inodes: number };
  };
  readonly copyOut: {
    readonly job: { readonly layers: readonly string[]; readonly path: string; readonly target: string };
    readonly result: boolean;
  };
  /** What differs between two trees. */
  readonly compare: {
    readonly job: { readonly one: string; readonly other: string };
    readonly result: readonly string[];
  };
  /** Take a tar archive apart; files go to `directory`. */
  readonly archive: {
    readonly job: { readonly path: string; readonly directory: string; readonly reserveBytes: number };
    readonly result: readonly ArchiveMember[];
  };
}

export type JobKind = keyof Jobs;
export type JobOf<K extends JobKind> = Jobs[K]['job'];
export type ResultOf<K extends JobKind> = Jobs[K]['result'];

export type ToWorker =
  | {
      [K in JobKind]: {
        readonly type: 'run';
        readonly kind: K;
        readonly job: JobOf<K>;
        readonly available: number;
      };
    }[JobKind]
  /** The blob's file has this many bytes now. */
  | { readonly type: 'grow'; readonly available: number }
  | { readonly type: 'abort' };

export interface PlainError {
  readonly code: string;
  readonly message: string;
  readonly hint: string | undefined;
  readonly details: Readonly<Record<string, unknown>>;
}

export type FromWorker =
  | { readonly type: 'progress'; readonly read: number }
  | { readonly type: 'done'; readonly result: unknown }
  | { readonly type: 'failed'; readonly error: PlainError };
