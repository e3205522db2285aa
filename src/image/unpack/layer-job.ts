/**
 * Checks a blob, and unpacks it on the way: file → sha256 → decompress → sha256 → files, nothing kept that is not
 * needed any more. Then the steps that wait for the layer below: what its missing directories look like, and the
 * rename that makes it visible.
 *
 * What survives a power cut: `commitLayer` calls syncfs once, when all files of the layer are written, and renames
 * after it. So a layer that can be seen is on the disk with everything in it, for the price of one flush a layer
 * (an fsync for each file would be one for each of 70,000).
 */
import { createHash } from 'node:crypto';
import { closeSync, mkdirSync, openSync, renameSync } from 'node:fs';
import { dirname, join } from 'node:path';
import {
  codeOf,
  failpoint,
  hasCode,
  NodeletError,
  replaceFileSync,
  syncDirectory,
} from '../../base/index.ts';
import { AT_FDCWD } from '../../linux/constants.ts';
import { native } from '../../linux/native.ts';
import { check } from '../../linux/syscall-error.ts';
import { BlobReader, type Tail } from './blob-reader.ts';
import { decompress } from './decompress.ts';
import { diskFull, isNoRoom, requireRoom } from './disk.ts';
import type { Limits } from './limits.ts';
import { TarReader } from './tar/reader.ts';
import { openDirectory, removePath } from './tree.ts';
import { LayerView } from './view.ts';
import { type LayerSummary, LayerWriter, NeedsLower } from './writer.ts';

export interface LayerJob {
  readonly blob: string;
  readonly digest: string;
  readonly size: number;
  /** Absent: the blob is only checked. */
  readonly unpack?: {
    /** An existing private directory of the caller; `fs` is made in it. */
    readonly directory: string;
    readonly diffId: string;
    readonly limits: Limits;
    readonly lowest: boolean;
    /** Layer directories below, topmost first: given where a try without them returned `needsLower`. */
    readonly lower?: readonly string[];
  };
}

export interface LayerResult {
  /** Of the uncompressed tar. */
  readonly tarBytes: number;
  readonly summary: LayerSummary | undefined;
  readonly needsLower: boolean;
}

export type Progress = (read: number) => void;

/** How often room on the disk is looked at: entries, and bytes. */
const checkEntries = 2048;
const checkBytes = 64 * 1024 * 1024;
const progressBytes = 1024 * 1024;

export async function runLayerJob(
  job: LayerJob,
  tail: Tail,
  signal: AbortSignal,
  progress: Progress,
): Promise<LayerResult> {
  using reader = new BlobReader(job.blob, job.size, tail, signal);
  try {
    const result = await unpackBlob(job, reader, progress);
    await reader.verify(job.digest);
    failpoint('layer:after-unpack');
    return result;
  } catch (error) {
    if (error instanceof NeedsLower) {
      await reader.verify(job.digest);
      return { tarBytes: 0, summary: undefined, needsLower: true };
    }
    // Data that cannot be read is most often data that was damaged: the digest knows.
    if (hasCode(error, 'LAYER_INVALID')) await reader.verify(job.digest);
    if (isNoRoom(codeOf(error)))
      throw diskFull(job.unpack?.directory ?? job.blob, 'unpack a layer', 'it is full', error);
    throw error;
  }
}

async function unpackBlob(job: LayerJob, reader: BlobReader, progress: Progress): Promise<LayerResult> {
  const { unpack } = job;
  if (unpack === undefined) {
    await reader.verify(job.digest);
    return { tarBytes: 0, summary: undefined, needsLower: false };
  }
  const { limits } = unpack;
  const path = join(unpack.directory, 'fs');
  removePath(path); // of an earlier try
  mkdirSync(path, { mode: 0o700 });
  const root = check(openDirectory(AT_FDCWD, path), 'openat2', path);
  using lower = unpack.lower === undefined ? undefined : new LayerView(unpack.lower);
  const writer = new LayerWriter(root, {
    limits,
    lowest: unpack.lowest,
    path,
    check: watchRoom(path, limits),
    ...(lower === undefined ? {} : { lower }),
  });
  const tar = new TarReader(writer);
  const hash = createHash('sha256');
  let tarBytes = 0;
  let reported = 0;
  try {
    for await (const chunk of decompress(reader.chunks())) {
      tarBytes += chunk.length;
      checkSize(tarBytes, reader.offset, limits);
      hash.update(chunk);
      tar.write(chunk);
      if (reader.offset - reported >= progressBytes) {
        reported = reader.offset;
        progress(reported);
      }
    }
    tar.finish();
    const diffId = `sha256:${hash.digest('hex')}`;
    const summary = writer.finish();
    progress(job.size);
    // The blob first: a damaged blob is the likelier reason for a wrong diffID.
    await reader.verify(job.digest);
    if (diffId !== unpack.diffId) {
      throw new NodeletError(
        'DIFF_ID_MISMATCH',
        `cannot use layer ${job.digest}: its uncompressed content has the digest ${diffId}, the image config says ${unpack.diffId}`,
        { details: { expected: unpack.diffId, found: diffId } },
      );
    }
    return { tarBytes, summary, needsLower: false };
  } finally {
    writer.close();
    native().close(root);
  }
}

function tooLarge(reason: string): NodeletError {
  return new NodeletError('LAYER_TOO_LARGE', `cannot unpack the layer: ${reason}`);
}

function checkSize(expanded: number, compressed: number, limits: Limits): void {
  if (expanded > limits.expanded) throw tooLarge(`it expands to more than ${limits.expanded} bytes`);
  if (expanded > limits.ratioFrom && expanded > compressed * limits.ratio) {
    throw tooLarge(`${compressed} bytes expand to ${expanded}, more than ${limits.ratio} for one`);
  }
}

function watchRoom(path: string, limits: Limits): (entries: number, bytes: number) => void {
  let nextEntries = 0;
  let nextBytes = 0;
  return (entries, bytes) => {
    if (entries > limits.entries) throw tooLarge(`it has more than ${limits.entries} entries`);
    if (bytes > limits.expanded) throw tooLarge(`its files have more than ${limits.expanded} bytes`);
    if (entries < nextEntries && bytes < nextBytes) return;
    nextEntries = entries + checkEntries;
    nextBytes = bytes + checkBytes;
    requireRoom(path, { bytes: limits.reserveBytes, inodes: limits.reserveInodes }, 'unpack a layer');
  };
}

/** Makes a finished layer visible under `target`, with `record` in it, durably. */
export function commitLayer(directory: string, target: string, record: object): void {
  replaceFileSync(join(directory, 'layer.json'), `${JSON.stringify(record)}\n`, { durable: false });
  const fd = openSync(directory, 'r');
  try {
    check(native().syncfs(fd), 'syncfs', directory);
  } finally {
    closeSync(fd);
  }
  failpoint('layer:before-rename');
  renameSync(directory, target);
  syncDirectory(dirname(target));
  failpoint('layer:after-rename');
}
