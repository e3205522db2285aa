/**
 * What has to be done inside another network namespace: sysctls, and sockets that belong there. A socket stays in
 * the namespace that it was made in, so no thread has to live there.
 */
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { Socket as TcpSocket } from 'node:net';
import { abortReason, NodeletError } from '../base/index.ts';
import { POLL } from './constants.ts';
import { FdWatcher } from './fd.ts';
import { ipBytes } from './ip.ts';
import { native } from './native.ts';
import { check, SyscallError } from './syscall-error.ts';

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_ERROR = 4;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;
const ENOENT = 2;
const EINPROGRESS = 115;

/** The path of a sysctl below `net`: `ipv4/ip_forward`. Throws INVALID_SYSCTL for a path that leads elsewhere. */
function sysctlPath(name: string): string {
  if (
    !/^[a-z0-9_]+(\/[A-Za-z0-9_.@:-]+)+$/.test(name) ||
    name.split('/').some((part) => part === '..' || part === '.')
  ) {
    throw new NodeletError(
      'INVALID_SYSCTL',
      `cannot use ${JSON.stringify(name)} as a sysctl of a network namespace`,
    );
  }
  return `/proc/sys/net/${name}`;
}

/**
 * A sysctl of a network namespace (undefined: this process's), `name` as `ipv6/conf/all/forwarding`. Undefined where
 * it does not exist: a module that is not loaded, a protocol that is switched off, a link that is gone.
 */
export function readNetSysctl(netnsFd: number | undefined, name: string): string | undefined {
  const path = sysctlPath(name);
  const text = native().readSysctl(netnsFd ?? -1, path);
  if (text === -ENOENT) return undefined;
  if (typeof text === 'number')
    throw new SyscallError(-text, 'open', `cannot read sysctl "net/${name}"`, path);
  return text.trim();
}

export function writeNetSysctl(netnsFd: number | undefined, name: string, value: string): void {
  const path = sysctlPath(name);
  const written = native().writeSysctl(netnsFd ?? -1, path, value);
  if (written < 0)
    throw new SyscallError(-written, 'write', `cannot set sysctl "net/${name}" to "${value}"`, path);
}

/** Sets a sysctl unless it has the value already; true where it had not. */
export function ensureNetSysctl(netnsFd: number | undefined, name: string, value: string): boolean {
  if (readNetSysctl(netnsFd, name) === value) return false;
  writeNetSysctl(netnsFd, name, value);
  return true;
}

/**
 * Whether a link has a carrier. The kernel acts on what it finds before it answers; left alone it does so soon for
 * most links, but once a second for a bridge, which until then answers no IPv6 neighbour (net/core/link_watch.c).
 */
export function settleLink(netnsFd: number | undefined, name: string): boolean {
  return check(native().linkCarrier(netnsFd ?? -1, name), 'ask for the carrier of', name) === 1;
}

function addressBytes(address: string): Uint8Array {
  const bytes = ipBytes(address);
  if (bytes === undefined)
    throw new NodeletError('INVALID_ADDRESS', `cannot read ${JSON.stringify(address)} as an IP address`);
  return bytes;
}

function openSocket(netnsFd: number | undefined, bytes: Uint8Array, type: number): number {
  const domain = bytes.length === 4 ? AF_INET : AF_INET6;
  return check(native().socket(netnsFd ?? -1, domain, type | SOCK_NONBLOCK, 0), 'open a socket');
}

function boundSocket(netnsFd: number | undefined, address: string, port: number, type: number): number {
  const bytes = addressBytes(address);
  const fd = openSocket(netnsFd, bytes, type);
  try {
    if (type === SOCK_STREAM) check(native().setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, 1), 'set SO_REUSEADDR');
    if (bytes.length === 16) check(native().setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1), 'set IPV6_V6ONLY');
    const bound = native().bindInet(fd, bytes, port);
    if (bound < 0) throw new SyscallError(-bound, 'bind', `cannot bind to ${address} port ${port}`);
    return fd;
  } catch (error) {
    native().close(fd);
    throw error;
  }
}

/** A bound TCP socket for `server.listen({ fd })`, which takes it over. */
export function bindTcpInNetns(netnsFd: number | undefined, address: string, port: number): number {
  return boundSocket(netnsFd, address, port, SOCK_STREAM);
}

/** A bound UDP socket; port 0 for any. */
export async function bindUdpInNetns(
  netnsFd: number | undefined,
  address: string,
  port: number,
): Promise<UdpSocket> {
  const fd = boundSocket(netnsFd, address, port, SOCK_DGRAM);
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  return await new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.bind({ fd }, () => {
      socket.off('error', reject);
      resolve(socket);
    });
  });
}

export interface DialOptions {
  readonly signal?: AbortSignal;
  /** Milliseconds until ETIMEDOUT; default 10,000. */
  readonly timeout?: number;
  /** See `net.Socket`: the writing side stays open after the other end has finished. */
  readonly allowHalfOpen?: boolean;
}

/** Connects to a TCP port as a process inside the namespace would. Throws `SyscallError` (ECONNREFUSED and so on). */
export async function dialTcpInNetns(
  netnsFd: number | undefined,
  address: string,
  port: number,
  options: DialOptions = {},
): Promise<TcpSocket> {
  options.signal?.throwIfAborted();
  const bytes = addressBytes(address);
  const fd = openSocket(netnsFd, bytes, SOCK_STREAM);
  try {
    const started = native().connectInet(fd, bytes, port);
    const errno = started === -EINPROGRESS ? await connected(fd, options) : -started;
    if (errno > 0) throw new SyscallError(errno, 'connect', `cannot connect to ${address} port ${port}`);
  } catch (error) {
    native().close(fd);
    throw error;
  }
  return new TcpSocket({ fd, readable: true, writable: true, allowHalfOpen: options.allowHalfOpen ?? false });
}

/** Waits for a connect that is under way; its errno, 0 for success. */
async function connected(fd: number, { signal, timeout = 10_000 }: DialOptions): Promise<number> {
  const ETIMEDOUT = 110;
  return await new Promise<number>((resolve, reject) => {
    const end = (finish: () => void): void => {
      clearTimeout(timer);
      watcher.close();
      signal?.removeEventListener('abort', onAbort);
      finish();
    };
    const onAbort = (): void =>
      end(() => reject(signal === undefined ? new Error('aborted') : abortReason(signal)));
    const timer = setTimeout(() => end(() => resolve(ETIMEDOUT)), timeout);
    const watcher = new FdWatcher(fd, POLL.WRITABLE, () => {
      end(() => resolve(Math.abs(native().getsockoptInt(fd, SOL_SOCKET, SO_ERROR))));
    });
    signal?.addEventListener('abort', onAbort);
  });
}
