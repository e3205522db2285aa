import { randomBytes } from 'node:crypto';

/** 64 hex digits, as containerd's. */
export function newId(): string {
  return randomBytes(32).toString('hex');
}
