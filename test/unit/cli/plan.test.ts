import { describe, expect, it } from 'vitest';
import type { PlannedOperation, PlannedPod } from '../../../src/agent/index.ts';
import { planLines } from '../../../src/cli/render/plan.ts';
import { type OperationOptions, operationParts, shortener } from '../../../src/cli/render/plan-operations.ts';
import { plain } from '../../../src/cli/terminal/style.ts';

const id = (byte: string): string => byte.repeat(32);
const GROUP = '/nodelet/kubepods/burstable/pod<uid>';

const list = (...rows: readonly (readonly [op: string, text: string])[]): PlannedOperation[] => {
  let where: 'shim' | 'child' = 'shim';
  return rows.map(([op, text], index) => {
    const one = { index, op, where, text };
    if (op === 'clone') where = 'child';
    return one;
  });
};

const options = (more: Partial<OperationOptions> = {}): OperationOptions => ({
  all: false,
  known: new Set(),
  knownAs: 'as before',
  shorten: (text) => text,
  ...more,
});

describe('shortener', () => {
  const shorten = shortener(GROUP);
  it.each([
    ['an id that stands for one to be drawn', `open /run/${id('00')}/x`, 'open /run/0000…/x'],
    ['a digest is none', `use ${'0123456789abcdef'.repeat(4)}`, `use ${'0123456789abcdef'.repeat(4)}`],
    [
      "the way to the pod's group",
      `mkdir /sys/fs/cgroup${GROUP}/${id('01')}`,
      'mkdir /sys/fs/cgroup/…/pod<uid>/0101…',
    ],
    [
      'bytes of memory',
      `echo 33554432 > /c${GROUP}/memory.max`,
      'echo 33554432 > /c/…/pod<uid>/memory.max   (32MiB)',
    ],
    [
      'a small number stays',
      `echo 1 > /c${GROUP}/memory.oom.group`,
      'echo 1 > /c/…/pod<uid>/memory.oom.group',
    ],
    ['no limit', `echo max > /c${GROUP}/memory.max`, 'echo max > /c/…/pod<uid>/memory.max'],
    ['other controllers count nothing in bytes', 'echo 50000 > /c/cpu.max', 'echo 50000 > /c/cpu.max'],
  ])('%s', (_, text, expected) => {
    expect(shorten(text)).toBe(expected);
  });
});

describe('operationParts', () => {
  const operations = list(
    ['make-directory', 'mkdir /a'],
    ['write-file', 'echo 1 > /a/x'],
    ['make-directory', 'mkdir /a/b'],
    ['make-directory', 'mkdir /a/c'],
    ['clone', 'clone'],
    ['write-file', 'echo 0 > /a/b/cgroup.procs'],
    ['join-namespace', 'setns net'],
    ['overlay', 'make overlay'],
    ['join-namespace', 'setns mnt'],
    ['mask', 'hide /proc/kcore'],
    ['mask', 'hide /proc/keys'],
    ['execute', 'exec true'],
  );

  it('begins a part where its operations begin, and none twice', () => {
    const parts = operationParts(operations, options());
    expect(parts.map(({ rows }) => rows.map(({ op }) => op))).toEqual([
      ['make-directory', 'write-file', 'make-directory'],
      ['clone', 'write-file'],
      ['join-namespace'],
      ['overlay', 'join-namespace'],
      ['mask'],
      ['execute'],
    ]);
    expect(new Set(parts.map(({ title }) => title)).size).toBe(parts.length);
  });

  it('tells neighbours of one kind together', () => {
    const rows = operationParts(operations, options()).flatMap((part) => part.rows);
    expect(rows.find(({ op }) => op === 'mask')).toMatchObject({
      from: 9,
      to: 10,
      text: 'hide /proc/kcore, /proc/keys',
    });
  });

  it('tells what was told before as one, at the beginning only', () => {
    const known = new Set(['mkdir /a', 'echo 1 > /a/x', 'exec true']);
    const rows = operationParts(operations, options({ known })).flatMap((part) => part.rows);
    expect(rows[0]).toMatchObject({ from: 0, to: 1, text: 'as before' });
    expect(rows[1]).toMatchObject({ from: 2, to: 3, text: 'mkdir /a/b, /a/c' });
    expect(rows.at(-1)?.text).toBe('exec true');
  });

  it('loses none, whatever is told together', () => {
    for (const all of [false, true]) {
      const rows = operationParts(operations, options({ all, known: new Set(['mkdir /a']) })).flatMap(
        (part) => part.rows,
      );
      const covered = rows.flatMap(({ from, to }) =>
        Array.from({ length: to - from + 1 }, (__, i) => from + i),
      );
      expect(covered).toEqual(operations.map(({ index }) => index));
    }
  });

  it('has nothing to tell of nothing', () => {
    expect(operationParts([], options())).toEqual([]);
  });
});

