import { randomBytes } from 'node:crypto';
import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { createServer as createTcpServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { sha256 } from '../../../src/image/digest.ts';
import type { ImageService } from '../../../src/image/index.ts';
import { freePort, makeCertificate, startRegistry } from '../../fixtures/registry.ts';
import { EvilRegistry, flood, type Request } from '../../fixtures/registry-evil.ts';
import { dir, file, makeImage, tarOf, writeLayout } from '../../fixtures/registry-images.ts';
import { failure, run, TestStore } from '../../fixtures/registry-store.ts';

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

/** One layer of 3 MiB that does not compress, and a small one. */
const noise = randomBytes(3 * 1024 * 1024);
const image = makeImage({ layers: [tarOf(dir('.'), file('noise', noise)), tarOf(dir('.'), file('small'))] });
/** Only the large one: what is left behind does not depend on how far another layer came. */
const single = makeImage({ layers: [tarOf(dir('.'), file('noise', noise))] });
const big = image.layers[0]?.digest ?? '';
const bigSize = image.layers[0]?.size ?? 0;

const isBlob = ({ path }: Request, digest: string): boolean => path.endsWith(`/blobs/${digest}`);

describe('transfers that break', () => {
  test('a cut at 90 % goes on at its byte', async () => {
    const name = registry.add('cut', image);
    let cuts = 0;
    registry.rule = (request, response, self) => {
      if (!isBlob(request, big) || cuts > 0) return false;
      cuts += 1;
      const part = self.data(big).subarray(0, Math.floor(bigSize * 0.9));
      self.sent += part.length;
      response.writeHead(200, { 'content-length': bigSize });
      response.write(part, () => setTimeout(() => response.destroy(), 50));
      return true;
    };
    expect((await images.pull(name)).id).toBe(image.id);
    const others =
      [...image.blobs.values()].reduce((sum, blob) => sum + blob.length, 0) - bigSize - image.manifest.length;
    expect(registry.sent - others).toBeLessThanOrEqual(bigSize * 1.11);
    expect(registry.log.filter((request) => request.headers.range !== undefined)).toHaveLength(1);
    store.expectClean({ blobs: 4, layers: 2 });
  });

  test('a registry without ranges is read from the start, and what is there is skipped', async () => {
    const name = registry.add('norange', image);
    let cuts = 0;
    registry.rule = (request, response, self) => {
      if (!isBlob(request, big)) return false;
      response.writeHead(200, { 'content-length': bigSize });
      cuts += 1;
      if (cuts === 1)
        response.write(self.data(big).subarray(0, 1_500_000), () => setTimeout(() => response.destroy(), 50));
      else response.end(self.data(big));
      return true;
    };
    expect((await images.pull(name)).id).toBe(image.id);
  });

  test('a range that is answered with another one is not believed', async () => {
    const name = registry.add('wrongrange', image);
    let cuts = 0;
    registry.rule = (request, response, self) => {
      if (!isBlob(request, big)) return false;
      cuts += 1;
      if (cuts === 1) {
        response.writeHead(200, { 'content-length': bigSize });
        response.write(self.data(big).subarray(0, 1_500_000), () => setTimeout(() => response.destroy(), 50));
      } else {
        response.writeHead(206, { 'content-range': `bytes 5-${bigSize - 1}/${bigSize}` });
        response.end(self.data(big).subarray(5));
      }
      return true;
    };
    expect(await failure(images.pull(name))).toMatch(
      /^REGISTRY_ERROR: .* answered another range than the one from byte \d+$/,
    );
    expect(images.list()).toEqual([]);
  });

  test('a registry that always hangs up is given up, and the bytes are kept for the next pull', async () => {
    const name = registry.add('stubborn', image);
    const hangUp = (bytes: number) => (request: Request, response: ServerResponse, self: EvilRegistry) => {
      if (!isBlob(request, big)) return false;
      const from = Number(/=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
      response.writeHead(from > 0 ? 206 : 200, {
        'content-range': `bytes ${from}-${bigSize - 1}/${bigSize}`,
        'content-length': bigSize - from,
      });
      response.write(self.data(big).subarray(from, from + bytes), () =>
        setTimeout(() => response.destroy(), 20),
      );
      return true;
    };
    registry.rule = hangUp(100_000);
    const text = await failure(images.pull(name));
    expect(text).toMatch(
      new RegExp(
        `^DOWNLOAD_INTERRUPTED: cannot fetch blob ${big} of "${name}": registry "${registry.host}" broke off after \\d+ of ${bigSize} bytes$`,
      ),
    );
    store.expectClean({ partials: 1 });
    const kept = statSync(store.path('images', 'ingest', big.slice(7))).size;
    expect(kept).toBeGreaterThan(400_000);
    expect(registry.log.filter((request) => isBlob(request, big)).length).toBeLessThanOrEqual(5);

    registry.rule = () => false;
    registry.sent = 0;
    const again = store.open(); // another process, or this one after a restart
    expect((await again.pull(name)).id).toBe(image.id);
    expect(registry.sent).toBeLessThan(bigSize - kept + 1000);
    store.expectClean({ blobs: 4, layers: 2 });
  });

  test('a partial download that was damaged on disk is fetched again from the start', async () => {
    const name = registry.add('damaged', image);
    writeFileSync(store.path('images', 'ingest', big.slice(7)), randomBytes(200_000));
    expect((await images.pull(name)).id).toBe(image.id);
    store.expectClean({ blobs: 4, layers: 2 });
  });

  test('a stored blob that was damaged on disk is fetched again', async () => {
    const name = registry.add('healed', image);
    await images.pull(name);
    await images.remove(name);
    await images.pull(name);
    const path = store.path('images', 'blobs', 'sha256', big.slice(7));
    truncateSync(path, 1000);
    run(
      'rm',
      '-r',
      ...store.names('snapshots', 'layers').map((layer) => store.path('snapshots', 'layers', layer)),
    );
    const again = store.open();
    expect(again.resolve(name)).toBeUndefined();
    expect((await again.pull(name)).id).toBe(image.id);
    expect(sha256(readFileSync(path))).toBe(big);
  });

  test('silence is broken off', async () => {
    const name = registry.add('silent', image);
    registry.rule = (request, response, self) => {
      if (!isBlob(request, big)) return false;
      response.writeHead(200, { 'content-length': bigSize });
      response.write(self.data(big).subarray(0, 1000));
      return true;
    };
    const impatient = store.open({ idleTimeout: 150 });
    expect(await failure(impatient.pull(name))).toMatch(/^DOWNLOAD_INTERRUPTED: .* broke off after 1000 of /);
    store.expectClean({ partials: 1 });
  });

  test('a slow drip is broken off too: some bytes now and then are no progress', async () => {
    const name = registry.add('drip', image);
    const timers: NodeJS.Timeout[] = [];
    registry.rule = (request, response, self) => {
      if (!isBlob(request, big)) return false;
      response.writeHead(200, { 'content-length': bigSize });
      let at = 0;
      timers.push(setInterval(() => response.write(self.data(big).subarray(at, ++at)), 20));
      return true;
    };
    const impatient = store.open({ idleTimeout: 300 });
    try {
      expect(await failure(impatient.pull(name))).toMatch(/^DOWNLOAD_INTERRUPTED: /);
    } finally {
      for (const timer of timers) clearInterval(timer);
    }
  });

  test('cancelling leaves what can be resumed and nothing else', async () => {
    const name = registry.add('cancel', single);
    const stop = new AbortController();
    registry.rule = (request, response, self) => {
      if (!isBlob(request, big)) return false;
      response.writeHead(200, { 'content-length': bigSize });
      response.write(self.data(big).subarray(0, 2_000_000));
      return true;
    };
    const pulling = images.pull(name, {
      signal: stop.signal,
      onEvent: (event) => {
        if (event.kind === 'layer' && event.digest === big && event.phase === 'downloading') stop.abort();
      },
    });
    expect(await failure(pulling)).toMatch(/^(ABORT_ERR|20|ABORTED)/);
    store.expectClean({ partials: 1 });
    registry.rule = () => false;
    expect((await images.pull(name)).id).toBe(single.id);
    expect(
      registry.log.at(-1)?.headers.range ??
        registry.log.find((request) => request.headers.range)?.headers.range,
    ).toMatch(/^bytes=\d{6,}-$/);
  });

  test('ten pulls at once fetch each blob once', async () => {
    const name = registry.add('ten', image);
    await Promise.all(Array.from({ length: 10 }, async () => await images.pull(name)));
    expect(registry.blobRequests).toBe(3);
    expect(registry.log.filter(({ path }) => path.includes('/manifests/'))).toHaveLength(1);
  });

  test('two images that share a layer fetch and unpack it once', async () => {
    const shared = tarOf(dir('.'), file('noise', noise));
    const a = registry.add('a', makeImage({ layers: [shared, tarOf(file('a'))] }));
    const b = registry.add('b', makeImage({ layers: [shared, tarOf(file('b'))] }));
    await Promise.all([images.pull(a), images.pull(b)]);
    expect(registry.log.filter((request) => isBlob(request, big))).toHaveLength(1);
    store.expectClean({ layers: 3 });
  });
});

describe('wrong content', () => {
  const spoil = (change: (data: Buffer) => Buffer): void => {
    registry.rule = (request, response, self) => {
      if (!isBlob(request, big) || request.method !== 'GET') return false;
      self.blob({ ...request, headers: {} }, response, change(Buffer.from(self.data(big))));
      return true;
    };
  };

  test('a corrupt blob', async () => {
    const name = registry.add('corrupt', single);
    spoil((data) => data.fill(0x55, 100_000, 100_010));
    expect(await failure(images.pull(name))).toMatch(
      new RegExp(
        `^DIGEST_MISMATCH: cannot pull "${name}": cannot use blob ${big}: its content has the digest sha256:[0-9a-f]{64}$`,
      ),
    );
    store.expectClean({ blobs: 2, layers: 0 });
    expect(images.list()).toEqual([]);
  });

  test('another blob of the same length', async () => {
    const name = registry.add('swapped', single);
    spoil((data) => randomBytes(data.length));
    expect(await failure(images.pull(name))).toMatch(/^DIGEST_MISMATCH: /);
    store.expectClean({ layers: 0 });
  });

  test('a blob that is longer than its manifest says', async () => {
    const name = registry.add('longer', single);
    spoil((data) => Buffer.concat([data, Buffer.from('x')]));
    expect(await failure(images.pull(name))).toBe(
      `SIZE_MISMATCH: cannot fetch blob ${big} of "${name}": registry "${registry.host}" sends ${bigSize + 1} bytes, its manifest says ${bigSize}`,
    );
    store.expectClean({ layers: 0 });
  });

  test('a body without end', async () => {
    const name = registry.add('endless', single);
    const count = { sent: 0 };
    registry.rule = (request, response) => {
      if (!isBlob(request, big)) return false;
      response.writeHead(200);
      flood(response, Buffer.alloc(65_536), 200_000_000, count);
      return true;
    };
    expect(await failure(images.pull(name))).toMatch(
      /^SIZE_MISMATCH: .* sends more bytes, its manifest says/,
    );
    expect(count.sent).toBeLessThan(bigSize + 20_000_000);
    store.expectClean({ layers: 0 });
  });

  test('a manifest under another digest', async () => {
    registry.add('other', image);
    const asked = `sha256:${'1'.repeat(64)}`;
    registry.addBlob(asked, image.manifest);
    expect(await failure(images.pull(`${registry.host}/other@${asked}`))).toBe(
      `DIGEST_MISMATCH: cannot use the manifest of "${registry.host}/other@${asked}" from registry "${registry.host}": its digest is ${image.manifestDigest}, not ${asked}`,
    );
    store.expectClean({ blobs: 0, layers: 0 });
  });

  test('a manifest that does not fit the digest in its own header', async () => {
    const name = registry.add('header', image);
    registry.rule = (request, response) => {
      if (!request.path.includes('/manifests/')) return false;
      response.writeHead(200, { 'docker-content-digest': `sha256:${'2'.repeat(64)}` });
      response.end(image.manifest);
      return true;
    };
    expect(await failure(images.pull(name))).toMatch(/^DIGEST_MISMATCH: cannot use the manifest/);
  });

  test('a diffID that does not fit', async () => {
    const wrong = makeImage({ layers: [tarOf(file('a'))], diffIds: [`sha256:${'3'.repeat(64)}`] });
    expect(await failure(images.pull(registry.add('diffid', wrong)))).toMatch(
      /^DIFF_ID_MISMATCH: .*: cannot use layer sha256:\S+ its uncompressed content has the digest sha256:\S+, the image config says sha256:3{64}$/,
    );
    store.expectClean({ layers: 0 });
  });

  test('gzip that is damaged although its digest is right', async () => {
    const broken = makeImage({
      layers: [tarOf(file('a', noise))],
      compress: (tar) => Buffer.concat([Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0]), tar]),
    });
    expect(await failure(images.pull(registry.add('badgzip', broken)))).toMatch(
      /^LAYER_INVALID: .*cannot decompress gzip data: /,
    );
    store.expectClean({ layers: 0 });
  });

  test.each<[string, Buffer, RegExp]>([
    ['no JSON', Buffer.from('<html>'), /^MANIFEST_INVALID: cannot use the manifest of ".*": it is not JSON/],
    [
      'both manifests and layers',
      Buffer.from(JSON.stringify({ ...JSON.parse(image.manifest.toString()), manifests: [] })),
      /^MANIFEST_INVALID: .*could be read in two ways/,
    ],
    ['schema 1', Buffer.from('{"schemaVersion":1,"fsLayers":[]}'), /^IMAGE_UNSUPPORTED: .*schema 1/],
    [
      'a digest with a path in it',
      Buffer.from(
        image.manifest.toString().replace(/"digest":"sha256:[^"]+"/, '"digest":"sha256:../../../etc/passwd"'),
      ),
      /^MANIFEST_INVALID: .*"config.digest" is refused/,
    ],
    [
      'an unknown algorithm',
      Buffer.from(
        image.manifest.toString().replace(/"digest":"sha256:[^"]+"/, `"digest":"crc32:${'0'.repeat(64)}"`),
      ),
      /^MANIFEST_INVALID: .*does not start with sha256:/,
    ],
  ])('a manifest: %s', async (_name, manifest, expected) => {
    const name = registry.add('manifest', { ...image, manifest });
    expect(await failure(images.pull(name))).toMatch(expected);
    store.expectClean({ blobs: 0, layers: 0 });
  });

  test('a config of 9 MiB is not fetched', async () => {
    const name = registry.add(
      'config',
      makeImage({
        layers: [tarOf(file('a'))],
        edit: (manifest) => ({
          ...manifest,
          config: { ...(manifest.config as object), size: 9 * 1024 * 1024 },
        }),
      }),
    );
    expect(await failure(images.pull(name))).toMatch(
      /^RESPONSE_TOO_LARGE: cannot use the image config of ".*": it has 9437184 bytes, more than 8388608$/,
    );
    expect(registry.blobRequests).toBe(0);
  });

  test('layer URLs of a manifest are not followed', async () => {
    const name = registry.add(
      'foreign',
      makeImage({
        layers: [tarOf(file('a'))],
        edit: (manifest) => ({
          ...manifest,
          layers: (manifest.layers as object[]).map((layer) => ({
            ...layer,
            urls: [`http://${other.host}/steal`],
          })),
        }),
      }),
    );
    await images.pull(name);
    expect(other.log).toEqual([]);
  });
});

