import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { NodeletError } from '../../../src/base/index.ts';
import { chainIds, parseDigest, sha256 } from '../../../src/image/digest.ts';
import { maxDocument, parseConfig, parseDocument } from '../../../src/image/documents.ts';
import { MEDIA } from '../../../src/image/media-types.ts';
import { acceptable, choosePlatform, formatPlatform, parsePlatform } from '../../../src/image/platform.ts';

const digest = `sha256:${'1'.repeat(64)}`;
const config = { mediaType: MEDIA.ociConfig, digest, size: 10 };
const layer = { mediaType: MEDIA.ociLayerGzip, digest, size: 20 };
const manifest = { schemaVersion: 2, mediaType: MEDIA.ociManifest, config, layers: [layer] };
const index = { schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests: [] as object[] };

const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

function codeAndText(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof NodeletError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'accepted';
}

describe('parseDocument', () => {
  test('reads an OCI manifest', () => {
    expect(parseDocument(json(manifest), MEDIA.ociManifest, 'x')).toMatchObject({
      kind: 'manifest',
      layers: [layer],
    });
  });

  test('reads a docker manifest without a type of its own, as the registry calls it', () => {
    const docker = {
      schemaVersion: 2,
      config: { ...config, mediaType: MEDIA.dockerConfig },
      layers: [layer],
    };
    expect(parseDocument(json(docker), `${MEDIA.dockerManifest}; charset=utf-8`, 'x')).toMatchObject({
      kind: 'manifest',
      mediaType: MEDIA.dockerManifest,
    });
  });

  test('a type that says nothing does not count', () => {
    expect(parseDocument(json(manifest), 'application/json', 'x').kind).toBe('manifest');
  });

  test.each<[string, unknown, string | undefined, RegExp]>([
    ['no JSON', 'x', undefined, /^MANIFEST_INVALID: cannot use the thing: it is not JSON/],
    ['a list', [], undefined, /it is not a JSON object/],
    ['schema 1', { ...manifest, schemaVersion: 1 }, undefined, /^IMAGE_UNSUPPORTED: .*schema 1/],
    [
      'signed schema 1 by type',
      { ...manifest, mediaType: undefined },
      MEDIA.dockerSchema1Signed,
      /^IMAGE_UNSUPPORTED: .*schema 1/,
    ],
    [
      'schema 1 by its fields',
      { schemaVersion: 2, fsLayers: [] },
      undefined,
      /^IMAGE_UNSUPPORTED: .*schema 1/,
    ],
    ['two meanings', { ...manifest, manifests: [] }, undefined, /both "manifests" and "layers"/],
    ['two types', manifest, MEDIA.dockerManifest, /served it as .* but it calls itself/],
    [
      'an index that is called a manifest',
      { ...index, mediaType: MEDIA.ociManifest },
      undefined,
      /has the fields of an image index/,
    ],
    ['an unknown type', { ...manifest, mediaType: 'text/x' }, undefined, /^IMAGE_UNSUPPORTED: .*"text\/x"/],
    [
      'an artifact',
      { ...manifest, config: { ...config, mediaType: 'application/vnd.cncf.helm.config.v1+json' } },
      undefined,
      /^IMAGE_UNSUPPORTED: .*artifact of type "application\/vnd.cncf.helm/,
    ],
    [
      'an encrypted layer',
      { ...manifest, layers: [{ ...layer, mediaType: `${MEDIA.ociLayerGzip}+encrypted` }] },
      undefined,
      /^IMAGE_UNSUPPORTED: .*layers\[0\]/,
    ],
    [
      'a digest with a path',
      { ...manifest, config: { ...config, digest: 'sha256:../../x' } },
      undefined,
      /config.digest" is refused/,
    ],
    [
      'a sha512 digest',
      { ...manifest, config: { ...config, digest: `sha512:${'1'.repeat(128)}` } },
      undefined,
      /only sha256/,
    ],
    [
      'a negative size',
      { ...manifest, layers: [{ ...layer, size: -1 }] },
      undefined,
      /layers\[0\].size" is no size/,
    ],
    ['a fractional size', { ...manifest, layers: [{ ...layer, size: 1.5 }] }, undefined, /is no size/],
    ['layers that are no list', { ...manifest, layers: {} }, undefined, /"layers" is not a list/],
    [
      '501 layers',
      { ...manifest, layers: Array.from({ length: 501 }, () => layer) },
      undefined,
      /501 layers, more than the 500/,
    ],
    ['another schema version', { ...manifest, schemaVersion: 3 }, undefined, /"schemaVersion" is not 2/],
  ])('refuses %s', (_name, value, type, expected) => {
    const bytes = typeof value === 'string' ? Buffer.from(value) : json(value);
    expect(codeAndText(() => parseDocument(bytes, type, 'the thing'))).toMatch(expected);
  });

  test('refuses more than 4 MiB without parsing it', () => {
    const big = Buffer.alloc(maxDocument + 1, 0x20);
    expect(codeAndText(() => parseDocument(big, undefined, 'x'))).toMatch(/^RESPONSE_TOO_LARGE/);
  });

  test('whatever it is given, it answers or raises an error of its own', () => {
    const keys = fc.constantFrom(
      'schemaVersion',
      'mediaType',
      'config',
      'layers',
      'manifests',
      'digest',
      'size',
      'fsLayers',
    );
    const value = fc.letrec((tie) => ({
      any: fc.oneof(
        { maxDepth: 3 },
        fc.constantFrom<unknown>(1, 2, MEDIA.ociIndex, MEDIA.ociManifest, digest, null, true, -1),
        fc.dictionary(keys, tie('any')),
        fc.array(tie('any'), { maxLength: 3 }),
      ),
    })).any;
    fc.assert(
      fc.property(fc.dictionary(keys, value), (document) => {
        expect(codeAndText(() => parseDocument(json(document), undefined, 'x'))).toMatch(
          /^(accepted|MANIFEST_INVALID|IMAGE_UNSUPPORTED)/,
        );
      }),
    );
  });
});

