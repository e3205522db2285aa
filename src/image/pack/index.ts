/**
 * Makes an image from programs of this machine: `pack demo /usr/bin/node ./server.js:/app/server.js`. The same files
 * give the same image, bit for bit: items sorted, owner root, one time for all, layer not compressed (zlib's output
 * changes between its versions).
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmSync,
} from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join, posix, resolve } from 'node:path';
import { hasCode, messageOf, NodeletError } from '../../base/index.ts';
import { quote } from '../digest.ts';
import { MEDIA } from '../media-types.ts';
import { machinePlatform } from '../platform.ts';
import { dropBlobs, type PullContext, setNames } from '../pull.ts';
import { parseReference, storedName } from '../reference.ts';
import { Lease } from '../store/leases.ts';
import { padding, tarEnd, tarHeader } from '../transfer/tar-writer.ts';
import type { ImageConfig } from '../types.ts';
import { requireRoom } from '../unpack/disk.ts';
import {
  type Closure,
  collect,
  type Disk,
  type DiskStat,
  type PackItem,
  type PackSource,
} from './closure.ts';
import type { ReadAt } from './elf.ts';

export interface PackOptions {
  /** Of the image config; Entrypoint is the first path where it is a program and nothing else is given. */
  readonly config?: NonNullable<ImageConfig['config']>;
  /** /etc/passwd, /etc/group and /etc/nsswitch.conf with root and nobody, and glibc's lookup libraries; default true. */
  readonly users?: boolean;
  /** Seconds since 1970 for every time in the image; default $SOURCE_DATE_EPOCH, else 0. */
  readonly epoch?: number;
  readonly signal?: AbortSignal;
}

export interface Packed {
  readonly id: string;
  readonly manifestDigest: string;
  readonly name: string;
  readonly files: number;
  readonly warnings: readonly string[];
}

const defaultPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

const userFiles: Readonly<Record<string, string>> = {
  '/etc/passwd':
    'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n',
  '/etc/group': 'root:x:0:\nnogroup:x:65534:\n',
  '/etc/nsswitch.conf': 'passwd: files\ngroup: files\nhosts: files dns\n',
};

const architectures: Readonly<Record<number, string>> = {
  3: '386',
  40: 'arm',
  62: 'amd64',
  183: 'arm64',
  243: 'riscv64',
};

/** An item with its content, where that is not a file of this machine. */
type Entry = PackItem | { readonly kind: 'content'; readonly content: Buffer; readonly mode: number };

/** Splits `src[:dest]`; names without "/" are looked up in PATH. Throws PACK_NOT_FOUND and PACK_INVALID. */
export function parseSource(
  text: string,
  searchDirectories: readonly string[],
  cwd = process.cwd(),
): PackSource {
  const colon = text.indexOf(':');
  const from = colon < 0 ? text : text.slice(0, colon);
  const to = colon < 0 ? undefined : text.slice(colon + 1);
  if (from === '')
    throw new NodeletError('PACK_INVALID', `cannot pack ${quote(text)}: the path before ":" is missing`);
  if (
    to !== undefined &&
    (!to.startsWith('/') || to.split('/').includes('..') || posix.normalize(to) === '/')
  ) {
    throw new NodeletError(
      'PACK_INVALID',
      `cannot pack ${quote(text)}: ${quote(to)} is no absolute path in the image`,
    );
  }
  const target = to === undefined ? undefined : posix.normalize(to).replace(/\/$/, '');
  if (from.includes('/') || existsSync(resolve(cwd, from))) return { source: resolve(cwd, from), target };
  const found = searchDirectories.map((directory) => join(directory, from)).find((path) => existsSync(path));
  if (found === undefined) {
    throw new NodeletError(
      'PACK_NOT_FOUND',
      `cannot pack ${quote(from)}: it is neither a file here nor a program in PATH`,
    );
  }
  return { source: found, target };
}

