/**
 * The agent's end of the conversation with one shim. Requests are answered in any order; events come unasked. When the
 * connection ends (the shim has died) every open request fails with SHIM_GONE and `onGone` is called once.
 */
import { basename, dirname } from 'node:path';
import { Emitter, hasCode, NodeletError, type Span, withDeadline } from '../../base/index.ts';
import { AT_FDCWD, O, POLL } from '../../linux/constants.ts';
import { Fd, FdWatcher } from '../../linux/fd.ts';
import { native } from '../../linux/native.ts';
import { check, errnoName, errnoText } from '../../linux/syscall-error.ts';
import { encodePlan, type LaunchPlan } from '../launch/encode.ts';
import { type Message, PROTOCOL_VERSION } from '../launch/protocol.gen.ts';
import { POD_SLOT_NAMES, type PodSlot } from '../launch/slots.ts';
import { decodeMessage, encodeMessage } from './messages.ts';

const PACKET_SIZE = 32_768;
/** A request that does not start anything is answered at once, or the shim is stuck. */
const ANSWER_DEADLINE = 10_000;
/** A plan is done in milliseconds; one that a frozen cgroup or a dead disk holds up is given up (milliseconds). */
const RUN_DEADLINE = 60_000;

type Of<T extends Message['type']> = Extract<Message, { type: T }>;
export type ExitedEvent = Of<'exited'>;
export type LogLostEvent = Of<'log-lost'>;
export type ProcessInfo = Of<'process'>;

export interface AttachRequest {
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  /** The container's input ends with this connection, whatever becomes of the agent. */
  readonly once: boolean;
}

/** What came along; the caller owns the descriptors. */
export interface Attached {
  readonly stdin: Fd | undefined;
  readonly stdout: Fd | undefined;
  readonly stderr: Fd | undefined;
  /** `stdin` is the terminal's master, not a pipe. */
  readonly terminal: boolean;
}

/** What a plan that ran to its end left behind. */
export interface Started {
  readonly pid: number;
  /** Nanoseconds since 1970. */
  readonly startedAt: bigint;
  /** A span for each operation. */
  readonly spans: readonly Span[];
  /** Operations that were refused but may be. */
  readonly warnings: readonly { readonly operation: string; readonly error: string }[];
  /** Descriptors that came along; the caller owns them. */
  readonly fds: readonly Fd[];
}

export interface RunOptions {
  /** Milliseconds after which the plan's child is killed; 60 s by default. */
  readonly deadline?: number | undefined;
  /** The same at once, when it fires. */
  readonly signal?: AbortSignal | undefined;
}

interface Answer {
  readonly message: Message;
  readonly fds: Fd[];
}

interface AskOptions extends RunOptions {
  readonly fds?: readonly number[];
  /** Takes the messages of a list, which come before its answer. */
  readonly collect?: Message[];
}

/** A packet that the socket had no room for. */
interface Unsent {
  readonly request: number;
  readonly packet: Uint8Array;
  readonly fds: readonly number[];
}

interface Waiting {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
  readonly collect: Message[] | undefined;
}

export class ShimClient {
  readonly exited = new Emitter<ExitedEvent>();
  readonly logLost = new Emitter<LogLostEvent>();
  /** A child of that pid waits at a `checkpoint`. */
  readonly reached = new Emitter<number>();
  readonly gone = new Emitter<void>();
  readonly #socket: Fd;
  readonly #watcher: FdWatcher;
  readonly #waiting = new Map<number, Waiting>();
  #unsent: Unsent[] = [];
  readonly #buffer = Buffer.allocUnsafe(PACKET_SIZE);
  #next = 1;
  /** The socket had no room, and is watched for some. */
  #full = false;