describe('parseConfig', () => {
  const image = {
    architecture: 'amd64',
    os: 'linux',
    config: {
      User: '1000',
      Env: ['A=b'],
      Entrypoint: null,
      Cmd: ['sh'],
      Volumes: { '/data': {} },
      Labels: null,
      StopSignal: 'SIGINT',
    },
    rootfs: { type: 'layers', diff_ids: [digest] },
    history: [
      { created_by: 'x', empty_layer: true },
      { created_by: 'y', empty_layer: false },
    ],
  };

  test('reads what a runtime obeys and leaves null fields out', () => {
    expect(parseConfig(json(image), 1, 'x')).toEqual({
      architecture: 'amd64',
      os: 'linux',
      config: { User: '1000', Env: ['A=b'], Cmd: ['sh'], Volumes: { '/data': {} }, StopSignal: 'SIGINT' },
      rootfs: { type: 'layers', diff_ids: [digest] },
      history: [{ created_by: 'x', empty_layer: true }, { created_by: 'y' }],
    });
  });

  test('a label called __proto__ is a label', () => {
    const bytes = Buffer.from(JSON.stringify(image).replace('"Labels":null', '"Labels":{"__proto__":"x"}'));
    const labels = parseConfig(bytes, 1, 'x').config?.Labels ?? {};
    expect(Object.getOwnPropertyNames(labels)).toEqual(['__proto__']);
  });

  test.each<[string, object, number, RegExp]>([
    ['another number of layers', image, 2, /lists 1 layers .* but the manifest has 2/],
    ['no layers', { ...image, rootfs: undefined }, 1, /"rootfs.type" is not "layers"/],
    [
      'a diffID that is none',
      { ...image, rootfs: { type: 'layers', diff_ids: ['x'] } },
      1,
      /diff_ids\[0\]" is no sha256/,
    ],
    ['an Env that is no list', { ...image, config: { Env: 'A=b' } }, 1, /"config.Env" is not a list/],
    ['an Env with NUL', { ...image, config: { Env: ['A=\0'] } }, 1, /"config.Env\[0\]" has a NUL/],
    ['a User that is a number', { ...image, config: { User: 5 } }, 1, /"config.User" is not a string/],
  ])('refuses %s', (_name, value, layers, expected) => {
    expect(codeAndText(() => parseConfig(json(value), layers, 'x'))).toMatch(expected);
  });
});

describe('chainIds', () => {
  test('follow the formula of image-spec', () => {
    const [a, b] = [sha256('a'), sha256('b')];
    expect(chainIds([])).toEqual([]);
    expect(chainIds([a])).toEqual([a]);
    expect(chainIds([a, b, a])).toEqual([a, sha256(`${a} ${b}`), sha256(`${sha256(`${a} ${b}`)} ${a}`)]);
  });
});

test.each(['sha256:', 'sha256:ABC', `sha256:${'A'.repeat(64)}`, 'x', `sha1:${'a'.repeat(40)}`])(
  'parseDigest refuses %s',
  (text) => {
    expect(codeAndText(() => parseDigest(text))).toMatch(/^INVALID_DIGEST/);
  },
);

describe('platforms', () => {
  test.each([
    ['linux/amd64', 'linux/amd64'],
    ['linux/x86_64', 'linux/amd64'],
    ['linux/aarch64', 'linux/arm64'],
    ['linux/arm64/v8', 'linux/arm64'],
    ['linux/arm', 'linux/arm/v7'],
    ['linux/arm/6', 'linux/arm/v6'],
    ['linux/amd64/v1', 'linux/amd64'],
    ['linux/amd64/v3', 'linux/amd64/v3'],
  ])('%s is %s', (text, normal) => {
    expect(formatPlatform(parsePlatform(text))).toBe(normal);
  });

  test.each(['', 'linux', 'a/b/c/d', 'linux/', 'linux/am d64'])('refuses %j', (text) => {
    expect(codeAndText(() => parsePlatform(text))).toMatch(/^INVALID_PLATFORM/);
  });

  const offered = [
    'linux/arm/v6',
    'linux/amd64',
    'linux/arm64',
    'linux/amd64/v3',
    'linux/arm/v7',
    'windows/amd64',
  ].map(parsePlatform);
  test.each([
    ['linux/amd64', 'linux/amd64'],
    ['linux/amd64/v2', 'linux/amd64'],
    ['linux/amd64/v4', 'linux/amd64/v3'],
    ['linux/arm64', 'linux/arm64'],
    ['linux/arm/v7', 'linux/arm/v7'],
    ['linux/arm/v6', 'linux/arm/v6'],
    ['windows/amd64', 'windows/amd64'],
  ])('%s gets %s', (wanted, chosen) => {
    expect(formatPlatform(offered[choosePlatform(offered, parsePlatform(wanted))]!)).toBe(chosen);
  });

  test('no platform fits, and entries without one are passed over', () => {
    expect(choosePlatform([undefined, ...offered], parsePlatform('linux/riscv64'))).toBe(-1);
    expect(choosePlatform([{ os: 'unknown', architecture: 'unknown' }], parsePlatform('linux/amd64'))).toBe(
      -1,
    );
  });

  test('arm64 runs 32-bit images where there is no other', () => {
    expect(acceptable(parsePlatform('linux/arm64')).map(formatPlatform)).toContain('linux/arm/v7');
  });
});
