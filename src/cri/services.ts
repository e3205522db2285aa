/**
 * The seam between kubelet and runtime, inside one process. Requests and responses are CRI v1's own
 * (api.gen.ts); what CRI leaves to a streaming server (exec, attach, port-forward) is offered here as streams, so
 * that the local socket, a CRI streaming server and tests share one implementation.
 */
import type { Duplex, Readable, Writable } from 'node:stream';
import type { Span } from '../base/index.ts';
import type * as cri from './api.gen.ts';

export interface TerminalSize {
  readonly width: number;
  readonly height: number;
}

export interface ExecOptions {
  readonly containerId: string;
  readonly command: readonly string[];
  readonly terminal: boolean;
  /** False leaves the program's standard input at /dev/null. */
  readonly stdin: boolean;
  readonly size?: TerminalSize;
  /** Added to the container's environment. */
  readonly env?: readonly string[];
}

/** A program started in a running container. With a terminal, everything comes by `stdout`. */
export interface ExecSession {
  readonly pid: number;
  readonly stdin: Writable | undefined;
  readonly stdout: Readable;
  readonly stderr: Readable | undefined;
  resize(size: TerminalSize): void;
  /** Exit code (128 + signal where a signal ended it), after both outputs have ended. */
  readonly exit: Promise<number>;
  /** Kills the program and frees everything; safe after the end. */
  close(): void;
}

export interface AttachOptions {
  readonly containerId: string;
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  /** Must be what the container was made with; then everything comes by `stdout`. */
  readonly terminal: boolean;
}

/** A running container's own streams. Several sessions of one container may be open at once. */
export interface AttachSession {
  /** Ending it ends the container's input only where the container has `stdinOnce`. */
  readonly stdin: Writable | undefined;
  /** What the container writes from now on. */
  readonly stdout: Readable | undefined;
  readonly stderr: Readable | undefined;
  resize(size: TerminalSize): void;
  /** Fulfilled when the container's streams have ended, or the session was closed. */
  readonly ended: Promise<void>;
  /** Leaves the container alone; safe after the end. */
  close(): void;
}

export interface PortForwardOptions {
  readonly podSandboxId: string;
  /** 1 to 65535, on the loopback address of the pod's network namespace: 127.0.0.1, else ::1. */
  readonly port: number;
}

/** The streams of CRI: what Exec, Attach and PortForward lead to. Errors are those of the unary calls. */
export interface StreamingRuntime {
  openExec(options: ExecOptions, signal?: AbortSignal): Promise<ExecSession>;
  openAttach(options: AttachOptions, signal?: AbortSignal): Promise<AttachSession>;
  /** A connection into the pod. Ending its writable side leaves the readable one open. */
  openPortForward(options: PortForwardOptions, signal?: AbortSignal): Promise<Duplex>;
}

/** Where a CRI client is sent for its streams: URLs that carry a token for one use within a minute. */
export interface StreamingUrls {
  /** Throws INVALID_ARGUMENT (no stream asked for, a terminal with stderr), RESOURCE_EXHAUSTED (1,000 tokens wait). */
  exec(request: cri.ExecRequest): string;
  attach(request: cri.AttachRequest): string;
  portForward(request: cri.PortForwardRequest): string;
}

export type MountSourceType = 'directory' | 'file' | 'socket' | 'character-device' | 'block-device';

/** A volume mount with what CRI does not carry. A remote CRI runtime ignores `subPath`: prepare it as a bind there. */
export interface LocalMount extends cri.Mount {
  /** Relative path inside `hostPath`, opened beneath it without leaving it (openat2), then mounted by descriptor. */
  subPath?: string;
  /** What `hostPath` has to be at the moment when it is mounted: whoever may rename there cannot put something else in. */
  sourceType?: MountSourceType;
}

export interface LocalContainerConfig extends cri.ContainerConfig {
  mounts?: LocalMount[];
}

/** What a container's exit looked like, beyond CRI's ContainerStatus. */
export type LocalContainerStatus = cri.ContainerStatus;

/** Spans of what was done for a sandbox and its containers, for `nodelet trace`. */
export interface TraceSource {
  spans(podSandboxId: string): readonly Span[];
}

/** The calls of CRI's RuntimeService that are made inside the process. */
export type LocalCalls =
  | 'version'
  | 'status'
  | 'runtimeConfig'
  | 'runPodSandbox'
  | 'stopPodSandbox'
  | 'removePodSandbox'
  | 'podSandboxStatus'
  | 'listPodSandbox'
  | 'createContainer'
  | 'startContainer'
  | 'stopContainer'
  | 'removeContainer'
  | 'listContainers'
  | 'containerStatus'
  | 'updateContainerResources'
  | 'reopenContainerLog'
  | 'execSync'
  | 'containerStats'
  | 'listContainerStats'
  | 'podSandboxStats'
  | 'listPodSandboxStats'
  | 'getContainerEvents';

/** Where a runtime of another process differs from ours. */
export interface RuntimeTraits {
  /** The subPath of a mount is to be prepared as a bind by the kubelet. */
  readonly wantsPreparedSubPaths?: boolean;
}

/** The runtime as the kubelet sees it. */
export type LocalRuntime = Pick<cri.RuntimeService, LocalCalls> &
  StreamingRuntime &
  TraceSource &
  RuntimeTraits;
