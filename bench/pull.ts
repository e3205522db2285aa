/**
 * An image of 1.2 GB in 73,000 files and three layers (365 MB compressed) from a registry on loopback into a cold store,
 * against containerd (`ctr images pull`), `skopeo copy` with `umoci unpack`, and as the limit `curl | gunzip | tar x` with the
 * layers side by side. `npm run bench:pull -- [ROUNDS]`. All in turn, so that a machine that slows down slows all of them, each
 * in a new ext4 of its own: where 73,000 files were removed a minute ago, ext4 looks at each of their inodes before it makes a
 * new one, and whoever comes second pays for it (measured: 5 s of system time became 24). Each is timed until it returns and
 * again until its files are on the disk (`sync -f`): Nodelet does that before an image gets its name, the others never.
 *
 * Then whether its tree is the one that `umoci unpack` makes, entry by entry, and what a pull costs when it was cut off (killed at
 * 90 %), not the first (layers present), or not alone (ten at once): without the race, for ROUNDS of 0.
 * `NODELET_BENCH_IMAGE=DIR` keeps the generated image there for the next run. Exit 1 where a goal is missed.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLog } from '../src/base/index.ts';
import { openImages, unmountImage } from '../src/image/index.ts';
import { compareTrees } from '../src/image/unpack/compare.ts';
import { removePath } from '../src/image/unpack/tree.ts';
import { packageRoot } from '../src/linux/package-root.ts';
import { type Cost, cost } from '../test/fixtures/cost.ts';
import { startRegistry } from '../test/fixtures/registry.ts';
import { median } from './figures.ts';
import { startContainerd } from './pull/containerd.ts';
import { countingProxy } from './pull/counting-proxy.ts';
import { writeBenchImage } from './pull/image.ts';

const ROUNDS = Number(process.argv[2] ?? 3);
const MIB = 1024 ** 2;
const GOALS = { limit: 1.1, memory: 200, resumed: 0.11, present: 20, requests: 2 } as const;

if (process.env.NODELET_BENCH_INSIDE === undefined) {
  // The file systems are mounted where nobody else sees them.
  const inside = ['-m', '--propagation', 'private', process.execPath, ...process.argv.slice(1)];
  const env = { ...process.env, NODELET_BENCH_INSIDE: '1' };
  process.exit(spawnSync('unshare', inside, { stdio: 'inherit', env }).status ?? 1);
}

const base = mkdtempSync(join(tmpdir(), 'nodelet-pull-'));
const layout = process.env.NODELET_BENCH_IMAGE ?? join(base, 'layout');
const cli = join(packageRoot(), 'dist', 'cli.js');
const workerFile = join(packageRoot(), 'dist', 'image-worker.js');
let missed = false;

function goal(text: string, holds: boolean): void {
  console.log(`${text}${holds ? '' : '   MISSED'}`);
  if (!holds) missed = true;
}

interface Round extends Cost {
  /** Seconds until everything is on the disk. */
  readonly durable: number;
}

/** A way to get the image below `folder`, which is new. */
type Way = (folder: string) => Promise<Cost>;

/** A new, empty file system; gone with everything in it when disposed. */
function freshDisk(): { readonly folder: string } & Disposable {
  const folder = join(base, 'store');
  const file = join(base, 'disk');
  mkdirSync(folder);
  execFileSync('truncate', ['-s', '6G', file]);
  execFileSync('mkfs.ext4', ['-q', '-E', 'lazy_itable_init=0,lazy_journal_init=0', '-N', '500000', file]);
  execFileSync('mount', ['-o', 'loop', file, folder]);
  rmSync(file);
  return {
    folder,
    [Symbol.dispose]() {
      execFileSync('umount', [folder]);
      rmdirSync(folder);
    },
  };
}

async function measure(way: Way): Promise<Round> {
  using disk = freshDisk();
  const found = await way(disk.folder);
  const flush = await cost('sync', '-f', disk.folder);
  return { ...found, durable: found.wall + flush.wall };
}

