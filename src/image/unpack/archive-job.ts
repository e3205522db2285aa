/**
 * Takes an image archive apart (an OCI layout or `docker save` in a tar, also compressed): members are hashed while
 * they are written, none is trusted for its name, and what should be small is read only as far as it may be
 * (CVE-2023-25153: a manifest.json of ten gigabytes).
 */
import { createHash, type Hash } from 'node:crypto';
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { abortReason, codeOf, NodeletError } from '../../base/index.ts';
import { decompress } from './decompress.ts';
import { diskFull, isNoRoom, requireRoom } from './disk.ts';
import type { ArchiveMember, JobOf } from './messages.ts';
import { type TarEntry, TarReader, type TarSink } from './tar/reader.ts';

/** Members up to this size stay in memory: documents are not larger. */
export const smallMember = 8 * 1024 * 1024;
/** In all: a docker archive has a few of them for each layer. */
const maxSmall = 64 * 1024 * 1024;
const maxMembers = 20_000;

export async function readArchive(job: JobOf<'archive'>, signal: AbortSignal): Promise<ArchiveMember[]> {
  const sink = new MemberSink(job.directory, job.reserveBytes);
  const tar = new TarReader(sink);
  const fd = openSync(job.path, 'r');
  try {
    for await (const chunk of decompress(readChunks(fd, signal))) tar.write(chunk);
    tar.finish();
    return sink.members;
  } catch (error) {
    if (isNoRoom(codeOf(error))) throw diskFull(job.directory, 'import an archive', 'it is full', error);
    if (codeOf(error) === 'LAYER_INVALID' && error instanceof Error) {
      throw new NodeletError('ARCHIVE_INVALID', `cannot import "${job.path}": ${error.message}`, {
        cause: error,
      });
    }
    throw error;
  } finally {
    sink.close();
    closeSync(fd);
  }
}

async function* readChunks(fd: number, signal: AbortSignal): AsyncGenerator<Buffer> {
  for (;;) {
    if (signal.aborted) throw abortReason(signal);
    const buffer = Buffer.allocUnsafeSlow(256 * 1024);
    // A pipe gives what it has: the first piece has to be long enough to tell what it is.
    let size = 0;
    do {
      const more = readSync(fd, buffer, size, buffer.length - size, null);
      if (more === 0) break;
      size += more;
    } while (size < 512);
    if (size === 0) return;
    yield buffer.subarray(0, size);
    // lets a message to abort arrive
    await new Promise(setImmediate);
  }
}

class MemberSink implements TarSink {
  readonly members: ArchiveMember[] = [];
  readonly #directory: string;
  readonly #reserve: number;
  #small = 0;
  #entry: TarEntry | undefined;
  #hash: Hash | undefined;
  #content: Buffer[] = [];
  #file: { readonly fd: number; readonly path: string } | undefined;
  #position = 0;

  constructor(directory: string, reserve: number) {
    this.#directory = directory;
    this.#reserve = reserve;
  }

  entry(entry: TarEntry): void {
    if (this.members.length >= maxMembers) throw invalid(`it has more than ${maxMembers} members`);
    this.#entry = entry;
    this.#hash = createHash('sha256');
    this.#content = [];
    this.#position = 0;
    if (entry.type !== 'file') return;
    if (entry.size <= smallMember && this.#small + entry.size <= maxSmall) {
      this.#small += entry.size;
    } else {
      requireRoom(this.#directory, { bytes: entry.size + this.#reserve, inodes: 16 }, 'import an archive');
      const path = join(this.#directory, `member-${this.members.length}`);
      this.#file = { fd: openSync(path, 'wx', 0o600), path };
    }
  }

  data(chunk: Buffer, offset: number): void {
    if (offset !== this.#position) throw invalid('a member is a sparse file');
    this.#position += chunk.length;
    this.#hash?.update(chunk);
    if (this.#file === undefined) {
      this.#content.push(Buffer.from(chunk));
      return;
    }
    for (let at = 0; at < chunk.length; ) at += writeSync(this.#file.fd, chunk, at);
  }

  end(): void {
    const entry = this.#entry;
    if (entry === undefined) return;
    if (entry.type === 'file' && this.#position !== entry.size) throw invalid('a member is a sparse file');
    const base = {
      name: Buffer.from(entry.name, 'latin1').toString('utf8'),
      size: entry.size,
      digest: `sha256:${this.#hash?.digest('hex')}`,
    };
    if (entry.type === 'symlink' || entry.type === 'hardlink') {
      this.members.push({ ...base, link: Buffer.from(entry.linkName, 'latin1').toString('utf8') });
    } else if (this.#file !== undefined) {
      closeSync(this.#file.fd);
      this.members.push({ ...base, file: this.#file.path });
      this.#file = undefined;
    } else if (entry.type === 'file') {
      this.members.push({ ...base, content: Buffer.concat(this.#content) });
    }
    this.#entry = undefined;
  }

  close(): void {
    if (this.#file !== undefined) closeSync(this.#file.fd);
    this.#file = undefined;
  }
}

function invalid(reason: string): NodeletError {
  return new NodeletError('ARCHIVE_INVALID', `cannot import the archive: ${reason}`);
}
