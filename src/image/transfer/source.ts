/** Where an import reads from: an OCI layout directory, or the members of an archive that a worker took apart. */
import { closeSync, fstatSync, readFileSync } from 'node:fs';
import { posix } from 'node:path';
import { NodeletError } from '../../base/index.ts';
import { AT_FDCWD, O, RESOLVE, S_IF } from '../../linux/constants.ts';
import { native } from '../../linux/native.ts';
import { check } from '../../linux/syscall-error.ts';
import { quote } from '../digest.ts';
import type { ArchiveMember } from '../unpack/messages.ts';
import { openDirectory } from '../unpack/tree.ts';

/** One file of a source. */
export interface SourceFile {
  readonly size: number;
  /** Of its content, where that was computed already. */
  readonly digest: string | undefined;
  /** The content, where it is in memory. */
  readonly content: Buffer | undefined;
  /** A path to read it from. */
  readonly path: string | undefined;
  /** The path is a file of our own on the store's file system, that may be renamed into it. */
  readonly ours: boolean;
}

export interface ImportSource {
  /** For messages. */
  readonly name: string;
  /** A file by its name in the source, or undefined. */
  file(name: string): SourceFile | undefined;
  /** A document, whole. Throws RESPONSE_TOO_LARGE. */
  document(name: string, limit: number): Buffer | undefined;
  close(): void;
}

function tooLarge(source: string, name: string, size: number, limit: number): NodeletError {
  return new NodeletError(
    'RESPONSE_TOO_LARGE',
    `cannot import "${source}": ${quote(name)} has ${size} bytes, more than ${limit}`,
  );
}

/** A directory. Everything is opened beneath it, so that a link in a layout leads nowhere else. */
export class DirectorySource implements ImportSource {
  readonly name: string;
  readonly #root: number;

  constructor(path: string) {
    this.name = path;
    this.#root = check(openDirectory(AT_FDCWD, path), 'open directory', path);
  }

  #open(name: string): { fd: number; size: number } | undefined {
    const flags = O.RDONLY | O.NONBLOCK | O.NOCTTY;
    const fd = native().openat2(this.#root, name, flags, 0, RESOLVE.BENEATH | RESOLVE.NO_MAGICLINKS);
    if (fd < 0) return undefined;
    const stat = fstatSync(fd);
    if ((stat.mode & S_IF.MT) === S_IF.REG) return { fd, size: stat.size };
    closeSync(fd);
    return undefined;
  }

  file(name: string): SourceFile | undefined {
    const opened = this.#open(name);
    if (opened === undefined) return undefined;
    closeSync(opened.fd);
    const path = posix.join(this.name, name);
    return { size: opened.size, digest: undefined, content: undefined, path, ours: false };
  }

  document(name: string, limit: number): Buffer | undefined {
    const opened = this.#open(name);
    if (opened === undefined) return undefined;
    try {
      if (opened.size > limit) throw tooLarge(this.name, name, opened.size, limit);
      return readFileSync(opened.fd);
    } finally {
      closeSync(opened.fd);
    }
  }

  close(): void {
    native().close(this.#root);
  }
}

/** Members of an archive by normalised name; of two with the same name the last counts, as for tar. */
export class ArchiveSource implements ImportSource {
  readonly name: string;
  readonly #members = new Map<string, ArchiveMember>();

  constructor(path: string, members: readonly ArchiveMember[]) {
    this.name = path;
    for (const member of members) this.#members.set(normalise(member.name), member);
  }

  /** `docker save` of old writes a layer that occurs twice as a link to its first place. */
  #find(name: string): ArchiveMember | undefined {
    let at = normalise(name);
    for (let links = 0; links < 8; links += 1) {
      const member = this.#members.get(at);
      if (member?.link === undefined) return member;
      at = normalise(posix.join(posix.dirname(at), member.link));
    }
    return undefined;
  }

  file(name: string): SourceFile | undefined {
    const member = this.#find(name);
    if (member === undefined) return undefined;
    return {
      size: member.size,
      digest: member.digest,
      content: member.content === undefined ? undefined : Buffer.from(member.content),
      path: member.file,
      ours: true,
    };
  }

  document(name: string, limit: number): Buffer | undefined {
    const member = this.#find(name);
    if (member === undefined) return undefined;
    if (member.content === undefined || member.size > limit)
      throw tooLarge(this.name, name, member.size, limit);
    return Buffer.from(member.content);
  }

  close(): void {
    // the spool directory belongs to the import
  }
}

/** Names are only ever looked up in a table: "..", where it leads out, simply finds nothing. */
function normalise(name: string): string {
  return posix
    .normalize(name)
    .replace(/^(\.\/|\/)+/, '')
    .replace(/\/+$/, '');
}
