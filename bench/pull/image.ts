/**
 * The image of `bench:pull`: an OCI layout of three layers, about 1.2 GB in 73,000 files, 365 MB compressed. It is made from
 * a seed, so that every run pulls the same bytes, and of words, so that it compresses as programs and their sources do.
 */
import { spawn } from 'node:child_process';
import { createHash, type Hash } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream, mkdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MEDIA } from '../../src/image/media-types.ts';
import { padding, tarEnd, tarHeader } from '../../src/image/transfer/tar-writer.ts';

export const IMAGE = { layers: 3, files: 73_000, bytes: 1_200_000_000 } as const;
/** How files and bytes are shared out among the layers, as a base system, its packages and an application have them. */
const SHARES = [0.5, 0.35, 0.15] as const;
const FILES_PER_DIRECTORY = 20;
const FILES_PER_PART = 400;
const MTIME = 1_700_000_000;

/** A small generator of 32-bit numbers (mulberry32): enough for file sizes and contents. */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  };
}

/** Text of words that come back the more often the earlier they stand in the list: deflate makes 30 % of it. */
function makePool(next: () => number, size: number): Buffer {
  const words = Array.from({ length: 2450 }, () => {
    const length = 4 + (next() % 13);
    return Buffer.from(Array.from({ length }, () => 0x61 + (next() % 26)));
  });
  const pool = Buffer.alloc(size, 0x20);
  for (let at = 0; at < size; ) {
    const u = next() / 2 ** 32;
    const word = words[Math.floor(words.length * u ** 4)] as Buffer;
    word.copy(pool, at);
    at += word.length + 1;
  }
  return pool;
}

interface Layer {
  readonly digest: string;
  readonly diffId: string;
  readonly size: number;
}

async function writeLayer(folder: string, number: number, pool: Buffer): Promise<Layer> {
  const next = random(number + 1);
  const files = Math.round(IMAGE.files * (SHARES[number] ?? 0));
  // Mean 1: most files are small, few are large, as on any system.
  const weights = Array.from({ length: files }, () => (-Math.log(1 - next() / 2 ** 32)) ** 3 / 6);
  const scale = (IMAGE.bytes * (SHARES[number] ?? 0)) / weights.reduce((sum, weight) => sum + weight, 0);
  const gzip = spawn('gzip', ['-6', '-n'], { stdio: ['pipe', 'pipe', 'inherit'] });
  const plain = createHash('sha256');
  const packed: Hash = createHash('sha256');
  const path = join(folder, `layer-${number}`);
  const out = createWriteStream(path);
  gzip.stdout.on('data', (chunk: Buffer) => packed.update(chunk));
  gzip.stdout.pipe(out);
  const write = async (chunk: Buffer): Promise<void> => {
    plain.update(chunk);
    if (!gzip.stdin.write(chunk)) await once(gzip.stdin, 'drain');
  };
  const makeDirectory = async (name: string): Promise<void> =>
    await write(tarHeader({ name: `${name}/`, type: 'directory', mode: 0o755, mtime: MTIME + number }));
  const top = `usr/lib/layer${number}`;
  for (const name of ['.', 'usr', 'usr/lib', top]) await makeDirectory(name);
  let directory = '';
  for (const [i, weight] of weights.entries()) {
    if (i % FILES_PER_PART === 0) await makeDirectory(`${top}/part${i / FILES_PER_PART}`);
    if (i % FILES_PER_DIRECTORY === 0) {
      directory = `${top}/part${Math.floor(i / FILES_PER_PART)}/dir${i / FILES_PER_DIRECTORY}`;
      await makeDirectory(directory);
    }
    const size = Math.min(Math.round(weight * scale), 32 * 1024 ** 2);
    const name = `${directory}/file-${i}.${['so', 'py', 'txt', 'h'][i % 4] ?? ''}`;
    await write(tarHeader({ name, type: 'file', mode: i % 7 === 0 ? 0o755 : 0o644, mtime: MTIME + i, size }));
    for (let left = size; left > 0; ) {
      const start = next() % (pool.length / 2);
      const piece = pool.subarray(start, start + Math.min(left, pool.length / 2));
      await write(piece);
      left -= piece.length;
    }
    await write(padding(size));
    if (i % FILES_PER_PART > 0) continue;
    const link = { mode: 0o777, mtime: MTIME + i, linkName: name } as const;
    await write(tarHeader({ ...link, name: `${directory}/hard`, type: 'hardlink' }));
    await write(tarHeader({ ...link, name: `${directory}/soft`, type: 'symlink' }));
  }
  await write(tarEnd);
  gzip.stdin.end();
  await once(out, 'close');
  const digest = packed.digest('hex');
  renameSync(path, join(folder, 'blobs', 'sha256', digest));
  const { size } = statSync(join(folder, 'blobs', 'sha256', digest));
  return { digest: `sha256:${digest}`, diffId: `sha256:${plain.digest('hex')}`, size };
}

/** Writes the layout below `folder`, tagged `1`. Returns bytes as they are pulled. */
export async function writeBenchImage(folder: string): Promise<number> {
  mkdirSync(join(folder, 'blobs', 'sha256'), { recursive: true });
  const pool = makePool(random(0), 16 * 1024 ** 2);
  const layers = await Promise.all(SHARES.map(async (_, i) => await writeLayer(folder, i, pool)));
  const put = (document: object): { digest: string; size: number } => {
    const text = JSON.stringify(document);
    const hex = createHash('sha256').update(text).digest('hex');
    writeFileSync(join(folder, 'blobs', 'sha256', hex), text);
    return { digest: `sha256:${hex}`, size: text.length };
  };
  const config = put({
    architecture: process.arch === 'x64' ? 'amd64' : process.arch,
    os: 'linux',
    config: {},
    rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
  });
  const manifest = put({
    schemaVersion: 2,
    mediaType: MEDIA.ociManifest,
    config: { mediaType: MEDIA.ociConfig, ...config },
    layers: layers.map(({ digest, size }) => ({ mediaType: MEDIA.ociLayerGzip, digest, size })),
  });
  writeFileSync(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  const entry = { mediaType: MEDIA.ociManifest, ...manifest };
  const annotations = { 'org.opencontainers.image.ref.name': '1' };
  writeFileSync(
    join(folder, 'index.json'),
    JSON.stringify({ schemaVersion: 2, manifests: [{ ...entry, annotations }] }),
  );
  return layers.reduce((sum, { size }) => sum + size, 0);
}
