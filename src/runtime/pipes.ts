/** Pipes of a process as streams of Node's event loop. */
import { Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import { NodeletError } from '../base/index.ts';
import { Fd } from '../linux/fd.ts';
import { native } from '../linux/native.ts';
import { check } from '../linux/syscall-error.ts';

/** The end that reads, then the one that writes. */
export function pipe(): [Fd, Fd] {
  const ends = check(native().pipe(0), 'pipe');
  if (typeof ends === 'number') throw new NodeletError('INTERNAL', 'pipe returned a number');
  return [new Fd(ends[0]), new Fd(ends[1])];
}

/** Takes the descriptor. */
export function readable(fd: Fd): Readable {
  return new Socket({ fd: fd.release(), readable: true, writable: false });
}

/** Takes the descriptor. */
export function writable(fd: Fd): Writable {
  return new Socket({ fd: fd.release(), readable: false, writable: true });
}
