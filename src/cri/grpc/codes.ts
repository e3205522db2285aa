/** Our error codes as gRPC's and back. Tables; a code that stands in none of them is UNKNOWN, as containerd has it. */
import { codeOf, describeError, NodeletError } from '../../base/index.ts';

/** gRPC's status codes. */
export const STATUS = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const;
export type StatusName = keyof typeof STATUS;

/** Metadata of an error's answer: our own code, for a client that is a nodelet as well. */
export const CODE_KEY = 'nodelet-code';

const TO_STATUS: Readonly<Record<string, StatusName>> = {
  NOT_FOUND: 'NOT_FOUND',
  IMAGE_NOT_FOUND: 'NOT_FOUND',
  BLOB_NOT_FOUND: 'NOT_FOUND',
  PLATFORM_NOT_FOUND: 'NOT_FOUND',
  ALREADY_EXISTS: 'ALREADY_EXISTS',
  INVALID_ARGUMENT: 'INVALID_ARGUMENT',
  INVALID_REFERENCE: 'INVALID_ARGUMENT',
  INVALID_DIGEST: 'INVALID_ARGUMENT',
  INVALID_PLATFORM: 'INVALID_ARGUMENT',
  AMBIGUOUS_IMAGE: 'INVALID_ARGUMENT',
  INVALID_WORKING_DIRECTORY: 'INVALID_ARGUMENT',
  INVALID_ENVIRONMENT: 'INVALID_ARGUMENT',
  INVALID_USER: 'INVALID_ARGUMENT',
  INVALID_STOP_SIGNAL: 'INVALID_ARGUMENT',
  INVALID_RLIMIT: 'INVALID_ARGUMENT',
  INVALID_MOUNT: 'INVALID_ARGUMENT',
  INVALID_MOUNT_OPTION: 'INVALID_ARGUMENT',
  INVALID_NAMESPACE: 'INVALID_ARGUMENT',
  INVALID_DEVICE: 'INVALID_ARGUMENT',
  INVALID_TEXT: 'INVALID_ARGUMENT',
  NO_COMMAND: 'INVALID_ARGUMENT',
  CAPABILITY_UNKNOWN: 'INVALID_ARGUMENT',
  CREDENTIALS_INVALID: 'INVALID_ARGUMENT',
  SECCOMP_PROFILE_INVALID: 'INVALID_ARGUMENT',
  SECCOMP_NOTIFY_UNSUPPORTED: 'INVALID_ARGUMENT',
  SECCOMP_TOO_LONG: 'INVALID_ARGUMENT',
  CGROUP_VALUE_INVALID: 'INVALID_ARGUMENT',
  CGROUP_PATH_INVALID: 'INVALID_ARGUMENT',
  NETWORK_INVALID_CONFIG: 'INVALID_ARGUMENT',
  INVALID_STATE: 'FAILED_PRECONDITION',
  DEVICE_NOT_FOUND: 'FAILED_PRECONDITION',
  MOUNT_NOT_SHARED: 'FAILED_PRECONDITION',
  SECCOMP_PROFILE_NOT_FOUND: 'FAILED_PRECONDITION',
  IMAGE_IN_USE: 'FAILED_PRECONDITION',
  HOST_PORT_IN_USE: 'FAILED_PRECONDITION',
  CGROUP_CONTROLLER_MISSING: 'FAILED_PRECONDITION',
  DEADLINE_EXCEEDED: 'DEADLINE_EXCEEDED',
  CONTAINER_STUCK: 'DEADLINE_EXCEEDED',
  ABORTED: 'CANCELLED',
  UNIMPLEMENTED: 'UNIMPLEMENTED',
  RESOURCE_EXHAUSTED: 'RESOURCE_EXHAUSTED',
  ADDRESS_RANGE_EXHAUSTED: 'RESOURCE_EXHAUSTED',
  DISK_FULL: 'RESOURCE_EXHAUSTED',
  LAYER_TOO_LARGE: 'RESOURCE_EXHAUSTED',
  PLAN_TOO_LARGE: 'RESOURCE_EXHAUSTED',
  REGISTRY_RATE_LIMITED: 'RESOURCE_EXHAUSTED',
  ENOSPC: 'RESOURCE_EXHAUSTED',
  EMFILE: 'RESOURCE_EXHAUSTED',
  UNAUTHORIZED: 'UNAUTHENTICATED',
  DIGEST_MISMATCH: 'DATA_LOSS',
  SIZE_MISMATCH: 'DATA_LOSS',
  STORE_CORRUPT: 'DATA_LOSS',
  INTERNAL: 'INTERNAL',
};

/** Of a runtime that does not name our codes. UNAVAILABLE: nobody answers at its socket. */
const FROM_STATUS: Readonly<Record<number, string>> = {
  [STATUS.CANCELLED]: 'ABORTED',
  [STATUS.INVALID_ARGUMENT]: 'INVALID_ARGUMENT',
  [STATUS.DEADLINE_EXCEEDED]: 'DEADLINE_EXCEEDED',
  [STATUS.NOT_FOUND]: 'NOT_FOUND',
  [STATUS.ALREADY_EXISTS]: 'ALREADY_EXISTS',
  [STATUS.RESOURCE_EXHAUSTED]: 'RESOURCE_EXHAUSTED',
  [STATUS.FAILED_PRECONDITION]: 'INVALID_STATE',
  [STATUS.UNIMPLEMENTED]: 'UNIMPLEMENTED',
  [STATUS.UNAVAILABLE]: 'RUNTIME_UNREACHABLE',
};

export interface GrpcError {
  readonly code: number;
  readonly details: string;
  /** Our own code. */
  readonly nodeletCode: string;
}

/** The longest message that is sent: it travels in a header, whose size clients limit to 16 KiB and less. */
const MESSAGE_LIMIT = 4096;

/** What a client is told: the message with its causes, and the mend in brackets. */
export function toGrpcError(error: unknown): GrpcError {
  const own = codeOf(error) ?? 'INTERNAL';
  const hint = error instanceof NodeletError && error.hint !== undefined ? ` (${error.hint})` : '';
  const text = `${describeError(error)}${hint}`;
  return {
    code: STATUS[TO_STATUS[own] ?? 'UNKNOWN'],
    details: text.length > MESSAGE_LIMIT ? `${text.slice(0, MESSAGE_LIMIT)}…` : text,
    nodeletCode: own,
  };
}

/** What the kubelet sees of another runtime's error. `code` is gRPC's, `own` ours where the runtime says it. */
export function fromGrpcError(
  call: string,
  code: number,
  details: string,
  own: string | undefined,
): NodeletError {
  const known = own ?? FROM_STATUS[code] ?? 'RUNTIME_ERROR';
  const name = Object.entries(STATUS).find(([, value]) => value === code)?.[0] ?? String(code);
  return new NodeletError(known, details === '' ? `${call}: ${name}` : details, {
    details: { call, status: name },
  });
}
