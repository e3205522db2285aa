/**
 * Known attacks by a registry, or by an image's documents, one test each, named by the advisory that first told of them.
 * What layers try is in test/integration/image/unpack.test.ts.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CriImageService } from '../../src/image/cri.ts';
import { sha256 } from '../../src/image/digest.ts';
import type { ImageService } from '../../src/image/index.ts';
import { EvilRegistry, flood, type Rule } from '../fixtures/registry-evil.ts';
import { dir, file, type MadeImage, makeImage, tarOf } from '../fixtures/registry-images.ts';
import { failure, scriptBundle, TestStore, workerBundle } from '../fixtures/registry-store.ts';

const image = makeImage({ layers: [tarOf(dir('.'), file('a'))] });
const secret = { username: 'ann', password: 'the-secret' };

let registry: EvilRegistry;
let other: EvilRegistry;
let store: TestStore;
let images: ImageService;

beforeAll(async () => {
  registry = await EvilRegistry.start();
  other = await EvilRegistry.start();
});
afterAll(async () => {
  await registry.stop();
  await other.stop();
});
beforeEach(() => {
  registry.reset();
  other.reset();
  store = new TestStore();
  images = store.open();
});
afterEach(async () => {
  await store.close();
});

/** Nothing was stored, and nothing beside the store was made. */
function expectNothing(): void {
  store.expectClean({ blobs: 0, layers: 0 });
  expect(images.list()).toEqual([]);
  expect(readdirSync(store.folder)).toEqual(['root']);
  expect(readdirSync(store.root).sort()).toEqual(['images', 'snapshots']);
}

const edited = (edit: (manifest: Record<string, unknown>) => object): MadeImage =>
  makeImage({ layers: [tarOf(dir('.'), file('a'))], edit });

describe('CVE-2014-9357, CVE-2014-9358: a digest that is a path', () => {
  const evil = [
    'sha256:../../../../../etc/cron.d/x',
    '../../x',
    `sha256:${'../'.repeat(21)}x`,
    `sha256:${'A'.repeat(64)}`,
    `sha256:${'0'.repeat(63)}`,
    `sha256:${'0'.repeat(63)}\n`,
    `sha256:${'0'.repeat(64)}/../x`,
    `md5:${'0'.repeat(32)}`,
    '',
  ];
  test.each(evil)('in a manifest, an index and a config: %j', async (digest) => {
    const documents: [string, MadeImage][] = [
      ['config', edited((manifest) => ({ ...manifest, config: { ...(manifest.config as object), digest } }))],
      [
        'layer',
        edited((manifest) => ({
          ...manifest,
          layers: (manifest.layers as object[]).map((layer) => ({ ...layer, digest })),
        })),
      ],
      [
        'index',
        edited(() => ({
          schemaVersion: 2,
          mediaType: 'application/vnd.oci.image.index.v1+json',
          manifests: [
            {
              mediaType: 'application/vnd.oci.image.manifest.v1+json',
              digest,
              size: 2,
              platform: { os: 'linux', architecture: 'amd64' },
            },
          ],
        })),
      ],
    ];
    for (const [what, made] of documents) {
      expect(await failure(images.pull(registry.add(what, made))), what).toMatch(/^MANIFEST_INVALID: /);
      expectNothing();
    }
    const config = makeImage({ layers: [tarOf(dir('.'), file('a'))], diffIds: [digest] });
    expect(await failure(images.pull(registry.add('diff', config)))).toMatch(/^MANIFEST_INVALID: /);
    expect(images.list()).toEqual([]);
    store.expectClean({ layers: 0 });
    expect(readdirSync(store.folder)).toEqual(['root']);
  });

  test('in a header, and as a reference', async () => {
    const name = registry.add('app', image);
    registry.rule = (request, response) => {
      if (request.method !== 'HEAD') response.setHeader('docker-content-digest', 'sha256:../../x');
      return false;
    };
    // a header that is no digest says nothing; the bytes have their own
    expect((await images.pull(name)).id).toBe(image.id);
    for (const digest of evil.filter((one) => one !== ''))
      expect(await failure(images.pull(`${registry.host}/app@${digest}`))).toMatch(
        /^INVALID_(REFERENCE|DIGEST): /,
      );
  });
});