export async function pack(
  context: PullContext,
  name: string,
  paths: readonly string[],
  options: PackOptions = {},
): Promise<Packed> {
  const reference = parseReference(name);
  if (reference.digest !== undefined)
    throw new NodeletError('PACK_INVALID', `cannot pack ${quote(name)}: a new image has no digest yet`);
  if (paths.length === 0)
    throw new NodeletError('PACK_INVALID', 'cannot pack an image of nothing: name at least one path');
  const search = (process.env.PATH ?? defaultPath)
    .split(':')
    .filter((directory) => directory.startsWith('/'));
  const sources = paths.map((path) => parseSource(path, search));
  const disk = new HostDisk();
  const closure = collect(withUserLibraries(sources, disk, options), disk, search);
  const entries = entriesOf(closure, options);
  const epoch = options.epoch ?? sourceDateEpoch();

  using lease = new Lease(context.paths);
  const layer = await writeLayer(context, entries, epoch, lease);
  const created = new Date(epoch * 1000).toISOString();
  const config = {
    created,
    architecture: architectures[closure.machine ?? -1] ?? machinePlatform().architecture,
    os: 'linux',
    config: runConfig(sources, closure, options),
    rootfs: { type: 'layers' as const, diff_ids: [layer.digest] },
    history: [{ created, created_by: 'nodelet image pack' }],
  };
  const configBytes = Buffer.from(JSON.stringify(config));
  const configDigest = await context.blobs.put(configBytes, lease);
  const manifest = {
    mediaType: MEDIA.ociManifest,
    config: { mediaType: MEDIA.ociConfig, digest: configDigest, size: configBytes.length },
    layers: [{ mediaType: MEDIA.ociLayer, ...layer }],
  };
  const manifestBytes = Buffer.from(JSON.stringify({ schemaVersion: 2, ...manifest }));
  const manifestDigest = await context.blobs.put(manifestBytes, lease);
  lease.hold({ chains: [layer.digest] });
  const signal = options.signal ?? new AbortController().signal;
  await context.layers.ensure({
    chainId: layer.digest,
    diffId: layer.digest,
    below: [],
    belowReady: Promise.resolve(),
    lease,
    signal,
    dropBlob: !context.keepBlobs,
    onProgress: () => {},
    withBlob: async (work) =>
      await context.blobs.use({
        digest: layer.digest,
        size: layer.size,
        signal,
        work,
        download: async () => {},
      }),
  });
  const top = { mediaType: MEDIA.ociManifest, digest: manifestDigest, size: manifestBytes.length };
  const stored = storedName(reference);
  const names = new Set([stored, `${reference.name}@${manifestDigest}`]);
  context.index.update((old) => setNames(old, names, top, manifestDigest, new Date()));
  if (!context.keepBlobs) dropBlobs(context, { kind: 'manifest', ...manifest }, config);
  return { id: configDigest, manifestDigest, name: stored, files: entries.size, warnings: closure.warnings };
}

/** $SOURCE_DATE_EPOCH (reproducible-builds.org), else 0. Throws PACK_INVALID where it is no number. */
function sourceDateEpoch(): number {
  const text = process.env.SOURCE_DATE_EPOCH;
  if (text === undefined || text === '') return 0;
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new NodeletError(
      'PACK_INVALID',
      `cannot use SOURCE_DATE_EPOCH ${quote(text)}: it is no time in seconds`,
    );
  }
  return value;
}

/** glibc before 2.34 loads these by name when a user or host is looked up; later ones ship them empty. */
function withUserLibraries(sources: readonly PackSource[], disk: Disk, options: PackOptions): PackSource[] {
  const all = [...sources];
  if (options.users === false) return all;
  const usesGlibc = collect(sources, disk, (process.env.PATH ?? '').split(':')).items;
  const libc = [...usesGlibc.keys()].find((path) => posix.basename(path) === 'libc.so.6');
  if (libc === undefined) return all;
  for (const library of ['libnss_files.so.2', 'libnss_dns.so.2']) {
    const source = posix.join(posix.dirname(libc), library);
    if (disk.lstat(source) !== undefined) all.push({ source, target: undefined });
  }
  return all;
}

function entriesOf(closure: Closure, options: PackOptions): Map<string, Entry> {
  const entries = new Map<string, Entry>(closure.items);
  if (!entries.has('/tmp')) entries.set('/tmp', { kind: 'directory', mode: 0o1777 });
  if (options.users !== false) {
    if (!entries.has('/etc')) entries.set('/etc', { kind: 'directory', mode: 0o755 });
    for (const [path, text] of Object.entries(userFiles)) {
      if (!entries.has(path)) entries.set(path, { kind: 'content', content: Buffer.from(text), mode: 0o644 });
    }
  }
  return new Map([...entries].sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b))));
}

function runConfig(
  sources: readonly PackSource[],
  closure: Closure,
  options: PackOptions,
): NonNullable<ImageConfig['config']> {
  const given = options.config ?? {};
  const env = [...(given.Env ?? [])];
  const has = (name: string): boolean => env.some((entry) => entry.startsWith(`${name}=`));
  if (!has('PATH')) env.unshift(`PATH=${defaultPath}`);
  if (closure.libraryDirectories.length > 0 && !has('LD_LIBRARY_PATH')) {
    env.push(`LD_LIBRARY_PATH=${closure.libraryDirectories.join(':')}`);
  }
  const first = sources[0];
  const program = first === undefined ? undefined : (first.target ?? first.source);
  const guessed =
    given.Entrypoint == null && given.Cmd == null && program !== undefined && closure.startsWithProgram;
  return { ...given, Env: env, ...(guessed ? { Entrypoint: [program] } : {}) };
}

