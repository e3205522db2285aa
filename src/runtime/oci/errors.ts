import { NodeletError } from '../../base/index.ts';

/** A command line that cannot be meant. */
export function usage(message: string, hint?: string): NodeletError {
  return new NodeletError('OCI_USAGE', message, hint === undefined ? {} : { hint });
}

/** A field of config.json with a value that cannot be meant. */
export function invalidConfig(field: string, problem: string): NodeletError {
  return new NodeletError('OCI_CONFIG_INVALID', `config.json: ${field}: ${problem}`, { details: { field } });
}

/** A field or flag that means something, which is not done here: refused rather than left out. */
export function unsupported(what: string, reason: string): NodeletError {
  return new NodeletError('OCI_UNSUPPORTED', `${what} is not supported: ${reason}`, {
    details: { field: what },
  });
}