describe('answers that are too much', () => {
  const endless = (pattern: RegExp): { sent: number } => {
    const count = { sent: 0 };
    registry.rule = (request, response) => {
      if (!pattern.test(request.path)) return false;
      response.writeHead(200, { 'content-type': 'application/vnd.oci.image.manifest.v1+json' });
      flood(response, Buffer.alloc(65_536, 0x20), 500_000_000, count);
      return true;
    };
    return count;
  };

  test('a manifest without end', async () => {
    const name = registry.add('huge', image);
    const count = endless(/manifests/);
    expect(await failure(images.pull(name))).toMatch(
      /^RESPONSE_TOO_LARGE: cannot read the manifest of ".*" from ".*": it has at least \d+ bytes, more than 4194304$/,
    );
    expect(count.sent).toBeLessThan(40_000_000);
    store.expectClean({ blobs: 0 });
  });

  test('a manifest that announces 5 GB', async () => {
    const name = registry.add('huge', image);
    registry.rule = (request, response) => {
      if (!request.path.includes('manifests')) return false;
      response.writeHead(200, { 'content-length': 5_000_000_000 });
      response.write('{');
      return true;
    };
    expect(await failure(images.pull(name))).toMatch(
      /^RESPONSE_TOO_LARGE: .* it has 5000000000 bytes, more than 4194304$/,
    );
  });

  test('a token without end', async () => {
    const name = registry.add('long', image);
    const count = endless(/token/);
    const rule = registry.rule;
    registry.rule = (request, response, self) => {
      if (request.path.includes('token')) return rule(request, response, self);
      response.writeHead(401, { 'www-authenticate': `Bearer realm="http://${registry.host}/token"` }).end();
      return true;
    };
    expect(await failure(images.pull(name))).toMatch(/^RESPONSE_TOO_LARGE: cannot read a token/);
    expect(count.sent).toBeLessThan(40_000_000);
  });

  test('an error without end', async () => {
    const name = registry.add('error', image);
    registry.rule = (_request, response) => {
      response.writeHead(403);
      flood(response, Buffer.alloc(65_536, 0x20));
      return true;
    };
    expect(await failure(images.pull(name))).toMatch(/^UNAUTHORIZED: .* it denies access$/);
  });
});