  /** Takes a connected SEQPACKET socket. */
  constructor(socket: Fd) {
    this.#socket = socket;
    this.#watcher = new FdWatcher(socket.number, LISTEN, () => {
      this.#readable();
      this.#sendUnsent();
    });
  }

  /**
   * Connects to a running shim. Throws the errno's code (ENOENT, ECONNREFUSED) where there is none. A socket's name has
   * 107 bytes, a state directory may be deeper: the directory is named by a descriptor.
   */
  static connect(path: string): ShimClient {
    using directory = new Fd(
      check(native().openat2(AT_FDCWD, dirname(path), O.PATH | O.DIRECTORY, 0, 0), 'open', dirname(path)),
    );
    const name = `/proc/self/fd/${directory.number}/${basename(path)}`;
    return new ShimClient(new Fd(check(native().connectSeqpacket(name), 'connect', path)));
  }

  get connected(): boolean {
    return !this.#socket.closed;
  }

  #readable(): void {
    for (;;) {
      if (this.#socket.closed) return;
      const got = native().recvmsg(this.#socket.number, this.#buffer);
      if (typeof got === 'number') {
        if (got === -11) return;
        this.close();
        return;
      }
      const fds = got.fds.map((fd) => new Fd(fd));
      if (got.size === 0) {
        this.close();
        return;
      }
      const packet = this.#decode(got.size);
      if (packet === undefined) {
        for (const fd of fds) fd.close();
        this.close();
        return;
      }
      if (packet.request === 0) this.#event(packet.message);
      else this.#answer(packet.request, packet.message, fds);
    }
  }

  /** Undefined for what no shim of ours says: it is one no longer, and the pod's end is then as after its death. */
  #decode(size: number): ReturnType<typeof decodeMessage> | undefined {
    try {
      return decodeMessage(Buffer.from(this.#buffer.subarray(0, size)));
    } catch {
      return undefined;
    }
  }

  #event(message: Message): void {
    if (message.type === 'exited') this.exited.emit(message);
    else if (message.type === 'log-lost') this.logLost.emit(message);
    else if (message.type === 'reached') this.reached.emit(message.pid);
  }

  #answer(request: number, message: Message, fds: Fd[]): void {
    const waiting = this.#waiting.get(request);
    if (waiting === undefined) {
      for (const fd of fds) fd.close();
      return;
    }
    if (waiting.collect !== undefined && message.type === 'process') {
      waiting.collect.push(message);
      return;
    }
    this.#waiting.delete(request);
    waiting.resolve({ message, fds });
  }

  /** Sends a request and waits for its answer. Throws SHIM_GONE, SHIM_BUSY, DEADLINE_EXCEEDED, ABORTED. */
  async #ask(what: string, message: Message, options: AskOptions = {}): Promise<Answer> {
    if (this.#socket.closed) throw goneError();
    const { deadline = ANSWER_DEADLINE, fds = [], collect, signal } = options;
    const request = this.#next;
    this.#next = this.#next >= 0x7fff_ffff ? 1 : this.#next + 1;
    let abort = (): void => {};
    const promise = new Promise<Answer>((resolve, reject) => {
      this.#waiting.set(request, { resolve, reject, collect });
      abort = () => reject(new NodeletError('ABORTED', `${what}: the request was cancelled`));
    });
    signal?.addEventListener('abort', abort);
    try {
      this.#unsent.push({ request, packet: encodeMessage(message, request), fds });
      this.#sendUnsent();
      if (signal?.aborted === true) abort();
      return await withDeadline(what, deadline, promise);
    } finally {
      signal?.removeEventListener('abort', abort);
      // A late answer finds nobody; and what was not sent yet never is: its descriptors are the caller's to close.
      this.#waiting.delete(request);
      if (this.#unsent.length > 0) this.#unsent = this.#unsent.filter((one) => one.request !== request);
    }
  }

  /** In their order, as far as the socket has room; the rest when it has some again. */
  #sendUnsent(): void {
    let next = this.#unsent[0];
    while (next !== undefined && !this.#socket.closed) {
      const sent = native().sendmsg(this.#socket.number, next.packet, next.fds);
      if (sent === -11) break;
      this.#unsent.shift();
      if (sent < 0) this.#waiting.get(next.request)?.reject(sendError(sent));
      next = this.#unsent[0];
    }
    const full = this.#unsent.length > 0 && !this.#socket.closed;
    if (full !== this.#full) this.#watcher.update(full ? LISTEN | POLL.WRITABLE : LISTEN);
    this.#full = full;
  }

  async #done(message: Message): Promise<void> {
    const answer = await this.#ask(`the shim's answer to "${message.type}"`, message);
    if (answer.message.type === 'refused') throw refusal(message.type, answer.message);
  }

  /** Greets the shim: checks the protocol and returns the pod's namespaces. Throws SHIM_VERSION. */
  async hello(): Promise<{ pid: number; sandbox: string; podFds: Map<PodSlot, Fd> }> {
    const answer = await this.#ask('the greeting of the shim', { type: 'hello', version: PROTOCOL_VERSION });
    if (answer.message.type !== 'welcome') {
      throw new NodeletError(
        'SHIM_VERSION',
        `the shim speaks another protocol version than ${PROTOCOL_VERSION}`,
        {
          hint: 'stop its pod with the version of nodelet that started it',
        },
      );
    }
    const podFds = new Map<PodSlot, Fd>();
    answer.message.slots.forEach((slot, i) => {
      const name = POD_SLOT_NAMES.get(slot);
      const fd = answer.fds[i];
      if (fd === undefined) return;
      if (name === undefined) fd.close();
      else podFds.set(name, fd);
    });
    return { pid: answer.message.pid, sandbox: answer.message.sandbox, podFds };
  }

  /** All processes that the shim knows, the dead ones that nobody asked about included. */
  async list(): Promise<ProcessInfo[]> {
    const found: Message[] = [];
    await this.#ask("the shim's list", { type: 'list' }, { collect: found });
    return found.filter((message) => message.type === 'process');
  }

  /**
   * Runs a plan; `fds` become slots 16, 17, … and stay the caller's. Throws LaunchError where an operation fails, and
   * DEADLINE_EXCEEDED or ABORTED, where its child has been killed.
   */
  async run(plan: LaunchPlan, fds: readonly number[] = [], options: RunOptions = {}): Promise<Started> {
    const answer = await this.#runPlan(plan, fds, options);
    const message = answer.message;
    if (message.type === 'started') {
      const warnings: { operation: string; error: string }[] = [];
      for (let i = 0; i + 1 < message.warnings.length; i += 2) {
        const operation = plan.operations[message.warnings[i] ?? -1];
        warnings.push({
          operation: operation?.op ?? 'unknown',
          error: errnoName(message.warnings[i + 1] ?? 0),
        });
      }
      return {
        pid: message.pid,
        startedAt: message.startedAt as bigint,
        spans: operationSpans(plan, message.begun as bigint, message.times),
        warnings,
        fds: answer.fds,
      };
    }
    for (const fd of answer.fds) fd.close();
    if (message.type === 'failed') throw new LaunchError(plan, message);
    if (message.type === 'refused') throw refusal('run', message);
    throw new NodeletError('SHIM_PROTOCOL', `the shim answered "run" with "${message.type}"`);
  }

  async #runPlan(plan: LaunchPlan, fds: readonly number[], options: RunOptions): Promise<Answer> {
    const { deadline = RUN_DEADLINE, signal } = options;
    using file = new Fd(check(native().memfdSealed('nodelet-plan', encodePlan(plan)), 'memfd_create'));
    try {
      const ask = { deadline, signal, fds: [file.number, ...fds] };
      return await this.#ask(`the launch plan "${plan.name}"`, { type: 'run' }, ask);
    } catch (error) {
      // Given up by us, not by the shim: whatever it is that the child waits for, it dies of this.
      if (hasCode(error, 'DEADLINE_EXCEEDED', 'ABORTED')) await this.signal(plan.name, 9).catch(() => false);
      throw error;
    }
  }

  /** Signals a process. False where it has ended already. */
  async signal(name: string, signal: number): Promise<boolean> {
    try {
      await this.#done({ type: 'signal', name, signal });
      return true;
    } catch (error) {
      if (error instanceof NodeletError && error.details.errno === 3) return false;
      throw error;
    }
  }

  resize(name: string, rows: number, columns: number): Promise<void> {
    return this.#done({ type: 'resize', name, rows, columns });
  }

  /** The streams of a running container. Throws SHIM_REFUSED (ESRCH where it has ended, EMFILE for too many readers). */
  async attach(name: string, wanted: AttachRequest): Promise<Attached> {
    const bit = (value: boolean): number => (value ? 1 : 0);
    const { message, fds } = await this.#ask('the shim\'s answer to "attach"', {
      type: 'attach',
      name,
      stdin: bit(wanted.stdin),
      stdout: bit(wanted.stdout),
      stderr: bit(wanted.stderr),
      once: bit(wanted.once),
    });
    if (message.type === 'refused') throw refusal('attach', message);
    if (message.type !== 'attached')
      throw new NodeletError('SHIM_PROTOCOL', `the shim answered "attach" with "${message.type}"`);
    const take = (has: number): Fd | undefined => (has === 1 ? fds.shift() : undefined);
    return {
      stdin: take(message.stdin),
      stdout: take(message.stdout),
      stderr: take(message.stderr),
      terminal: message.terminal === 1,
    };
  }

  closeStdin(name: string): Promise<void> {
    return this.#done({ type: 'close-stdin', name });
  }

  reopenLog(name: string): Promise<void> {
    return this.#done({ type: 'reopen-log', name });
  }

  forget(name: string): Promise<void> {
    return this.#done({ type: 'forget', name });
  }

  /** Lets a child go on from its checkpoint, with the state for the hooks after it. */
  proceed(name: string, state: string): Promise<void> {
    return this.#done({ type: 'proceed', name, state });
  }

  /** From here on the processes outlive the shim, which ends now unless it is to stay. */
  leave(stay: boolean): Promise<void> {
    return this.#done({ type: 'leave', stay: stay ? 1 : 0 });
  }

  /** Ends the shim. Throws SHIM_REFUSED (EBUSY) while a process runs. */
  quit(): Promise<void> {
    return this.#done({ type: 'quit' });
  }

  close(): void {
    if (this.#socket.closed) return;
    this.#watcher.close();
    this.#socket.close();
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const one of waiting) one.reject(goneError());
    this.gone.emit();
  }
}

