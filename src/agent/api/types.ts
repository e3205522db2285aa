/** What the local API carries beside Kubernetes' own objects. All of it is JSON. */

import type { Span } from '../../base/index.ts';
import type { CheckedPod, ConfigMap, Secret } from '../../kube/index.ts';

/** POST /nodelet/v1/pods: checked objects (`parseManifests` made them). */
export interface CreateRequest {
  readonly pods: readonly CheckedPod[];
  readonly configMaps: readonly ConfigMap[];
  readonly secrets: readonly Secret[];
}

export interface CreateResponse {
  readonly pods: readonly { readonly uid: string; readonly namespace: string; readonly name: string }[];
}

/** The body of every answer that is no success. */
export interface ErrorBody {
  readonly code: string;
  readonly message: string;
  readonly hint?: string;
  readonly details?: Readonly<Record<string, unknown>>;
}

export interface VersionResponse {
  readonly version: string;
  readonly pid: number;
  readonly node: string;
  readonly kernel: string;
  readonly root: string;
  readonly state: string;
  /** Bytes of resident memory. */
  readonly memory: number;
}

/** A row of `nodelet ps`. */
export interface ContainerRow {
  readonly id: string;
  readonly name: string;
  readonly namespace: string;
  readonly pod: string;
  readonly podUid: string;
  readonly podSandboxId: string;
  readonly image: string;
  readonly imageId: string;
  readonly state: 'created' | 'running' | 'exited' | 'unknown';
  readonly attempt: number;
  /** Milliseconds since 1970; 0 where it has not come to that. */
  readonly createdAt: number;
  readonly startedAt: number;
  readonly finishedAt: number;
  readonly exitCode: number;
  readonly reason: string;
  readonly pid: number;
}

/** A row of `nodelet stats`. */
export interface StatsRow {
  readonly id: string;
  readonly name: string;
  readonly namespace: string;
  readonly pod: string;
  /** Of one core, in percent, since the reading before; undefined at the first. */
  readonly cpuPercent: number | undefined;
  readonly cpuNanos: number;
  readonly memoryBytes: number;
  /** 0 for none. */
  readonly memoryLimit: number;
  readonly diskBytes: number;
  readonly inodes: number;
  readonly pids: number;
}

/** GET /nodelet/v1/pods/{namespace}/{name}/trace */
export interface TraceResponse {
  readonly pod: string;
  readonly uid: string;
  readonly spans: readonly Span[];
}

/** What ends a pod: seconds of grace in place of the pod's own. */
export interface EndQuery {
  readonly grace?: string;
}