describe('log-in and redirects', () => {
  const auth = { username: 'ann', password: 'secret' };
  const basic = `Basic ${Buffer.from('ann:secret').toString('base64')}`;
  const challenge = (response: ServerResponse, value: string): true => {
    response.writeHead(401, { 'www-authenticate': value }).end();
    return true;
  };

  test('a 401 that never ends is tried twice', async () => {
    const name = registry.add('loop', image);
    registry.rule = (_request, response) => challenge(response, 'Basic realm="x"');
    expect(await failure(images.pull(name, { auth }))).toMatch(
      /^UNAUTHORIZED: .* it does not accept the credentials$/,
    );
    expect(registry.log).toHaveLength(2);
  });

  test('tokens that are never good enough', async () => {
    const name = registry.add('tokens', image);
    registry.rule = (request, response) => {
      if (!request.path.startsWith('/token'))
        return challenge(response, `Bearer realm="http://${registry.host}/token",service="s"`);
      response.end(`{"token":"t${registry.log.length}"}`);
      return true;
    };
    expect(await failure(images.pull(name))).toMatch(/^UNAUTHORIZED: .* it does not accept the credentials$/);
    expect(registry.log).toHaveLength(3);
  });

  test('a token that expired is replaced in the middle of a pull', async () => {
    const name = registry.add('expired', image);
    let good = 't1';
    let manifests = 0;
    registry.rule = (request, response) => {
      if (request.path.startsWith('/token')) {
        response.end(JSON.stringify({ token: good, expires_in: 3600 }));
        return true;
      }
      if (request.headers.authorization !== `Bearer ${good}`)
        return challenge(response, `Bearer realm="http://${registry.host}/token"`);
      if (request.path.includes('/manifests/')) {
        manifests += 1;
        good = 't2';
      }
      return false;
    };
    expect((await images.pull(name)).id).toBe(image.id);
    expect(manifests).toBe(1);
    expect(registry.log.filter(({ path }) => path.startsWith('/token')).length).toBeLessThanOrEqual(3);
  });

  test.each([
    ['no known scheme', 'Negotiate', /it only offers "negotiate"$/],
    ['no scheme at all', '', /it named no way to log in$/],
    ['a realm that is no URL', 'Bearer realm="nowhere"', /its token realm "nowhere" is no URL$/],
    [
      'a realm without https',
      'Bearer realm="http://auth.example/token"',
      /its token realm "http:\/\/auth.example\/token" is not https$/,
    ],
    ['a realm that is a file', 'Bearer realm="file:///etc/passwd"', /is not https$/],
  ])('a challenge with %s', async (_name, value, reason) => {
    const name = registry.add('challenge', image);
    registry.rule = (_request, response) => challenge(response, value);
    const text = await failure(images.pull(name, { auth }));
    expect(text).toMatch(/^UNAUTHORIZED: cannot log in to registry "/);
    expect(text).toMatch(reason);
  });

  test('a token that would break out of its header', async () => {
    const name = registry.add('inject', image);
    registry.rule = (request, response) => {
      if (!request.path.startsWith('/token'))
        return challenge(response, `Bearer realm="http://${registry.host}/token"`);
      response.end('{"token":"a\\r\\nx: y"}');
      return true;
    };
    expect(await failure(images.pull(name))).toMatch(/^UNAUTHORIZED: .* answered without a token$/);
  });

  test('a redirect to another origin gets no credentials', async () => {
    const name = registry.add('redirect', image);
    for (const [digest, data] of image.blobs) other.addBlob(digest, data);
    registry.rule = (request, response) => {
      if (request.headers.authorization !== basic) return challenge(response, 'Basic realm="x"');
      if (!request.path.includes('/blobs/')) return false;
      response.writeHead(307, { location: `http://${other.host}${request.path}?signed=1` }).end();
      return true;
    };
    other.rule = (request, response, self) => {
      self.blob(request, response, image.blobs.get(request.path.replace(/.*\/blobs\/|\?.*/g, '')));
      return true;
    };
    expect((await images.pull(name, { auth })).id).toBe(image.id);
    expect(other.log.length).toBe(3);
    expect(other.log.map((request) => request.headers.authorization)).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
  });

  test('a 401 of where a redirect leads is not answered with the registry’s credentials', async () => {
    const name = registry.add('lure', image);
    registry.rule = (request, response) => {
      if (request.headers.authorization !== basic) return challenge(response, 'Basic realm="x"');
      if (!request.path.includes('/blobs/')) return false;
      response.writeHead(302, { location: `http://${other.host}/steal` }).end();
      return true;
    };
    for (const lure of ['Basic realm="x"', `Bearer realm="http://${other.host}/token"`]) {
      other.log.length = 0;
      other.rule = (_request, response) => challenge(response, lure);
      const text = await failure(images.pull(name, { auth }));
      expect(text).toMatch(
        new RegExp(`^UNAUTHORIZED: .* it redirects to "http://${other.host}", which denies access$`),
      );
      // its configuration, once: no header, and nobody asks it for a token
      expect(other.log.map(({ method, path, headers }) => [method, path, headers.authorization])).toEqual([
        ['GET', '/steal', undefined],
      ]);
    }
  });

  test.each([
    ['in a circle', () => `http://${registry.host}/v2/again`, /there were more than 5 redirects$/],
    ['to a file', () => 'file:///etc/passwd', /it is not HTTP$/],
    ['with credentials', () => `http://user:pass@${registry.host}/`, /it carries credentials$/],
    ['to nowhere', () => 'http://', /it is no URL$/],
  ])('a redirect %s', async (_name, location, reason) => {
    const name = registry.add('redirects', image);
    registry.rule = (_request, response) => {
      response.writeHead(302, { location: location() }).end();
      return true;
    };
    const text = await failure(images.pull(name));
    expect(text).toMatch(/^REDIRECT_REFUSED: cannot follow the redirect of "http:/);
    expect(text).toMatch(reason);
    expect(registry.log.length).toBeLessThanOrEqual(7);
  });
});

describe('busy and absent registries', () => {
  test('429 with Retry-After is waited for', async () => {
    const name = registry.add('busy', image);
    let times = 0;
    registry.rule = (request, response) => {
      times += 1;
      if (times > 2 || !request.path.includes('/manifests/')) return false;
      response.writeHead(429, { 'retry-after': '0' }).end();
      return true;
    };
    expect((await images.pull(name)).id).toBe(image.id);
    expect(times).toBeGreaterThan(2);
  });

  test('429 that asks for an hour is told', async () => {
    const name = registry.add('limit', image);
    registry.rule = (_request, response) => {
      response.writeHead(429, { 'retry-after': '3600' });
      response.end(
        '{"errors":[{"code":"TOOMANYREQUESTS","message":"you have reached your pull rate limit"}]}',
      );
      return true;
    };
    expect(await failure(images.pull(name))).toBe(
      `REGISTRY_RATE_LIMITED: cannot pull "${name}": registry "${registry.host}" refuses more requests for the next 3600 s ("TOOMANYREQUESTS: you have reached your pull rate limit")`,
    );
  });

  test('500 now and then does not matter, 500 always does', async () => {
    const name = registry.add('flaky', image);
    let times = 0;
    registry.rule = (request, response) => {
      times += 1;
      if (times % 2 === 0 || request.path.includes('/blobs/')) return false;
      response.writeHead(503).end();
      return true;
    };
    expect((await images.pull(name)).id).toBe(image.id);
    const down = registry.add('down', makeImage({ layers: [] }));
    registry.rule = (_request, response) => {
      response.writeHead(500).end('oops');
      return true;
    };
    expect(await failure(images.pull(down))).toBe(
      `REGISTRY_ERROR: cannot pull "${down}": registry "${registry.host}" answered 500`,
    );
  });

  test('nobody listens', async () => {
    const host = `127.0.0.1:${await freePort()}`;
    const text = await failure(images.pull(`${host}/a:1`));
    expect(text).toMatch(
      new RegExp(
        `^REGISTRY_UNREACHABLE: cannot pull "${host}/a:1": cannot reach registry "${host}": connect ECONNREFUSED`,
      ),
    );
    store.expectClean({ blobs: 0, layers: 0 });
  });

  test('a host that does not exist', async () => {
    expect(await failure(images.pull('registry.invalid/a:1'))).toMatch(
      /^REGISTRY_UNREACHABLE: .*cannot reach registry "registry.invalid": .*(ENOTFOUND|EAI_AGAIN)/,
    );
  });

  test('a host that never answers', async () => {
    const server = createTcpServer(() => {});
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    const host = `127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`;
    const impatient = store.open({ idleTimeout: 100, insecureRegistries: [host] });
    try {
      expect(await failure(impatient.pull(`${host}/a:1`))).toMatch(
        /^REGISTRY_TIMEOUT: cannot pull ".*": registry ".*" does not answer: /,
      );
    } finally {
      server.close();
    }
  });

  test('a certificate that nobody vouches for', async () => {
    const { certificate, key } = makeCertificate(store.folder, 'self');
    const tls = await startRegistry({ tls: { certificate, key } });
    try {
      expect(await failure(images.pull(`${tls.host}/a:1`))).toMatch(
        new RegExp(
          `^REGISTRY_TLS: cannot pull "${tls.host}/a:1": no trust in registry "${tls.host}": self-signed certificate`,
        ),
      );
      // the same, trusted
      const layout = join(store.folder, 'layout');
      writeLayout(layout, { app: image });
      run('skopeo', 'copy', '-q', '--dest-tls-verify=false', `oci:${layout}:app`, `docker://${tls.host}/a:1`);
      process.env.NODE_EXTRA_CA_CERTS = certificate;
      expect((await store.open().pull(`${tls.host}/a:1`)).id).toBe(image.id);
    } finally {
      delete process.env.NODE_EXTRA_CA_CERTS;
      await tls.stop();
    }
  });
});