const LISTEN = POLL.READABLE | POLL.DISCONNECT;

function sendError(sent: number): NodeletError {
  if (sent === -32 || sent === -104) return goneError();
  return new NodeletError('SHIM_BUSY', `cannot send to the shim: ${errnoName(-sent)}`);
}

function goneError(): NodeletError {
  return new NodeletError('SHIM_GONE', "the pod's shim has ended", {
    hint: 'its containers are lost; the pod is made anew',
  });
}

function refusal(request: string, message: Of<'refused'>): NodeletError {
  const text = message.detail === '' ? errnoText(message.error) : message.detail;
  return new NodeletError(
    'SHIM_REFUSED',
    `the shim refused "${request}": ${errnoName(message.error)} (${text})`,
    {
      details: { errno: message.error },
    },
  );
}

function operationSpans(plan: LaunchPlan, begun: bigint, times: readonly number[]): Span[] {
  const start = Number(begun / 1000n);
  const spans: Span[] = [];
  let last = 0;
  plan.operations.forEach((operation, i) => {
    const end = times[i] ?? 0;
    // The last operation (execute) never comes back to report its end.
    if (end === 0 && i < plan.operations.length - 1) return;
    spans.push({
      name: operation.op,
      category: 'shim',
      start: start + last,
      duration: Math.max(0, end - last),
    });
    last = Math.max(last, end);
  });
  return spans;
}

/** A plan that failed: at which operation, with which errno, and what the shim could say about it. */
export class LaunchError extends NodeletError {
  override readonly name = 'LaunchError';
  readonly operation: string;
  readonly index: number;
  readonly errno: number;
  /** The signal that killed the child during the operation; 0 where an errno says it. */
  readonly signal: number;
  readonly detail: string;

  constructor(plan: LaunchPlan, failed: Of<'failed'>) {
    const operation = plan.operations[failed.operation]?.op ?? 'the plan itself';
    const what = failed.detail === '' ? '' : ` ${JSON.stringify(failed.detail)}`;
    const why =
      failed.signal === 0
        ? `${errnoName(failed.error)} (${errnoText(failed.error)})`
        : `killed by signal ${failed.signal}`;
    super(
      'LAUNCH_FAILED',
      `cannot start "${plan.name}": operation ${failed.operation} (${operation})${what}: ${why}`,
      {
        details: { operation, index: failed.operation, errno: failed.error, signal: failed.signal },
      },
    );
    this.operation = operation;
    this.index = failed.operation;
    this.errno = failed.error;
    this.signal = failed.signal;
    this.detail = failed.detail;
  }
}