describe('CVE-2020-1702: answers of any length cost no memory', () => {
  /** Kilobytes that a process needs for one pull, and what it said. */
  async function cost(
    name: string,
    options: { readonly code: number },
  ): Promise<{ kb: number; said: string }> {
    const child = spawn(
      process.execPath,
      [
        scriptBundle('test/fixtures/registry-driver.ts', 'driver.js'),
        store.root,
        workerBundle(),
        'pull',
        name,
      ],
      { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, NODELET_TEST_COST: '1' } },
    );
    let said = '';
    child.stderr.on('data', (data: Buffer) => {
      said += data.toString();
    });
    const [code] = (await once(child, 'close')) as [number];
    expect(code, said).toBe(options.code);
    return { kb: Number(/maxRSS (\d+)/.exec(said)?.[1]), said };
  }

  /** Sends up to 5 GB; the client has to hang up. */
  const endless = (response: ServerResponse, count: { sent: number }): true => {
    flood(response, Buffer.alloc(1 << 20, 0x20), 5_000_000_000, count);
    return true;
  };

  test.each<[string, (count: { sent: number }) => Rule]>([
    [
      'a manifest',
      (count) => (request, response) =>
        request.path.includes('/manifests/') &&
        (response.writeHead(200, { 'content-type': 'application/vnd.oci.image.manifest.v1+json' }),
        endless(response, count)),
    ],
    [
      'a config',
      (count) => (request, response) =>
        request.path.endsWith(image.id) && (response.writeHead(200), endless(response, count)),
    ],
    [
      'a layer',
      (count) => (request, response) =>
        request.path.endsWith(image.layers[0]?.digest ?? '') &&
        (response.writeHead(200), endless(response, count)),
    ],
    [
      'a token',
      (count) => (request, response, self) => {
        if (request.path.startsWith('/token')) {
          response.writeHead(200);
          return endless(response, count);
        }
        response.writeHead(401, { 'www-authenticate': `Bearer realm="http://${self.host}/token"` }).end();
        return true;
      },
    ],
    ['an error', (count) => (_, response) => (response.writeHead(403), endless(response, count))],
    [
      'a redirect',
      (count) => (request, response, self) => {
        response.writeHead(307, { location: `http://${self.host}${request.path}` });
        return endless(response, count);
      },
    ],
    [
      'headers',
      () => (_, response) => {
        response.socket?.write('HTTP/1.1 200 OK\r\n');
        if (response.socket) flood(response.socket, `x-${'a'.repeat(1000)}: ${'b'.repeat(60_000)}\r\n`);
        return true;
      },
    ],
  ])('%s', async (_, rule) => {
    const plain = await cost(registry.add('plain', image), { code: 0 });
    await images.prune({ all: true });
    const count = { sent: 0 };
    const name = registry.add('flood', image);
    registry.rule = rule(count);
    const flooded = await cost(name, { code: 1 });
    expect(flooded.said).toMatch(/RESPONSE_TOO_LARGE|SIZE_MISMATCH|UNAUTHORIZED|REDIRECT_REFUSED|REGISTRY_/);
    expect(flooded.kb - plain.kb).toBeLessThan(64 * 1024);
    expect(count.sent).toBeLessThan(200_000_000);
    store.expectClean({ layers: 0 });
  });
});