async function writeLayer(
  context: PullContext,
  entries: ReadonlyMap<string, Entry>,
  mtime: number,
  lease: Lease,
): Promise<{ readonly digest: string; readonly size: number }> {
  const path = join(context.paths.ingest, lease.nextName());
  const hash = createHash('sha256');
  let size = 0;
  const file = await open(path, 'wx', 0o600);
  let waiting: Buffer[] = [];
  let held = 0;
  const flush = async (): Promise<void> => {
    const data = Buffer.concat(waiting);
    waiting = [];
    held = 0;
    hash.update(data);
    size += data.length;
    await writeAll(file, data);
  };
  const write = async (data: Buffer): Promise<void> => {
    waiting.push(data);
    held += data.length;
    // small files together: a write for each would be most of the time
    if (held >= 1024 * 1024) await flush();
  };
  try {
    try {
      const reserve = { bytes: context.limits.reserveBytes, inodes: context.limits.reserveInodes };
      await write(tarHeader({ name: './', type: 'directory', mode: 0o755, mtime }));
      for (const [target, entry] of entries) {
        requireRoom(path, reserve, 'pack the image');
        await writeEntry(target.slice(1), entry, mtime, write);
      }
      await write(tarEnd);
      await flush();
    } finally {
      await file.close();
    }
    const digest = `sha256:${hash.digest('hex')}`;
    lease.hold({ blobs: [digest] });
    await context.blobs.adopt(path, digest);
    return { digest, size };
  } catch (error) {
    rmSync(path, { force: true });
    throw error;
  }
}

async function writeAll(file: FileHandle, data: Buffer): Promise<void> {
  for (let at = 0; at < data.length; ) at += (await file.write(data, at)).bytesWritten;
}

async function writeEntry(
  name: string,
  entry: Entry,
  mtime: number,
  write: (data: Buffer) => Promise<void>,
): Promise<void> {
  switch (entry.kind) {
    case 'directory':
      await write(tarHeader({ name: `${name}/`, type: 'directory', mode: entry.mode, mtime }));
      return;
    case 'symlink':
      await write(tarHeader({ name, type: 'symlink', mode: 0o777, linkName: entry.target, mtime }));
      return;
    case 'content':
      await write(tarHeader({ name, type: 'file', mode: entry.mode, size: entry.content.length, mtime }));
      await write(entry.content);
      await write(padding(entry.content.length));
      return;
    case 'file':
      await writeFile(name, entry.source, entry.mode, mtime, write);
  }
}

async function writeFile(
  name: string,
  source: string,
  mode: number,
  mtime: number,
  write: (data: Buffer) => Promise<void>,
): Promise<void> {
  const file = await openSource(source);
  try {
    const { size } = await file.stat();
    await write(tarHeader({ name, type: 'file', mode, size, mtime }));
    let left = size;
    while (left > 0) {
      const buffer = Buffer.allocUnsafe(Math.min(left, 1024 * 1024));
      const { bytesRead } = await file.read(buffer, 0, buffer.length);
      if (bytesRead === 0) {
        throw new NodeletError(
          'PACK_INVALID',
          `cannot pack ${quote(source)}: it became shorter while it was read`,
        );
      }
      await write(buffer.subarray(0, bytesRead));
      left -= bytesRead;
    }
    await write(padding(size));
  } finally {
    await file.close();
  }
}

async function openSource(source: string): Promise<FileHandle> {
  try {
    return await open(source, 'r');
  } catch (error) {
    throw new NodeletError('PACK_NOT_FOUND', `cannot pack ${quote(source)}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** This machine's files. */
class HostDisk implements Disk {
  lstat(path: string): DiskStat | undefined {
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat === undefined) return undefined;
    const kind = stat.isFile()
      ? 'file'
      : stat.isDirectory()
        ? 'directory'
        : stat.isSymbolicLink()
          ? 'symlink'
          : 'other';
    return { kind, mode: stat.mode & 0o7777 };
  }

  readlink(path: string): string {
    return readlinkSync(path);
  }

  readText(path: string): string | undefined {
    try {
      return readFileSync(path, 'utf8');
    } catch (error) {
      if (hasCode(error, 'ENOENT', 'ENOTDIR', 'EISDIR', 'EACCES')) return undefined;
      throw error;
    }
  }

  list(path: string): readonly string[] {
    try {
      return readdirSync(path);
    } catch (error) {
      if (hasCode(error, 'ENOENT', 'ENOTDIR')) return [];
      throw error;
    }
  }

  readAt(path: string): ReadAt {
    return (offset, length) => {
      const fd = openSync(path, 'r');
      try {
        const buffer = Buffer.alloc(length);
        let size = 0;
        for (let more = 1; more > 0 && size < length; size += more) {
          more = readSync(fd, buffer, size, length - size, offset + size);
        }
        return buffer.subarray(0, size);
      } finally {
        closeSync(fd);
      }
    };
  }
}
