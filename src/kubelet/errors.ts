import { describeError, NodeletError } from '../base/index.ts';

/**
 * A failure that a pod's status or events name. `reason` is upstream's word (`CreateContainerConfigError`), the message is
 * what upstream would say.
 */
export class PodError extends NodeletError {
  readonly reason: string;

  constructor(reason: string, message: string, options: { readonly cause?: unknown } = {}) {
    super(CODES[reason] ?? 'POD_FAILED', message, options);
    this.reason = reason;
  }
}

const CODES: Readonly<Record<string, string>> = {
  CreateContainerConfigError: 'CONTAINER_CONFIG',
  CreateContainerError: 'CONTAINER_CREATE',
  RunContainerError: 'CONTAINER_START',
  PostStartHookError: 'CONTAINER_HOOK',
  ErrImagePull: 'IMAGE_PULL',
  RegistryUnavailable: 'IMAGE_PULL',
  SignatureValidationFailed: 'IMAGE_PULL',
  ErrImageNeverPull: 'IMAGE_NOT_PRESENT',
  InvalidImageName: 'IMAGE_NAME',
  ImageInspectError: 'IMAGE_INSPECT',
  FailedCreatePodContainer: 'POD_CGROUP',
  FailedMount: 'VOLUME_MOUNT',
  CreatePodSandboxError: 'SANDBOX_CREATE',
};

/** The error itself where it names a reason, else one with `reason`, its message and its cause's. */
export function asPodError(error: unknown, reason: string): PodError {
  if (error instanceof PodError) return error;
  return new PodError(reason, describeError(error), { cause: error });
}