describe('CVE-2020-15157: credentials stay with who they are for', () => {
  /** Asks for a log-in by every means, and notes what it is told. */
  const greedy: Rule = (_, response) => {
    response.writeHead(401, {
      'www-authenticate': [`Basic realm="x"`, `Bearer realm="http://${other.host}/token",service="x"`],
    });
    response.end();
    return true;
  };
  const told = (): string[] =>
    other.log
      .map(({ path, headers }) => JSON.stringify([path, headers]))
      .filter((text) => {
        const basic = Buffer.from(`${secret.username}:${secret.password}`).toString('base64');
        return text.includes(secret.password) || text.includes(basic);
      });

  test('the "urls" of a layer are not visited', async () => {
    other.rule = greedy;
    const made = edited((manifest) => ({
      ...manifest,
      layers: (manifest.layers as object[]).map((layer) => ({
        ...layer,
        mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
        urls: [`http://${other.host}/layer`],
      })),
    }));
    expect((await images.pull(registry.add('foreign', made), { auth: secret })).id).toBe(made.id);
    expect(other.log).toEqual([]);
  });

  test.each([
    ['a blob', '/blobs/'],
    ['a manifest', '/manifests/'],
  ])('%s that is redirected to another host that asks for a log-in', async (_, part) => {
    other.rule = greedy;
    const name = registry.add('app', image);
    registry.rule = (request, response) => {
      if (request.headers.authorization === undefined) {
        response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
        return true;
      }
      if (!request.path.includes(part)) return false;
      response.writeHead(307, { location: `http://${other.host}${request.path}` }).end();
      return true;
    };
    expect(await failure(images.pull(name, { auth: secret }))).toMatch(/^UNAUTHORIZED: .*it redirects to/);
    expect(other.log.length).toBeGreaterThan(0);
    expect(told()).toEqual([]);
  });

  test.each([
    ['in plain http on another host', 'http://example.invalid/token'],
    ['with credentials of its own', 'https://u:p@example.invalid/token'],
    ['of another scheme', 'file:///etc/passwd'],
    ['that is no URL', '::::'],
    ['that is empty', ''],
  ])('a token realm %s', async (_, realm) => {
    registry.rule = (request, response) => {
      response.writeHead(401, { 'www-authenticate': `Bearer realm="${realm}"` }).end();
      return request.path !== '';
    };
    expect(await failure(images.pull(registry.add('app', image), { auth: secret }))).toMatch(
      /^UNAUTHORIZED: .*(token realm|named no way to log in)/,
    );
    expectNothing();
  });

  test('a token server that redirects the password elsewhere', async () => {
    registry.rule = (request, response, self) => {
      if (request.path.startsWith('/token')) {
        response.writeHead(307, { location: `http://${other.host}/token` }).end();
        return true;
      }
      response.writeHead(401, { 'www-authenticate': `Bearer realm="http://${self.host}/token"` }).end();
      return true;
    };
    expect(await failure(images.pull(registry.add('app', image), { auth: secret }))).toMatch(
      /^(REDIRECT_REFUSED|UNAUTHORIZED): /,
    );
    expect(told()).toEqual([]);
  });

  test.each([
    ['in a circle', () => `http://${registry.host}/v2/app/manifests/latest`],
    ['to a file', () => 'file:///etc/passwd'],
    ['with credentials', () => `http://u:p@${other.host}/`],
    ['to nowhere', () => 'http://'],
  ])('a redirect %s', async (_, location) => {
    registry.rule = (_request, response) => {
      response.writeHead(302, { location: location() }).end();
      return true;
    };
    expect(await failure(images.pull(registry.add('app', image)))).toMatch(/^REDIRECT_REFUSED: /);
    expectNothing();
  });
});

describe('CVE-2021-21285: documents that are malformed', () => {
  const documents: [string, string][] = [
    ['nothing', ''],
    ['null', 'null'],
    ['a number', '1'],
    ['no end', '{"schemaVersion":2,"layers":['],
    ['deep nesting', '['.repeat(200_000)],
    ['deep objects', `${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`],
    ['no UTF-8', '{"schemaVersion":2,"\xff\xfe":1}'],
    ['prototypes', '{"__proto__":{"layers":[]},"constructor":{},"schemaVersion":2}'],
    ['layers that are none', '{"schemaVersion":2,"config":{},"layers":{"length":1}}'],
    ['a negative size', image.manifest.toString().replace(/"size":\d+/g, '"size":-1')],
    ['a size beyond numbers', image.manifest.toString().replace(/"size":\d+/g, '"size":1e308')],
    ['a size that is a text', image.manifest.toString().replace(/"size":(\d+)/g, '"size":"$1"')],
    ['CVE-2021-41190: two meanings', image.manifest.toString().replace('{', '{"manifests":[],')],
    ['schema 1', '{"schemaVersion":1,"name":"x","fsLayers":[],"history":[]}'],
    [
      '100,000 layers',
      JSON.stringify({
        ...(JSON.parse(image.manifest.toString()) as object),
        layers: Array.from({ length: 20_000 }, () => image.layers[0]),
      }),
    ],
  ];
  test.each(documents)('a manifest: %s', async (_, text) => {
    const manifest = Buffer.from(text, 'latin1');
    const name = registry.add('app', { ...image, manifest });
    registry.addBlob(sha256(manifest), manifest);
    expect(await failure(images.pull(name))).toMatch(/^(MANIFEST_INVALID|IMAGE_UNSUPPORTED): /);
    expectNothing();
  });

  test.each([
    ['nothing', ''],
    ['a list', '[]'],
    ['no layers', '{"rootfs":{"type":"layers","diff_ids":[]}}'],
    [
      'an environment that is none',
      '{"config":{"Env":{"A":"b"}},"rootfs":{"type":"layers","diff_ids":["x"]}}',
    ],
    ['deep nesting', '['.repeat(200_000)],
  ])('a config: %s', async (_, text) => {
    const config = Buffer.from(text);
    const made = edited((manifest) => ({
      ...manifest,
      config: { ...(manifest.config as object), digest: sha256(config), size: config.length },
    }));
    registry.addBlob(sha256(config), config);
    expect(await failure(images.pull(registry.add('app', made)))).toMatch(/^MANIFEST_INVALID: /);
    expect(images.list()).toEqual([]);
    store.expectClean({ layers: 0 });
  });
});

