import { codeOf, describeError, NodeletError } from '../../base/index.ts';
import type { ErrorBody } from './types.ts';

const STATUS: Readonly<Record<string, number>> = {
  NOT_FOUND: 404,
  POD_NOT_FOUND: 404,
  CONTAINER_NOT_FOUND: 404,
  IMAGE_NOT_FOUND: 404,
  LOG_NOT_FOUND: 404,
  ROUTE_NOT_FOUND: 404,
  POD_EXISTS: 409,
  INVALID_STATE: 409,
  OBJECT_IMMUTABLE: 409,
  POD_NETWORK_OFF: 409,
  INVALID_ARGUMENT: 400,
  INVALID_MANIFEST: 400,
  INVALID_POD_UID: 400,
  UPGRADE_REFUSED: 400,
  BODY_TOO_LARGE: 413,
};

export function statusOf(error: unknown): number {
  return STATUS[codeOf(error) ?? ''] ?? 500;
}

export function errorBody(error: unknown): ErrorBody {
  const code = codeOf(error) ?? 'INTERNAL';
  const message = describeError(error);
  if (!(error instanceof NodeletError)) return { code, message };
  return { code, message, ...(error.hint === undefined ? {} : { hint: error.hint }), details: error.details };
}

/** The error as it was on the other side. */
export function fromBody(body: ErrorBody): NodeletError {
  return new NodeletError(body.code, body.message, {
    ...(body.hint === undefined ? {} : { hint: body.hint }),
    ...(body.details === undefined ? {} : { details: body.details }),
  });
}
