import { errnoName, errnoText, SyscallError } from '../syscall-error.ts';
import { NLM_F, NLMSGERR_ATTR } from './constants.ts';
import { Attributes, type NetlinkMessage } from './reader.ts';

/** What the kernel said about one request of a batch. */
export interface NetlinkFailure {
  /** Its place in the batch, from 0. */
  readonly index: number;
  /** The request as ip(8) or nft(8) would say it. */
  readonly request: string;
  readonly errno: number;
  /** The kernel's own words (extended acknowledgement), where it has any. */
  readonly kernelMessage?: string;
  /** The offset of the attribute at fault in the request, or the type of the one that is missing. */
  readonly attributeOffset?: number;
  readonly missingAttribute?: number;
}

/** A request that the kernel refused: `code` is the errno's name, `failures` lists every one of the batch. */
export class NetlinkError extends SyscallError {
  readonly failures: readonly NetlinkFailure[];

  constructor(first: NetlinkFailure, failures: readonly NetlinkFailure[] = [first]) {
    const said =
      first.kernelMessage === undefined ? '' : ` (the kernel says ${JSON.stringify(first.kernelMessage)})`;
    super(first.errno, 'netlink', `cannot do ${JSON.stringify(first.request)}${said}`);
    this.failures = failures;
  }

  /** The request that failed first. */
  get request(): string {
    return this.failures[0]?.request ?? '';
  }

  get index(): number {
    return this.failures[0]?.index ?? 0;
  }
}

/** `request: EEXIST (file already exists)` of one failure. */
export function describeFailure(failure: NetlinkFailure): string {
  const said = failure.kernelMessage === undefined ? '' : ` ${JSON.stringify(failure.kernelMessage)}`;
  return `${failure.request}: ${errnoName(failure.errno)} (${errnoText(failure.errno)})${said}`;
}

export interface Acknowledgement {
  /** 0 for success. */
  readonly errno: number;
  readonly kernelMessage?: string;
  readonly attributeOffset?: number;
  readonly missingAttribute?: number;
}

/** Reads an NLMSG_ERROR message (or the NLMSG_DONE of a dump, which carries the same). */
export function readAcknowledgement(message: NetlinkMessage, isDone = false): Acknowledgement {
  const { payload, flags } = message;
  const errno = payload.length >= 4 ? 0 - payload.readInt32LE(0) : 0;
  if ((flags & NLM_F.ACK_TLVS) === 0) return { errno };
  // The request follows: its header alone where the answer is capped, else all of it. A DONE has none of it.
  let at = 4;
  if (!isDone && payload.length >= 20) {
    at += (flags & NLM_F.CAPPED) === 0 ? (payload.readUInt32LE(4) + 3) & ~3 : 16;
  }
  if (at > payload.length) return { errno };
  const attributes = new Attributes(payload.subarray(at));
  const kernelMessage = attributes.string(NLMSGERR_ATTR.MSG);
  const attributeOffset = attributes.u32(NLMSGERR_ATTR.OFFS);
  const missingAttribute = attributes.u32(NLMSGERR_ATTR.MISS_TYPE);
  return {
    errno,
    ...(kernelMessage === undefined ? {} : { kernelMessage }),
    ...(attributeOffset === undefined ? {} : { attributeOffset }),
    ...(missingAttribute === undefined ? {} : { missingAttribute }),
  };
}