function layerDigests(): string[] {
  const read = (digest: string): unknown =>
    JSON.parse(readFileSync(join(layout, 'blobs', 'sha256', digest.slice(7)), 'utf8'));
  const index = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8')) as {
    manifests: { digest: string }[];
  };
  const manifest = read(index.manifests[0]?.digest ?? '') as { layers: { digest: string }[] };
  return manifest.layers.map(({ digest }) => digest);
}

function ways(host: string): Readonly<Record<string, Way>> {
  const image = `${host}/bench/pull:1`;
  const script = layerDigests()
    .map(
      (digest, i) =>
        `mkdir "$1/${i}" && curl -sf http://${host}/v2/bench/pull/blobs/${digest} | gunzip | tar x -C "$1/${i}" &`,
    )
    .join('\n');
  return {
    nodelet: async (folder) =>
      await cost(process.execPath, cli, 'image', 'pull', '--root', folder, '-q', image),
    containerd: async (folder) => {
      await using daemon = await startContainerd(folder);
      return await daemon.pull(image);
    },
    'skopeo + umoci': async (folder) =>
      await cost(
        'sh',
        '-ec',
        'skopeo copy -q --src-tls-verify=false "docker://$2" "oci:$1/oci:1"; umoci unpack --image "$1/oci:1" "$1/bundle"',
        'sh',
        folder,
        image,
      ),
    limit: async (folder) => await cost('sh', '-c', `${script}\nwait`, 'sh', folder),
  };
}

async function race(host: string): Promise<void> {
  const all = ways(host);
  const rounds = new Map<string, Round[]>(Object.keys(all).map((name) => [name, []]));
  for (let i = 0; i < ROUNDS; i += 1)
    for (const [name, way] of Object.entries(all)) rounds.get(name)?.push(await measure(way));
  const mid = (name: string, key: keyof Round): number =>
    median((rounds.get(name) ?? []).map((round) => round[key]));
  console.log(
    `\n${'median of'.padEnd(16)}${String(ROUNDS).padStart(2)}   wall s   on disk    CPU s  peak MiB`,
  );
  for (const name of rounds.keys()) {
    const cells = [mid(name, 'wall'), mid(name, 'durable'), mid(name, 'cpu'), mid(name, 'peak') / MIB];
    console.log(`${name.padEnd(18)}${cells.map((cell) => cell.toFixed(2).padStart(9)).join(' ')}`);
  }
  const ratio = (other: string, key: 'wall' | 'durable' | 'cpu'): number =>
    mid('nodelet', key) / mid(other, key);
  for (const other of ['containerd', 'skopeo + umoci'])
    goal(
      `nodelet / ${other}: wall ${ratio(other, 'wall').toFixed(2)}, CPU ${ratio(other, 'cpu').toFixed(2)}  (goal < 1)`,
      ratio(other, 'wall') < 1,
    );
  goal(
    `nodelet / limit: on disk ${ratio('limit', 'durable').toFixed(2)} (goal ${GOALS.limit}), wall ${ratio('limit', 'wall').toFixed(2)}, CPU ${ratio('limit', 'cpu').toFixed(2)}`,
    ratio('limit', 'durable') <= GOALS.limit,
  );
  const peak = Math.max(...(rounds.get('nodelet') ?? []).map((round) => round.peak)) / MIB;
  goal(`peak memory ${peak.toFixed(0)} MiB (goal < ${GOALS.memory})`, peak < GOALS.memory);
}

/** Bytes of blobs, whole and partial, that are in the store. */
function stored(images: string): number {
  return ['ingest', join('blobs', 'sha256')]
    .map((name) => join(images, name))
    .filter((folder) => existsSync(folder))
    .flatMap((folder) =>
      readdirSync(folder).map((name) => statSync(join(folder, name), { throwIfNoEntry: false })),
    )
    .reduce((sum, stat) => sum + (stat === undefined ? 0 : stat.blocks * 512), 0);
}

