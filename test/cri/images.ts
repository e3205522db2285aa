/**
 * The images that critest names, made of this machine's programs, under the names that it gives them. Its own are
 * busybox, nginx, httpd and pause from registries of the internet; what a spec looks at in them is here as well.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { silentLog } from '../../src/base/index.ts';
import { openImages } from '../../src/image/index.ts';
import { packageRoot } from '../../src/linux/package-root.ts';
import { dir, file, hardlink, makeImage, symlink, tarOf } from '../fixtures/registry-images.ts';
import { publish } from './registry.ts';

const E2E = 'registry.k8s.io/e2e-test-images';
const STAGING = 'gcr.io/k8s-staging-cri-tools';
export const BUSYBOX = `${E2E}/busybox:1.29-2`;
export const WEB_SERVER = `${E2E}/nginx:1.14-2`;
export const PAUSE = 'registry.k8s.io/pause:3.9';
export const WITH_DIGEST = `${STAGING}/test-image-digest`;
/** What Go calls this machine: part of one image's name. */
const GOARCH = process.arch === 'x64' ? 'amd64' : process.arch;
const PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

interface Recipe {
  readonly layers: readonly Buffer[];
  readonly config: Readonly<Record<string, unknown>>;
}

/** Puts all of them into the registry at `host`; resolves to the digest of the image that is pulled by digest. */
export async function publishImages(host: string): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'nodelet-images-'));
  try {
    let digest = '';
    const packed = new Map<Buffer, Buffer>();
    const compress = (tar: Buffer): Buffer => {
      const known = packed.get(tar) ?? gzipSync(tar);
      packed.set(tar, known);
      return known;
    };
    for (const [name, { layers, config }] of Object.entries(await recipes(folder))) {
      const platforms = [GOARCH, 's390x'].map((architecture) =>
        makeImage({ layers, config, architecture, compress }),
      );
      const published = await publish(host, pathOf(name), platforms);
      if (name.startsWith(`${WITH_DIGEST}:`)) digest = published;
    }
    return digest;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Without its registry, whose place ours takes. */
const pathOf = (name: string): string => name.slice(name.indexOf('/') + 1);

async function recipes(folder: string): Promise<Record<string, Recipe>> {
  const base = [await toolsLayer(folder), busyboxLayer()];
  const shell = { Env: [PATH], Cmd: ['sh'] };
  const marked = (mark: string): Recipe => ({ layers: [...base, tarOf(file(mark))], config: shell });
  const as = (User: string): Recipe => ({ layers: base, config: { ...shell, User } });
  const program = (name: string, path: string, args: readonly string[] = [], mode = 0o755): Recipe => ({
    layers: [...base, tarOf(file(path.slice(1), compile(name, folder), { mode }))],
    config: { Env: [PATH], Entrypoint: [path, ...args] },
  });
  const nginx = (port: string) => program('webserver', '/usr/sbin/nginx', [port]);
  return {
    [BUSYBOX]: { layers: base, config: shell },
    [WEB_SERVER]: nginx('80'),
    [`${E2E}/httpd:2.4.39-4`]: program('webserver', '/usr/sbin/httpd', ['80']),
    [`${E2E}/nonewprivs:1.3`]: program('nonewprivs', '/nnp', [], 0o4755),
    [PAUSE]: {
      layers: [tarOf(file('pause', compile('pause', folder), { mode: 0o755 }))],
      config: { Env: [PATH], Entrypoint: ['/pause'], User: '65535:65535' },
    },
    [`${STAGING}/hostnet-nginx-${GOARCH}:latest`]: nginx('12003'),
    [`${STAGING}/test-image-user-uid:latest`]: as('1002'),
    [`${STAGING}/test-image-user-username:latest`]: as('www-data'),
    [`${STAGING}/test-image-user-uid-group:latest`]: as('1003:1004'),
    [`${STAGING}/test-image-user-username-group:latest`]: as('www-data:1004'),
    [`${STAGING}/test-image-predefined-group:latest`]: {
      layers: [
        ...base,
        tarOf(
          file('etc/passwd', `${PASSWD}default-user:x:1000:1000::/home/default-user:/bin/sh\n`),
          file('etc/group', `${GROUP}default-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n`),
        ),
      ],
      config: { ...shell, User: '1000' },
    },
    [`${STAGING}/test-image-latest:latest`]: marked('latest'),
    [`${WITH_DIGEST}:latest`]: marked('digest'),
    ...Object.fromEntries(
      ['test', 'all'].map((tag) => [`${STAGING}/test-image-tag:${tag}`, marked(`tag-${tag}`)]),
    ),
    // Three images with one name each; one image with three names.
    ...Object.fromEntries(
      ['1', '2', '3'].flatMap((number) => [
        [`${STAGING}/test-image-${number}:latest`, marked(`image-${number}`)],
        [`${STAGING}/test-image-tags:${number}`, marked('tags')],
      ]),
    ),
  };
}

const PASSWD = [
  'root:x:0:0:root:/root:/bin/sh',
  'www-data:x:33:33:www-data:/var/www:/bin/false',
  'nobody:x:65534:65534:nobody:/nonexistent:/bin/false',
  '',
].join('\n');
const GROUP = 'root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\n';

/** What Debian's busybox lacks of the tools that specs run in a container, with their libraries. */
async function toolsLayer(folder: string): Promise<Buffer> {
  const root = join(folder, 'store');
  const images = openImages({ root, log: silentLog, credentialFile: '/nonexistent' });
  try {
    const { manifestDigest } = await images.pack('localhost/tools', ['pgrep', 'ipcs'], { users: false });
    const blob = (digest: string): Buffer => readFileSync(join(root, 'images/blobs/sha256', digest.slice(7)));
    const manifest = JSON.parse(blob(manifestDigest).toString()) as { layers: { digest: string }[] };
    return blob(manifest.layers[0]?.digest ?? '');
  } finally {
    await images.close();
  }
}

function busyboxLayer(): Buffer {
  const applets = execFileSync('busybox', ['--list'], { encoding: 'utf8' }).trim().split('\n');
  const busybox = readFileSync('/bin/busybox');
  const at = 'usr/bin';
  return tarOf(
    ...['etc', 'root', 'mnt', 'proc', 'sys', 'dev', 'var', 'var/run', 'usr', at, 'usr/sbin'].map((name) =>
      dir(name),
    ),
    symlink('bin', at),
    dir('tmp', { mode: 0o1777 }),
    file('etc/passwd', PASSWD),
    file('etc/group', GROUP),
    file(`${at}/busybox`, busybox, { mode: 0o755 }),
    file(`${at}/sh`, shellOf(busybox), { mode: 0o755 }),
    // Links to the file, not to its name: a spec masks one of them.
    ...applets
      .filter((name) => name !== 'sh' && name !== 'busybox')
      .map((name) => ({ ...hardlink(`${at}/${name}`, `${at}/busybox`), mode: 0o755 })),
  );
}

/**
 * Debian's ash runs an applet of its own without a look at the file by its name. A spec masks /bin/ls and wants the shell
 * to be refused: in this copy the applet has another name, in the sorted table, so that /bin/ls is what the shell finds.
 */
function shellOf(busybox: Buffer): Buffer {
  const entry = Buffer.from('\0ls\0lsmod\0');
  const at = busybox.indexOf(entry);
  if (at < 0 || busybox.includes(entry, at + 1)) throw new Error('busybox: no table of applets as it was');
  const shell = Buffer.from(busybox);
  shell.write('lr', at + 1);
  return shell;
}

/** A static program of ours, from its source. */
function compile(name: string, folder: string): Buffer {
  const to = join(folder, name);
  const source = join(packageRoot(), 'test/cri/programs', `${name}.c`);
  execFileSync('musl-gcc', ['-static', '-O2', '-s', '-Wall', '-Wextra', '-Werror', '-o', to, source]);
  return readFileSync(to);
}
