import { NodeletError } from '../../base/index.ts';
import { native } from '../native.ts';
import { check, SyscallError } from '../syscall-error.ts';
import { NLM_F, NLMSG } from './constants.ts';
import { NetlinkError, type NetlinkFailure, readAcknowledgement } from './error.ts';
import { type NetlinkMessage, parseMessages } from './reader.ts';
import { NetlinkWriter } from './writer.ts';

/** One request, encoded when it is sent. */
export interface NetlinkRequest {
  readonly type: number;
  /** NLM_F flags besides REQUEST and ACK. */
  readonly flags: number;
  /** As ip(8) or nft(8) would say it; for errors, logs and plans. */
  describe(): string;
  /** Everything after the message header. */
  write(writer: NetlinkWriter): void;
}

export interface NetlinkSocketOptions {
  /** NETLINK.*: the family. */
  readonly protocol: number;
  /** The network namespace; undefined for the process's own. Only read, never owned. */
  readonly netnsFd?: number | undefined;
  /** Bytes of the send and receive buffers; default 1 MiB. */
  readonly bufferSize?: number;
}

const EAGAIN = 11;
const ENOBUFS = 105;
const SOL_SOCKET = 1;
const SO_SNDBUFFORCE = 32;
/** The kernel's largest answer in a dump is 32 KiB, or what one object takes. */
const READ_SIZE = 64 * 1024;
const DUMP_ATTEMPTS = 10;

/**
 * A netlink socket for requests. All calls are synchronous: the kernel handles a request, and queues its answer,
 * before sendmsg(2) returns. Not for multicast: see `NetlinkMonitor`.
 */
export class NetlinkSocket implements Disposable {
  #fd: number;
  #sequence = 1;
  #sendBuffer: number;
  #read: Buffer | undefined;

  constructor(options: NetlinkSocketOptions) {
    this.#sendBuffer = options.bufferSize ?? 1024 * 1024;
    this.#fd = check(
      native().netlinkSocket(options.netnsFd ?? -1, options.protocol, 0, this.#sendBuffer),
      'open a netlink socket',
    );
  }