const pod: PlannedPod = {
  namespace: 'default',
  name: 'web',
  uid: '<uid>',
  qos: 'Burstable',
  directories: ['/var/lib/kubelet/pods/<uid>'],
  volumes: [{ name: 'data', kind: 'secret', path: '/v/data', inMemory: true }],
  cgroup: {
    path: GROUP,
    steps: [
      { op: 'mkdir', path: '/sys/fs/cgroup/nodelet' },
      { op: 'mkdir', path: `/sys/fs/cgroup${GROUP}` },
      { op: 'write', path: `/sys/fs/cgroup${GROUP}/memory.max`, value: '1048576' },
    ],
  },
  images: [{ container: 'c', reference: 'example.com/x', pullPolicy: 'Always', action: 'pull' }],
  sandbox: { id: id('00'), plans: [{ name: id('00'), operations: list(['unshare', 'unshare net']) }] },
  network: {
    kind: 'bridge',
    addresses: ['10.88.0.2'],
    steps: [{ where: 'pod', action: 'ip link set eth0 up' }],
  },
  containers: [{ name: 'c', role: 'init', id: id('01'), image: 'example.com/x', mounts: [] }],
};

const page = (more: Partial<PlannedPod> = {}, all = false): string =>
  planLines([{ ...pod, ...more }], { container: undefined, all, style: plain }).join('\n');

describe('planLines', () => {
  it('numbers its sections', () => {
    const heads = page().match(/^\d+\. .*$/gm);
    expect(heads?.map((head) => head.replace(/ \(.*/, ''))).toEqual([
      '1. Images',
      '2. Directories and volumes',
      '3. Control group of the pod',
      '4. Sandbox',
      '5. Network',
      '6. Container c',
    ]);
  });

  it('a pod that the node would refuse', () => {
    expect(page({ rejection: { reason: 'OutOfcpu', message: 'too\nmuch' } })).toContain(
      String.raw`this node would refuse it: OutOfcpu: too\nmuch`,
    );
  });

  it('an image that is pulled first', () => {
    expect(page()).toMatch(/c +example\.com\/x +Always +pull +- +- +-/);
    expect(page()).toContain(
      '"example.com/x" is not here: what starts the container can be told once it is pulled',
    );
  });

  it("the host's network, and one that fails", () => {
    expect(page({ network: { kind: 'host', addresses: ['192.0.2.1'], steps: [] } })).toContain(
      "the pod uses the host's links, addresses (192.0.2.1) and ports",
    );
    const text = page({
      network: { kind: 'bridge', addresses: [], steps: [], problem: 'no address is free' },
    });
    expect(text).toContain('the pod could not be connected: no address is free');
    expect(text).not.toContain('WHERE');
  });

  it('counts the steps above the group of the pod, and tells them with --all', () => {
    expect(page()).toContain('and 1 step for the control groups above it; --all shows them');
    expect(page({}, true)).toContain('mkdir /sys/fs/cgroup/nodelet\n');
  });

  it('a container that no pod has', () => {
    expect(() => planLines([pod], { container: 'x', all: false, style: plain })).toThrow(
      expect.objectContaining({ code: 'CONTAINER_NOT_FOUND', hint: 'there is c' }) as Error,
    );
  });

  it('control characters of others are shown, not sent', () => {
    expect(page({ name: 'a\u001b[31m' })).not.toContain('\u001b');
  });
});
