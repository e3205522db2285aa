import { describe, expect, test } from 'vitest';
import { sleep } from '../../../src/base/index.ts';
import { chainIds, sha256 } from '../../../src/image/digest.ts';
import { MEDIA } from '../../../src/image/media-types.ts';
import { setNames } from '../../../src/image/pull.ts';
import { Semaphore } from '../../../src/image/semaphore.ts';
import { SharedWork } from '../../../src/image/shared-work.ts';
import { mark } from '../../../src/image/store/gc.ts';
import { ANNOTATION, type IndexEntry } from '../../../src/image/store/index-file.ts';
import { leaseOf } from '../../../src/image/store/leases.ts';
import type { ImageContent } from '../../../src/image/store/records.ts';
import { parseGroup, parsePasswd } from '../../../src/image/users.ts';

const d = (name: string): string => sha256(name);

function entry(name: string | undefined, digest: string, more: Record<string, string> = {}): IndexEntry {
  return {
    mediaType: MEDIA.ociManifest,
    digest,
    size: 1,
    annotations: { ...(name === undefined ? {} : { [ANNOTATION.name]: name }), ...more },
  };
}

describe('setNames', () => {
  const now = new Date('2026-01-01T00:00:00Z');
  const top = { mediaType: MEDIA.ociIndex, digest: d('new'), size: 5 };
  const names = (entries: readonly IndexEntry[]): unknown =>
    entries.map((e) => [e.annotations?.[ANNOTATION.name], e.digest]);

  test('a tag moves; what the old digest was called stays; strangers stay', () => {
    const old = [
      entry('r:1', d('old')),
      entry('r@old', d('old')),
      entry('other:1', d('x')),
      entry(undefined, d('y')),
    ];
    const after = setNames(old, new Set(['r:1', 'r@new']), top, d('manifest'), now);
    expect(names(after)).toEqual([
      ['r@old', d('old')],
      ['other:1', d('x')],
      [undefined, d('y')],
      ['r:1', d('new')],
      ['r@new', d('new')],
    ]);
    expect(after.at(-1)?.annotations).toMatchObject({
      [ANNOTATION.manifest]: d('manifest'),
      [ANNOTATION.stored]: now.toISOString(),
    });
  });

  test('nothing is written where the names stand right already', () => {
    const before = setNames([], new Set(['r:1']), top, d('manifest'), now);
    expect(setNames(before, new Set(['r:1']), top, d('manifest'), new Date())).toBe(before);
    expect(setNames(before, new Set(['r:1']), top, d('another'), now)).not.toBe(before);
  });

  test('a pin stays with the name', () => {
    const old = [entry('r:1', d('old'), { [ANNOTATION.pinned]: 'true' })];
    expect(setNames(old, new Set(['r:1']), top, top.digest, now)[0]?.annotations).toMatchObject({
      [ANNOTATION.pinned]: 'true',
    });
  });
});

test('mark keeps what names, leases and containers need, and nothing else', () => {
  const diffIds = [d('l1'), d('l2')];
  const content = {
    manifest: { config: { digest: d('config') }, layers: [{ digest: d('blob1') }, { digest: d('blob2') }] },
    config: { rootfs: { diff_ids: diffIds } },
  } as unknown as ImageContent;
  const marked = mark({
    entries: [
      entry('r:1', d('index'), { [ANNOTATION.manifest]: d('manifest') }),
      entry('gone:1', d('missing')),
    ],
    content: (digest) => (digest === d('manifest') ? content : undefined),
    needs: { blobs: [d('pulling')], chains: [d('unpacking')] },
    snapshotChains: [d('in use')],
  });
  expect([...marked.blobs].sort()).toEqual(
    ['index', 'manifest', 'config', 'blob1', 'blob2', 'missing', 'pulling'].map(d).sort(),
  );
  expect([...marked.chains].sort()).toEqual([...chainIds(diffIds), d('unpacking'), d('in use')].sort());
});

test('a half-made thing tells whose it is', () => {
  expect(leaseOf('4711-0123456789ab-17')).toBe('4711-0123456789ab');
});