test('CVE-2026-53488: labels of an image are no configuration', async () => {
  const made = makeImage({
    layers: [tarOf(dir('.'), file('a'))],
    config: {
      Labels: {
        'io.cri-containerd.pinned': 'pinned',
        'io.cri-containerd.image': 'managed',
        'io.kubernetes.container.name': 'x',
        'dev.nodelet.pinned': 'true',
      },
    },
  });
  const name = registry.add('labels', made);
  await images.pull(name);
  const { image: shown } = await new CriImageService(images).imageStatus({ image: { image: name } });
  expect(shown).toMatchObject({ id: made.id, pinned: false, spec: { annotations: {} } });
  const removed = await images.prune({ all: true });
  expect(removed.images).toHaveLength(1);
});

describe('a private image that is here is not given away by another registry’s word', () => {
  const mine = makeImage({ layers: [tarOf(dir('.'), file('private'))] });

  beforeEach(async () => {
    await images.pull(registry.add('team/private', mine));
  });

  test('by its digest under another name', async () => {
    // it says yes to every question, and has nothing
    other.rule = (request, response) => {
      if (request.method !== 'HEAD') return false;
      response.writeHead(200, { 'docker-content-digest': mine.manifestDigest }).end();
      return true;
    };
    expect(await failure(images.pull(`${other.host}/x@${mine.manifestDigest}`))).toMatch(
      /^IMAGE_NOT_FOUND: /,
    );
  });

  test('by a tag that suddenly stands for it', async () => {
    const name = other.add('x', image);
    await images.pull(name);
    other.rule = (request, response) => {
      if (request.method !== 'HEAD') return false;
      response.writeHead(200, { 'docker-content-digest': mine.manifestDigest }).end();
      return true;
    };
    expect(await failure(images.pull(name))).toMatch(/^IMAGE_NOT_FOUND: /);
    expect(images.resolve(name)?.id).toBe(image.id);
  });

  test('by its ID in a manifest with layers of somebody else', async () => {
    const made = edited((manifest) => ({
      ...manifest,
      config: { ...(manifest.config as object), digest: mine.id, size: mine.blobs.get(mine.id)?.length },
    }));
    expect(await failure(images.pull(other.add('x', made)))).toMatch(/^BLOB_NOT_FOUND: /);
    expect(images.list()).toHaveLength(1);
  });

  test('and its own registry is asked each time, with the credentials of who pulls', async () => {
    registry.rule = (request, response) => {
      if (request.headers.authorization !== undefined) return false;
      response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
      return true;
    };
    for (const name of [`team/private:latest`, `team/private@${mine.manifestDigest}`]) {
      const reference = `${registry.host}/${name}`;
      expect(await failure(images.pull(reference))).toMatch(/^UNAUTHORIZED: /);
      expect((await images.pull(reference, { auth: secret })).id).toBe(mine.id);
    }
  });
});

test('a credential file that is no file holds nobody up', async () => {
  const path = join(store.folder, 'config.json');
  writeFileSync(path, Buffer.alloc(5 << 20, 0x20));
  const large = store.open({ credentialFile: path });
  expect(await failure(large.pull(registry.add('app', image)))).toMatch(/^CREDENTIALS_INVALID: /);
  expect(
    await failure(store.open({ credentialFile: store.folder }).pull(registry.add('app', image))),
  ).toMatch(/^CREDENTIALS_INVALID: /);
  expect(existsSync(path)).toBe(true);
});
