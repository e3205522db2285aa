/**
 * The files of the CNI plugin host-local (plugins/ipam/host-local/backend/disk): in `<dir>` one file an address, named
 * by it, with `<container id>\r\n<interface>`; `last_reserved_ip.<n>` for each range; `lock` for flock(2). Either
 * program can go on where the other stopped.
 */
import {
  closeSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { hasCode, NodeletError, readTextIfExists, sleep } from '../../base/index.ts';
import { O } from '../../linux/constants.ts';
import { ipBytes } from '../../linux/ip.ts';
import { native } from '../../linux/native.ts';
import { SyscallError } from '../../linux/syscall-error.ts';

const LOCK_EX = 2;
const LOCK_NB = 4;
const EAGAIN = 11;
/** How long another process may hold the lock. */
const LOCK_DEADLINE_MS = 10_000;

export interface AddressOwner {
  readonly id: string;
  /** Empty in a file of an old version of the plugin. */
  readonly ifname: string;
}

/**
 * What a file of an address says: its owner, `empty` where it was made but not written (a crash, a power cut), or
 * `unreadable`.
 */
export type AddressRecord = AddressOwner | 'empty' | 'unreadable';

/** Reads a file's content: pure. */
export function parseRecord(text: string): AddressRecord {
  const [id = '', ifname = '', ...more] = text
    .trim()
    .split(/\r?\n/)
    .map((line) => line.trim());
  if (id === '' && more.length === 0) return /^\s*$/.test(text) ? 'empty' : 'unreadable';
  const isName = (name: string): boolean => /^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(name);
  if (!isName(id) || (ifname !== '' && !/^[^\s/]{1,15}$/.test(ifname)) || more.length > 0)
    return 'unreadable';
  return { id, ifname };
}

interface Index {
  /** Of the folder when the index was right. */
  readonly changed: bigint;
  readonly records: Map<string, AddressRecord>;
}

/** All calls but `lock` are made while the lock is held. */
export class AddressStore {
  readonly #dir: string;
  #index: Index | undefined;

  constructor(dir: string) {
    this.#dir = dir;
  }

  /** Takes the lock that host-local takes too; dispose of it to let go. Throws NETWORK_LOCKED. */
  async lock(): Promise<Disposable> {
    mkdirSync(this.#dir, { recursive: true, mode: 0o755 });
    const path = join(this.#dir, 'lock');
    const fd = openSync(path, 'a', 0o600);
    try {
      for (let waited = 0; ; ) {
        const result = native().flock(fd, LOCK_EX | LOCK_NB);
        if (result === 0 && isSameFile(fd, path)) return { [Symbol.dispose]: () => closeSync(fd) };
        if (result === 0) {
          // Whoever had it removed the folder: this is a lock that nobody else will take.
          closeSync(fd);
          return await this.lock();
        }
        if (result !== -EAGAIN)
          throw new SyscallError(-result, 'flock', `cannot lock "${this.#dir}"`, this.#dir);
        if (waited >= LOCK_DEADLINE_MS) {
          throw new NodeletError(
            'NETWORK_LOCKED',
            `cannot lock "${this.#dir}": another process has held it for ${LOCK_DEADLINE_MS} ms`,
          );
        }
        const pause = Math.min(50, 1 + waited);
        await sleep(pause);
        waited += pause;
      }
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** Every address that has a file, with what it says. */
  records(): ReadonlyMap<string, AddressRecord> {
    return this.#current().records;
  }

  addressesOf(id: string, ifname: string): string[] {
    const found: string[] = [];
    for (const [address, record] of this.records()) {
      if (
        typeof record !== 'string' &&
        record.id === id &&
        (record.ifname === ifname || record.ifname === '')
      ) {
        found.push(address);
      }
    }
    return found;
  }

  /** False where somebody has it. A file without content is nobody's: its writer, who had the lock, is dead. */
  reserve(address: string, owner: AddressOwner): boolean {
    const index = this.#current();
    const path = join(this.#dir, address);
    if (index.records.get(address) === 'empty') rmSync(path, { force: true });
    let fd: number;
    try {
      fd = openSync(path, 'wx', 0o600);
    } catch (error) {
      if (hasCode(error, 'EEXIST')) {
        this.#index = undefined; // somebody else wrote it meanwhile
        return false;
      }
      throw error;
    }
    try {
      writeSync(fd, `${owner.id}\r\n${owner.ifname}`);
    } catch (error) {
      rmSync(path, { force: true });
      throw error;
    } finally {
      closeSync(fd);
    }
    index.records.set(address, owner);
    this.#settle(index);
    return true;
  }

  release(address: string): void {
    const index = this.#current();
    rmSync(join(this.#dir, address), { force: true });
    index.records.delete(address);
    this.#settle(index);
  }

  /** The address that was given last in a range; undefined where that is unknown. */
  last(rangeIndex: number): string | undefined {
    const text = readTextIfExists(join(this.#dir, `last_reserved_ip.${rangeIndex}`))?.trim();
    return text !== undefined && ipBytes(text) !== undefined ? text : undefined;
  }

  /** Written in place: cutting the file to nothing first costs ten times as much. A torn value counts as unknown. */
  setLast(rangeIndex: number, address: string): void {
    const fd = openSync(
      join(this.#dir, `last_reserved_ip.${rangeIndex}`),
      O.RDWR | O.CREAT | O.CLOEXEC,
      0o600,
    );
    try {
      writeSync(fd, address, 0);
      ftruncateSync(fd, Buffer.byteLength(address));
    } finally {
      closeSync(fd);
    }
  }

  /** Removes the folder where it holds no address any more. */
  removeIfEmpty(): void {
    if (this.records().size > 0) return;
    rmSync(this.#dir, { recursive: true, force: true });
    this.#index = undefined;
  }

  /**
   * The files are read once, and again when the folder has changed other than by us. A foreign change in the same
   * tick of the clock goes unseen; no address is given twice for it, since its file is made exclusively.
   */
  #current(): Index {
    const changed = this.#changed();
    if (this.#index?.changed === changed) return this.#index;
    const records = new Map<string, AddressRecord>();
    for (const name of readdirIfExists(this.#dir)) {
      if (ipBytes(name) === undefined) continue;
      const text = readTextIfExists(join(this.#dir, name));
      if (text !== undefined) records.set(name, parseRecord(text));
    }
    this.#index = { changed, records };
    return this.#index;
  }

  #settle(index: Index): void {
    this.#index = { changed: this.#changed(), records: index.records };
  }

  #changed(): bigint {
    return statSync(this.#dir, { bigint: true, throwIfNoEntry: false })?.mtimeNs ?? -1n;
  }
}

function isSameFile(fd: number, path: string): boolean {
  const found = statSync(path, { throwIfNoEntry: false });
  return found !== undefined && found.ino === fstatSync(fd).ino;
}

function readdirIfExists(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return [];
    throw error;
  }
}
