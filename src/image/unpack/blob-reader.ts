/**
 * Reads a blob that may still be arriving: the file grows, the thread that downloads says how far. Each byte is
 * hashed as it is read, so that one pass checks and unpacks.
 */
import { createHash, type Hash } from 'node:crypto';
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { abortReason, type Deferred, deferred, NodeletError } from '../../base/index.ts';

const chunkSize = 128 * 1024;

/** How much of the file is there; moved on from outside. */
export class Tail {
  #available: number;
  #wake: Deferred<void> | undefined;

  constructor(available: number) {
    this.#available = available;
  }

  get available(): number {
    return this.#available;
  }

  grow(available: number): void {
    this.#available = Math.max(this.#available, available);
    this.wake();
  }

  /** Lets whoever waits look again. */
  wake(): void {
    this.#wake?.resolve();
    this.#wake = undefined;
  }

  async beyond(offset: number, signal: AbortSignal): Promise<void> {
    while (this.#available <= offset) {
      if (signal.aborted) throw abortReason(signal);
      this.#wake ??= deferred();
      await this.#wake.promise;
    }
  }
}

export class BlobReader implements Disposable {
  readonly #fd: number;
  readonly #size: number;
  readonly #tail: Tail;
  readonly #signal: AbortSignal;
  readonly #hash: Hash = createHash('sha256');
  #offset = 0;
  /** The digest, once everything has been read. */
  #found: string | undefined;
  #closed = false;

  constructor(path: string, size: number, tail: Tail, signal: AbortSignal) {
    this.#fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    this.#size = size;
    this.#tail = tail;
    this.#signal = signal;
    signal.addEventListener('abort', () => tail.wake(), { once: true });
  }

  /** Bytes read so far. */
  get offset(): number {
    return this.#offset;
  }

  get fd(): number {
    return this.#fd;
  }

  /** The next piece in memory of its own, or undefined at the end. Throws SIZE_MISMATCH where the file is too short. */
  async read(): Promise<Buffer | undefined> {
    if (this.#offset >= this.#size) return undefined;
    await this.#tail.beyond(this.#offset, this.#signal);
    if (this.#signal.aborted) throw abortReason(this.#signal);
    const wanted = Math.min(chunkSize, this.#size - this.#offset, this.#tail.available - this.#offset);
    const buffer = Buffer.allocUnsafeSlow(wanted);
    const size = readSync(this.#fd, buffer, 0, wanted, this.#offset);
    if (size === 0) {
      throw new NodeletError(
        'SIZE_MISMATCH',
        `cannot read the blob: it ends after ${this.#offset} of ${this.#size} bytes`,
      );
    }
    const chunk = buffer.subarray(0, size);
    this.#hash.update(chunk);
    this.#offset += size;
    return chunk;
  }

  async *chunks(): AsyncGenerator<Buffer> {
    for (let chunk = await this.read(); chunk !== undefined; chunk = await this.read()) yield chunk;
  }

  /** Reads what is left, for the hash, and checks it. Throws DIGEST_MISMATCH. */
  async verify(digest: string): Promise<void> {
    while ((await this.read()) !== undefined) {
      // only hashed
    }
    this.#found ??= `sha256:${this.#hash.digest('hex')}`;
    const found = this.#found;
    if (found !== digest) {
      throw new NodeletError(
        'DIGEST_MISMATCH',
        `cannot use blob ${digest}: its content has the digest ${found}`,
        {
          details: { expected: digest, found },
        },
      );
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeSync(this.#fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
