import { describe, expect, test } from 'vitest';
import { treeLines } from '../../../src/cli/image/tree.ts';
import { reportLines } from '../../../src/cli/image/verify.ts';
import { type ImageFacts, layerTree, summarize } from '../../../src/image/overview.ts';

/** An image of layers `name:bytes`; each layer's blob has half of that. */
function image(id: string, tags: readonly string[], ...layers: readonly string[]): ImageFacts {
  const infos = layers.map((text, i) => {
    const [name = '', bytes = '0'] = text.split(':');
    return {
      digest: `sha256:${name}-blob`,
      mediaType: 'x',
      size: Number(bytes) / 2,
      unpackedSize: Number(bytes),
      diffId: `sha256:${name}`,
      chainId: `sha256:${layers.slice(0, i + 1).join('+')}`,
      path: `/${name}`,
      blob: name !== 'dropped',
    };
  });
  const record = {
    id: `sha256:${id}`,
    manifestDigest: `sha256:m-${id}`,
    repoTags: tags,
    repoDigests: [],
    config: { architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [] } },
    chainIds: infos.map(({ chainId }) => chainId),
    size: 10 + infos.reduce((sum, { size }) => sum + size, 0),
    pinned: false,
  } as ImageFacts['record'];
  return { record, layers: infos, stored: undefined, users: [], mounts: [] };
}

describe('what images cost', () => {
  test('layers that two images have are shared, the rest is what a removal gives back', () => {
    const [a, b] = summarize([
      image('a', ['x:1'], 'base:100', 'top:40'),
      image('b', ['x:2'], 'base:100', 'other:20'),
    ]);
    expect([a?.diskSize, a?.uniqueSize, a?.sharedSize]).toEqual([220, 70, 150]);
    expect([b?.diskSize, b?.uniqueSize, b?.sharedSize]).toEqual([190, 40, 150]);
  });

  test('the same layer on another base is another directory, but the same blob', () => {
    const [a] = summarize([image('a', [], 'one:100', 'top:40'), image('b', [], 'two:100', 'top:40')]);
    // of "top" the files are its own, the compressed 20 are not
    expect(a?.uniqueSize).toBe(10 + 150 + 40);
  });

  test('a layer that an image has twice counts once, a blob that is not kept not at all', () => {
    const [a] = summarize([image('a', [], 'dropped:100')]);
    expect(a?.diskSize).toBe(10 + 100);
  });
});

describe('the tree of layers', () => {
  const tree = layerTree([
    image('a', ['x:1', 'x:latest'], 'base:100', 'top:40'),
    image('b', [], 'base:100', 'other:20', 'more:4'),
    image('c', ['y:1'], 'base:100'),
    image('d', ['z:1'], 'alone:7'),
    image('e', ['empty:1']),
  ]);

  test('images that begin alike share their trunk', () => {
    expect(tree.map(({ chainId, images, above }) => [chainId, images, above.length])).toEqual([
      ['sha256:base:100', ['y:1'], 2],
      ['sha256:alone:7', ['z:1'], 0],
    ]);
  });

  test('as lines', () => {
    expect(treeLines(tree, (name) => name)).toEqual([
      'base-blob 100B  y:1',
      '├── top-blob 40B  x:1, x:latest',
      '└── other-blob 20B',
      '    └── more-blob 4B  b',
      'alone-blob 7B  z:1',
    ]);
  });
});

test('a report of the store, as lines', () => {
  const counts = { images: 1, blobs: 2, layers: 1, bytes: 1000 };
  expect(reportLines({ ...counts, problems: [] })).toEqual([
    '1 name, 2 blobs (1kB) and 1 layer read: nothing is wrong',
  ]);
  const problem = { kind: 'stray', subject: '/x', message: 'what is it', images: ['a'] } as const;
  expect(
    reportLines({
      ...counts,
      problems: [
        { ...problem, mended: 'removed' },
        { ...problem, mended: undefined },
      ],
    }),
  ).toEqual([
    'stray: /x: what is it [a] — removed',
    'stray: /x: what is it [a]',
    '1 name, 2 blobs (1kB) and 1 layer read: 2 problems, 1 left',
  ]);
});
