import type { FieldErrors } from '../field-error.ts';

export function validateNoBacksteps(path: string, at: string, errors: FieldErrors): void {
  if (path.split('/').includes('..')) errors.invalid(at, path, "must not contain '..'");
}

/** A relative path that stays where it starts. */
export function validateDescendingPath(path: string, at: string, errors: FieldErrors): void {
  if (path.startsWith('/')) errors.invalid(at, path, 'must be a relative path');
  validateNoBacksteps(path, at, errors);
}

/** A descending path whose name is not one of the atomic writer's own (`..data`). */
export function validateLocalPath(path: string, at: string, errors: FieldErrors): void {
  validateDescendingPath(path, at, errors);
  if (path.startsWith('..') && path !== '..' && !path.startsWith('../')) {
    errors.invalid(at, path, "must not start with '..'");
  }
}