describe('users', () => {
  test('passwd: good lines, bad lines, numbers out of range', () => {
    const text =
      'root:x:0:0:root:/root:/bin/sh\n# comment\n+nis::::::\nbad\nx:x:abc:0::/:/\nbig:x:4294967295:0::/:\nmax:x:4294967294:1::/m:/s\n1000:x:0:0::/:\nshort:x:5:6';
    expect(parsePasswd(text)).toEqual([
      { name: 'root', uid: 0, gid: 0, home: '/root' },
      { name: 'max', uid: 4_294_967_294, gid: 1, home: '/m' },
      { name: '1000', uid: 0, gid: 0, home: '/' },
      { name: 'short', uid: 5, gid: 6, home: '' },
    ]);
  });

  test('group', () => {
    expect(parseGroup('wheel:x:10:root,admin\nempty:x:11:\n:x:12:\nneg:x:-1:')).toEqual([
      { name: 'wheel', gid: 10, members: ['root', 'admin'] },
      { name: 'empty', gid: 11, members: [] },
    ]);
  });
});

describe('SharedWork', () => {
  const manual = (): {
    work: SharedWork<string, number>;
    starts: AbortSignal[];
    finish: ((value: string) => void)[];
    start: (signal: AbortSignal, emit: (n: number) => void) => Promise<string>;
  } => {
    const starts: AbortSignal[] = [];
    const finish: ((value: string) => void)[] = [];
    return {
      work: new SharedWork((n) => n < 10),
      starts,
      finish,
      start: async (signal, emit) => {
        starts.push(signal);
        emit(1);
        emit(11);
        return await new Promise<string>((resolve, reject) => {
          finish.push(resolve);
          signal.addEventListener('abort', () => reject(new Error('stopped')));
        });
      },
    };
  };

  test('ten callers, one run; late ones hear of the past that counts', async () => {
    const { work, starts, finish, start } = manual();
    const heard: number[] = [];
    const all = Array.from(
      { length: 10 },
      async () => await work.join('k', start, (n) => heard.push(n), undefined),
    );
    finish[0]?.('done');
    expect(await Promise.all(all)).toEqual(Array(10).fill('done'));
    expect(starts).toHaveLength(1);
    expect(heard.filter((n) => n === 1)).toHaveLength(10);
  });

  test('one that gives up leaves at once and the others go on', async () => {
    const { work, starts, finish, start } = manual();
    const give = new AbortController();
    const first = work.join('k', start, undefined, give.signal);
    const second = work.join('k', start, undefined, undefined);
    give.abort(new Error('mine'));
    await expect(first).rejects.toThrow('mine');
    expect(starts[0]?.aborted).toBe(false);
    finish[0]?.('done');
    expect(await second).toBe('done');
  });

  test('the last that gives up stops the work; who comes then starts afresh', async () => {
    const { work, starts, finish, start } = manual();
    const give = new AbortController();
    const first = work.join('k', start, undefined, give.signal);
    give.abort();
    const second = work.join('k', start, undefined, undefined);
    await expect(first).rejects.toThrow('stopped');
    expect(starts.map((signal) => signal.aborted)).toEqual([true, false]);
    finish[1]?.('again');
    expect(await second).toBe('again');
  });

  test('an error reaches all', async () => {
    const work = new SharedWork<string, number>(() => true);
    const fail = async (): Promise<string> => await Promise.reject(new Error('no'));
    const both = [work.join('k', fail, undefined, undefined), work.join('k', fail, undefined, undefined)];
    await expect(Promise.allSettled(both)).resolves.toMatchObject([
      { status: 'rejected' },
      { status: 'rejected' },
    ]);
  });
});

describe('Semaphore', () => {
  test('serves in order, never more than its places', async () => {
    const semaphore = new Semaphore(2);
    const order: number[] = [];
    let inside = 0;
    await Promise.all(
      Array.from({ length: 6 }, async (_, i) => {
        const release = await semaphore.acquire();
        inside += 1;
        expect(inside).toBeLessThanOrEqual(2);
        order.push(i);
        await sleep(1);
        inside -= 1;
        release();
        release(); // a second time does nothing
      }),
    );
    expect(order).toEqual([0, 1, 2, 3, 4, 5]);
  });

  test('who gives up does not take a place', async () => {
    const semaphore = new Semaphore(1);
    const release = await semaphore.acquire();
    const give = new AbortController();
    const waiting = semaphore.acquire(give.signal);
    give.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
    release();
    expect(typeof (await semaphore.acquire())).toBe('function');
  });
});
