import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type MountInfo,
  mountAt,
  mountHolding,
  mountsUnder,
  parseMountinfo,
  unescapePath,
} from '../../../src/linux/mountinfo.ts';

describe('a line', () => {
  test("of the manual page's example", () => {
    expect(
      parseMountinfo('36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n'),
    ).toEqual([
      {
        id: 36,
        parent: 35,
        major: 98,
        minor: 0,
        root: '/mnt1',
        mountPoint: '/mnt2',
        options: ['rw', 'noatime'],
        master: 1,
        unbindable: false,
        type: 'ext3',
        source: '/dev/root',
        superOptions: ['rw', 'errors=continue'],
      },
    ]);
  });

  test.each<[string, string, Partial<MountInfo>]>([
    ['without optional fields', '1 1 0:1 / / rw - tmpfs tmpfs rw', { options: ['rw'], unbindable: false }],
    [
      'shared and slave at once',
      '1 1 0:1 / / rw shared:5 master:3 propagate_from:2 - tmpfs t rw',
      { shared: 5, master: 3, propagateFrom: 2 },
    ],
    ['unbindable', '1 1 0:1 / / rw unbindable - tmpfs t rw', { unbindable: true }],
    ['of a kind of tag that is not known yet', '1 1 0:1 / / rw future:1 - tmpfs t rw', { type: 'tmpfs' }],
    [
      'with an empty source',
      '1 1 0:1 / /mnt rw - overlay  rw,lowerdir=/a',
      { source: '', superOptions: ['rw', 'lowerdir=/a'] },
    ],
    ['with a hyphen as the source', '1 1 0:1 / /mnt rw - tmpfs - rw', { source: '-' }],
    [
      'with a hyphen as the mount point',
      '1 1 0:1 / /a-b rw shared:1 - tmpfs - rw',
      { mountPoint: '/a-b', shared: 1 },
    ],
    [
      'with spaces, tabs and backslashes',
      '1 1 0:1 / /a\\040b\\011c\\134d rw - tmpfs x\\040y rw',
      { mountPoint: '/a b\tc\\d', source: 'x y' },
    ],
    ['of a deleted bind source', '1 1 0:1 /x//deleted /mnt rw - ext4 /dev/vda rw', { root: '/x//deleted' }],
  ])('%s', (_, line, expected) => {
    expect(parseMountinfo(line)[0]).toMatchObject(expected);
  });

  test.each([
    'x',
    '36 35 98:0 /a /b rw',
    '36 35 980 /a /b rw - ext3 d rw',
    'a 35 98:0 /a /b rw - ext3 d rw',
    '1 1 0:1 / / rw - ext3',
  ])('that is none (%s) is refused', (line) => {
    expect(() => parseMountinfo(line)).toThrow(expect.objectContaining({ code: 'PROC_FORMAT' }));
  });
});

/** As the kernel writes a path (fs/proc_namespace.c: mangle). */
function escape(path: string): string {
  return path.replaceAll(/[ \t\n\\#]/g, (c) => `\\${c.charCodeAt(0).toString(8).padStart(3, '0')}`);
}

test('any path comes back as it was', () => {
  const name = fc.string({
    unit: fc.constantFrom('a', ' ', '\t', '\n', '\\', '#', '-', '0', '4', 'é'),
    minLength: 1,
  });
  fc.assert(
    fc.property(name, name, name, (root, point, source) => {
      expect(unescapePath(escape(point))).toBe(point);
      const line = `7 6 8:1 /${escape(root)} /${escape(point)} ro,nosuid shared:2 - ext4 ${escape(source)} rw\n`;
      expect(parseMountinfo(line)[0]).toMatchObject({ root: `/${root}`, mountPoint: `/${point}`, source });
    }),
  );
});

describe('looking up', () => {
  const mounts = parseMountinfo(
    [
      '1 0 8:1 / / rw - ext4 /dev/vda rw',
      '2 1 0:2 / /run rw - tmpfs first rw',
      '3 2 0:3 / /run rw - tmpfs second rw',
      '4 3 0:4 / /run/lock rw - tmpfs lock rw',
      '5 1 0:5 / /running rw - tmpfs other rw',
    ].join('\n'),
  );

  test('a mount point finds what covers it last', () => {
    expect(mountAt(mounts, '/run')?.source).toBe('second');
    expect(mountAt(mounts, '/nowhere')).toBeUndefined();
  });

  test('a path finds the mount that holds it', () => {
    expect(mountHolding(mounts, '/run/lock/a')?.source).toBe('lock');
    expect(mountHolding(mounts, '/run/x')?.source).toBe('second');
    expect(mountHolding(mounts, '/runner')?.source).toBe('/dev/vda');
    expect(mountHolding(mounts, '/')?.source).toBe('/dev/vda');
  });

  test('mounts under a directory come in the order in which they can be taken away', () => {
    expect(mountsUnder(mounts, '/run').map((mount) => mount.source)).toEqual(['lock', 'second', 'first']);
    expect(mountsUnder(mounts, '/')).toHaveLength(5);
  });
});
