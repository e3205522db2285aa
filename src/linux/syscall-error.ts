import { getSystemErrorMap } from 'node:util';
import { NodeletError } from '../base/index.ts';

const names = new Map<number, readonly [string, string]>(
  [...getSystemErrorMap()].map(([code, entry]) => [-code, entry]),
);

/** `ENOENT` for 2; `errno 4711` where Node has no name. */
export function errnoName(errno: number): string {
  return names.get(errno)?.[0] ?? extraNames[errno]?.[0] ?? `errno ${errno}`;
}

/** `no such file or directory` for 2. */
export function errnoText(errno: number): string {
  return names.get(errno)?.[1] ?? extraNames[errno]?.[1] ?? `errno ${errno}`;
}

// libuv folds or lacks these.
const extraNames: Readonly<Record<number, readonly [string, string]>> = {
  8: ['ENOEXEC', 'exec format error'],
  10: ['ECHILD', 'no child processes'],
  15: ['ENOTBLK', 'block device required'],
  38: ['ENOSYS', 'function not implemented'],
  40: ['ELOOP', 'too many levels of symbolic links'],
  61: ['ENODATA', 'no data available'],
  87: ['EUSERS', 'too many users'],
  122: ['EDQUOT', 'disk quota exceeded'],
  126: ['ENOKEY', 'required key not available'],
};

/** A failed system call: `code` is the errno's name, as in Node's own errors. */
export class SyscallError extends NodeletError {
  override readonly name = 'SyscallError';
  readonly errno: number;
  readonly syscall: string;
  readonly path: string | undefined;

  constructor(errno: number, syscall: string, action: string, path?: string) {
    super(errnoName(errno), `${action}: ${errnoName(errno)} (${errnoText(errno)})`, {
      details: { errno, syscall },
    });
    this.errno = errno;
    this.syscall = syscall;
    this.path = path;
  }
}

/** Passes a result of the addon through, or raises it as a `SyscallError`. */
export function check<T>(result: T | number, syscall: string, path?: string): T;
export function check(result: number, syscall: string, path?: string): number;
export function check<T>(result: T | number, syscall: string, path?: string): T | number {
  if (typeof result === 'number' && result < 0) {
    const what = path === undefined ? syscall : `${syscall} ${JSON.stringify(path)}`;
    throw new SyscallError(-result, syscall, `cannot ${what}`, path);
  }
  return result;
}
