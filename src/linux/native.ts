/**
 * The only file that loads the addon. Each function is one system call: it returns the call's result, or a
 * negative errno. Rooms use the checked wrappers beside this file, which raise `SyscallError`.
 */

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { NodeletError } from '../base/index.ts';
import { packageRoot } from './package-root.ts';

/** What statx(2) says; times in seconds and nanoseconds since 1970. */
export interface Statx {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly nlink: number;
  readonly size: number;
  readonly blocks: number;
  readonly ino: number;
  readonly devMajor: number;
  readonly devMinor: number;
  readonly rdevMajor: number;
  readonly rdevMinor: number;
  readonly mtime: number;
  readonly mtimeNsec: number;
  readonly mountId: number;
}

export interface NativeWatcher {
  start(events: number): number;
  stop(): void;
  ref(): void;
  unref(): void;
  close(): void;
}

type Fd = number;
type Nullable<T> = T | null;
/** A file name: text, or bytes where it is not UTF-8. Never with NUL. */
export type PathLike = string | Uint8Array;

export interface Native {
  // fs.cc
  openat2(dirfd: Fd, path: PathLike, flags: number | bigint, mode: number, resolve: number): number;
  close(fd: Fd): number;
  dup(fd: Fd): number;
  mkdirat(dirfd: Fd, path: PathLike, mode: number): number;
  mknodat(dirfd: Fd, path: PathLike, mode: number, major: number, minor: number): number;
  symlinkat(target: PathLike, dirfd: Fd, path: PathLike): number;
  linkat(fromDir: Fd, from: PathLike, toDir: Fd, to: PathLike, flags: number): number;
  unlinkat(dirfd: Fd, path: PathLike, flags: number): number;
  renameat2(fromDir: Fd, from: PathLike, toDir: Fd, to: PathLike, flags: number): number;
  readlinkat(dirfd: Fd, path: PathLike): string | number;
  fchownat(dirfd: Fd, path: PathLike, uid: number, gid: number, flags: number): number;
  fchmodat(dirfd: Fd, path: PathLike, mode: number): number;
  utimensat(dirfd: Fd, path: PathLike, seconds: number, nanoseconds: number, flags: number): number;
  statx(dirfd: Fd, path: PathLike, flags: number): Statx | number;
  fstatfsType(fd: Fd): number;
  setxattr(path: PathLike, name: string, value: Uint8Array, nofollow: boolean): number;
  getxattr(path: PathLike, name: string, nofollow: boolean): Buffer | number;
  listxattr(path: PathLike, nofollow: boolean): string[] | number;
  flock(fd: Fd, operation: number): number;
  syncfs(fd: Fd): number;
  memfdSealed(name: string, data: Uint8Array): number;
  // mount.cc
  mount(
    source: Nullable<string>,
    target: string,
    type: Nullable<string>,
    flags: number,
    data: Nullable<string>,
  ): number;
  umount2(target: string, flags: number): number;
  openTree(dirfd: Fd, path: string, flags: number): number;
  moveMount(fromDir: Fd, from: string, toDir: Fd, to: string, flags: number): number;
  fsopen(type: string): number;
  fsconfig(fd: Fd, command: number, key: Nullable<string>, value: Nullable<string>, aux: number): number;
  fsContextMessage(fd: Fd): string;
  fsmount(fd: Fd, attributes: number): number;
  mountSetattr(
    dirfd: Fd,
    path: string,
    flags: number,
    set: number,
    clear: number,
    propagation: number,
    usernsFd: number,
  ): number;
  // process.cc
  spawn(
    execFd: Fd,
    argv: readonly string[],
    env: readonly string[],
    fds: readonly number[],
    cgroupFd: Fd,
    namespaceFds: readonly number[],
    newSession: boolean,
  ): { readonly pid: number; readonly pidfd: Fd } | { readonly errno: number; readonly step: string };
  pidfdOpen(pid: number): number;
  pidfdSendSignal(pidfd: Fd, signal: number): number;
  setWindowSize(fd: Fd, rows: number, columns: number): number;
  setNonblocking(fd: Fd): number;
  setHostname(utsFd: Fd, name: string): number;
  waitPidfd(pidfd: Fd): { readonly code: number; readonly status: number } | null | number;
  // socket.cc
  socket(netnsFd: Fd, domain: number, type: number, protocol: number): number;
  netlinkSocket(netnsFd: Fd, protocol: number, groups: number, bufferSize: number): number;
  connectSeqpacket(path: string): number;
  connectStream(path: string): number;
  socketpair(domain: number, type: number): [Fd, Fd] | number;
  pipe(flags: number): [Fd, Fd] | number;
  eventfd(initial: number): number;
  sendmsg(fd: Fd, data: Uint8Array, fds: readonly Fd[]): number;
  sendmsgAsync(fd: Fd, data: Uint8Array): Promise<number>;
  recvmsg(
    fd: Fd,
    buffer: Uint8Array,
  ): { readonly size: number; readonly fds: Fd[]; readonly truncated: boolean } | number;
  setsockopt(fd: Fd, level: number, option: number, value: number | Uint8Array): number;
  getsockoptInt(fd: Fd, level: number, option: number): number;
  bindInet(fd: Fd, address: Uint8Array, port: number): number;
  connectInet(fd: Fd, address: Uint8Array, port: number): number;
  writeSysctl(netnsFd: Fd, path: string, value: string): number;
  readSysctl(netnsFd: Fd, path: string): string | number;
  linkCarrier(netnsFd: Fd, name: string): number;
  // poll.cc
  readonly FdWatcher: new (
    fd: Fd,
    callback: (events: number) => void,
  ) => NativeWatcher;
  // bpf.cc
  bpfLoadDevice(
    instructions: Uint8Array,
    name: string,
  ): number | { readonly errno: number; readonly log: string };
  bpfAttachDevice(cgroupFd: Fd, programFd: Fd, flags: number): number;
  bpfQueryDevice(cgroupFd: Fd): number[] | number;
}

let loaded: Native | undefined;

/** The addon, loaded at the first call. Throws NATIVE_NOT_BUILT where it is missing. */
export function native(): Native {
  if (loaded === undefined) {
    const path = nativeFile('nodelet.node');
    loaded = createRequire(import.meta.url)(path) as Native;
  }
  return loaded;
}

/** The path of a built native part: `nodelet.node` or `nodelet-shim`. */
export function nativeFile(name: 'nodelet.node' | 'nodelet-shim'): string {
  const path = join(packageRoot(), 'build', 'Release', name);
  if (!existsSync(path)) {
    throw new NodeletError('NATIVE_NOT_BUILT', `cannot find nodelet's native part "${path}"`, {
      hint: 'build it with: npm run build:native (needs a C and C++ compiler, make and python3)',
    });
  }
  return path;
}