  close(): void {
    if (this.#fd < 0) return;
    native().close(this.#fd);
    this.#fd = -1;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * Sends all requests in one sendmsg and returns what the kernel answered. The kernel goes on after a request
   * that it refuses, so all are tried; `NetlinkError` names the first that failed and lists the others.
   */
  execute(requests: readonly NetlinkRequest[]): NetlinkMessage[] {
    if (requests.length === 0) return [];
    const { bytes, first } = this.#encode(requests);
    return conclude(requests, first, this.exchange(bytes));
  }

  /**
   * As `execute`, with the kernel's work on another thread: for what takes long, such as deleting a link. The socket
   * must not be used for anything else meanwhile.
   */
  async executeInBackground(requests: readonly NetlinkRequest[]): Promise<NetlinkMessage[]> {
    if (requests.length === 0) return [];
    const { bytes, first } = this.#encode(requests);
    check(await native().sendmsgAsync(this.#fd, bytes), 'send a netlink request');
    return conclude(requests, first, this.#drain());
  }

  #encode(requests: readonly NetlinkRequest[]): { readonly bytes: Buffer; readonly first: number } {
    const writer = new NetlinkWriter();
    const first = this.takeSequences(requests.length);
    for (const [i, request] of requests.entries()) {
      // Failures are always answered; one acknowledgement, the last, proves that all were handled.
      const ack = i === requests.length - 1 ? NLM_F.ACK : 0;
      writer.beginMessage(request.type, NLM_F.REQUEST | request.flags | ack, first + i);
      request.write(writer);
      writer.endMessage();
    }
    return { bytes: writer.bytes(), first };
  }

  /**
   * Asks for a whole table (the request's flags get NLM_F_DUMP), again where it changed meanwhile.
   * Throws NETLINK_DUMP_INTERRUPTED where it never held still.
   */
  dump(request: NetlinkRequest): NetlinkMessage[] {
    for (let attempt = 0; attempt < DUMP_ATTEMPTS; attempt++) {
      const messages = this.#dumpOnce(request);
      if (messages !== undefined) return messages;
    }
    throw new NodeletError(
      'NETLINK_DUMP_INTERRUPTED',
      `cannot read ${JSON.stringify(request.describe())}: it changed during each of ${DUMP_ATTEMPTS} attempts`,
    );
  }

  #dumpOnce(request: NetlinkRequest): NetlinkMessage[] | undefined {
    const writer = new NetlinkWriter(256);
    const sequence = this.takeSequences(1);
    writer.beginMessage(request.type, NLM_F.REQUEST | NLM_F.DUMP | request.flags, sequence);
    request.write(writer);
    writer.endMessage();
    this.#send(writer.bytes());
    const messages: NetlinkMessage[] = [];
    let consistent = true;
    for (;;) {
      const datagram = this.#receive();
      if (datagram === undefined) throw noAnswer(request.describe());
      for (const message of parseMessages(datagram)) {
        if (message.sequence !== sequence) continue;
        if ((message.flags & NLM_F.DUMP_INTR) !== 0) consistent = false;
        if (message.type === NLMSG.ERROR || message.type === NLMSG.DONE) {
          const ack = readAcknowledgement(message, message.type === NLMSG.DONE);
          if (ack.errno !== 0) throw new NetlinkError({ index: 0, request: request.describe(), ...ack });
          return consistent ? messages : undefined;
        }
        messages.push(message);
      }
    }
  }

  /** The first of `count` fresh sequence numbers. */
  takeSequences(count: number): number {
    if (this.#sequence + count > 0xffff_ffff) this.#sequence = 1;
    const first = this.#sequence;
    this.#sequence += count;
    return first;
  }

  /** Sends finished messages in one sendmsg and returns every answer that the kernel queued. */
  exchange(messages: Buffer): NetlinkMessage[] {
    this.#send(messages);
    return this.#drain();
  }

  #drain(): NetlinkMessage[] {
    const answers: NetlinkMessage[] = [];
    for (;;) {
      const datagram = this.#receive();
      if (datagram === undefined) return answers;
      for (const message of parseMessages(datagram)) answers.push(message);
    }
  }

  #send(messages: Buffer): void {
    // A message must fit the send buffer, with some room for the kernel's own bookkeeping.
    const needed = messages.length + 4096;
    if (needed > this.#sendBuffer) {
      check(
        native().setsockopt(this.#fd, SOL_SOCKET, SO_SNDBUFFORCE, needed),
        'raise the send buffer of a netlink socket',
      );
      this.#sendBuffer = needed;
    }
    check(native().sendmsg(this.#fd, messages, []), 'send a netlink request');
  }

  /** One datagram, or undefined where none is queued. Throws NETLINK_OVERRUN where the kernel dropped one. */
  #receive(): Buffer | undefined {
    this.#read ??= Buffer.allocUnsafeSlow(READ_SIZE);
    const result = native().recvmsg(this.#fd, this.#read);
    if (typeof result === 'number') {
      if (result === -EAGAIN) return undefined;
      if (result === -ENOBUFS) {
        throw new NodeletError(
          'NETLINK_OVERRUN',
          'cannot read the answers of the kernel: more came than the buffer holds',
        );
      }
      throw new SyscallError(-result, 'recvmsg', 'cannot read from a netlink socket');
    }
    if (result.truncated) {
      throw new NodeletError(
        'NETLINK_OVERRUN',
        `cannot read an answer of the kernel: it is longer than ${READ_SIZE} bytes`,
      );
    }
    return Buffer.from(this.#read.subarray(0, result.size));
  }
}

/** From the answers to a batch whose first sequence number is `first` to its results, or a `NetlinkError`. */
function conclude(
  requests: readonly NetlinkRequest[],
  first: number,
  answers: readonly NetlinkMessage[],
): NetlinkMessage[] {
  const failures: NetlinkFailure[] = [];
  const messages: NetlinkMessage[] = [];
  let acknowledged = false;
  for (const answer of answers) {
    const index = answer.sequence - first;
    const request = requests[index];
    if (request === undefined) continue; // an answer to something earlier
    if (answer.type !== NLMSG.ERROR) {
      messages.push(answer);
      continue;
    }
    if (index === requests.length - 1) acknowledged = true;
    const ack = readAcknowledgement(answer);
    if (ack.errno !== 0) failures.push({ index, request: request.describe(), ...ack });
  }
  if (failures[0] !== undefined) throw new NetlinkError(failures[0], failures);
  if (!acknowledged) throw noAnswer(requests.at(-1)?.describe() ?? '');
  return messages;
}

function noAnswer(request: string): NodeletError {
  return new NodeletError('NETLINK_NO_ANSWER', `the kernel did not answer ${JSON.stringify(request)}`);
}