/** The image as overlayfs shows it, against the bundle of `umoci unpack`: the directory at the top is not in the layers. */
async function sameAsUmoci(host: string): Promise<void> {
  using disk = freshDisk();
  const path = (name: string): string => join(disk.folder, name);
  const images = openImages({ root: path('root'), log: silentLog, workerFile });
  try {
    const { id } = await images.pull(`${host}/bench/pull:1`);
    execFileSync('umoci', ['unpack', '--image', `${layout}:1`, path('bundle')], { stdio: 'pipe' });
    mkdirSync(path('shown'));
    images.mount(id, path('shown'));
    try {
      const differences = compareTrees(path('shown'), path('bundle/rootfs'), { plain: true });
      const entries = execFileSync('find', [path('shown'), '-printf', 'x']).length;
      goal(
        differences.length === 0
          ? `the tree is umoci's: ${entries} entries`
          : `the tree is not umoci's: ${differences.join('; ')}`,
        differences.length === 0,
      );
    } finally {
      unmountImage(path('shown'), '');
    }
  } finally {
    await images.close();
  }
}

async function others(upstream: string, total: number): Promise<void> {
  await using proxy = await countingProxy(upstream);
  const image = `${proxy.host}/bench/pull:1`;
  using disk = freshDisk();
  const root = join(disk.folder, 'root');
  const options = { root, log: silentLog, workerFile };

  // Killed at 90 %, and pulled again by a new process.
  const child = spawn(process.execPath, [cli, 'image', 'pull', '--root', root, '-q', image], {
    stdio: 'ignore',
  });
  // What the store has, not what the registry has sent: some of that is on its way.
  const watch = setInterval(() => {
    if (stored(join(root, 'images')) >= total * 0.9) child.kill('SIGKILL');
  }, 10);
  await once(child, 'exit');
  clearInterval(watch);
  proxy.reset();
  const images = openImages(options);
  await images.pull(image);
  const again = proxy.bytes / total;
  goal(
    `killed at 90 %, then fetched again: ${(again * 100).toFixed(1)} % (goal <= ${GOALS.resumed * 100} %)`,
    again <= GOALS.resumed,
  );

  // Present.
  const times: number[] = [];
  for (let i = 0; i < 20; i += 1) {
    proxy.reset();
    const start = performance.now();
    await images.pull(image);
    times.push(performance.now() - start);
  }
  goal(
    `layers present: ${proxy.requests} requests, ${median(times).toFixed(1)} ms (goals ${GOALS.requests} and ${GOALS.present})`,
    proxy.requests <= GOALS.requests && median(times) < GOALS.present,
  );
  await images.close();
  removePath(root);

  // Ten at once.
  proxy.reset();
  const ten = openImages(options);
  const start = performance.now();
  await Promise.all(Array.from({ length: 10 }, async () => await ten.pull(image)));
  const wall = (performance.now() - start) / 1000;
  await ten.close();
  removePath(root);
  goal(
    `ten at once: ${(proxy.bytes / total).toFixed(3)} times the image's bytes, ${wall.toFixed(2)} s`,
    proxy.bytes < total * 1.01,
  );
}

const registry = await startRegistry();
try {
  if (!existsSync(join(layout, 'index.json'))) {
    console.log('making the image');
    mkdirSync(layout, { recursive: true });
    await writeBenchImage(layout);
  }
  execFileSync('skopeo', [
    'copy',
    '-q',
    '--dest-tls-verify=false',
    `oci:${layout}:1`,
    `docker://${registry.host}/bench/pull:1`,
  ]);
  const total = readdirSync(join(layout, 'blobs', 'sha256'))
    .map((name) => readFileSync(join(layout, 'blobs', 'sha256', name)).length)
    .reduce((sum, size) => sum + size, 0);
  console.log(`${(total / 1e6).toFixed(0)} MB to pull`);
  if (ROUNDS > 0) await race(registry.host);
  await sameAsUmoci(registry.host);
  await others(registry.host, total);
} finally {
  await registry.stop();
  rmSync(base, { recursive: true, force: true });
}
if (missed) process.exitCode = 1;
