import { describe, expect, test } from 'vitest';
import { MOUNT_ATTR as A, MS } from '../../../src/linux/constants.ts';
import { parseMountOptions } from '../../../src/runtime/launch/mount-options.ts';

describe('mount options', () => {
  test.each([
    ['ro', ['ro'], { set: A.RDONLY, clear: 0 }],
    ['the last of two that exclude each other', ['ro', 'rw'], { set: 0, clear: A.RDONLY }],
    ['for the whole tree', ['rro', 'rnosuid'], { recursiveSet: A.RDONLY | A.NOSUID, set: 0 }],
    ['of access time: one field', ['noatime', 'strictatime'], { set: A.STRICTATIME, clear: A.ATIME }],
    ['relatime, whose first letter is no "whole tree"', ['relatime'], { set: A.RELATIME, recursiveSet: 0 }],
    ['bind', ['bind', 'ro'], { bind: true, recursive: false, data: [] }],
    [
      'rbind',
      ['rbind', 'rslave'],
      { bind: true, recursive: true, propagation: MS.SLAVE, propagationRecursive: true },
    ],
    ['private', ['private'], { propagation: MS.PRIVATE, propagationRecursive: false }],
    ['for the file system', ['mode=755', 'size=64k', 'defaults'], { data: ['mode=755', 'size=64k'], set: 0 }],
    ['idmap', ['bind', 'idmap'], { idmap: true, idmapRecursive: false }],
    ['idmap of the whole tree', ['rbind', 'ridmap'], { idmap: true, idmapRecursive: true }],
    ['copy-up', ['tmpcopyup', 'size=1m'], { copyUp: true, data: ['size=1m'] }],
  ] as const)('%s', (_, options, expected) => {
    expect(parseMountOptions(options)).toMatchObject(expected);
  });

  test.each(['copy-symlink', 'src-nofollow'])('%s is refused by name', (option) => {
    expect(() => parseMountOptions([option])).toThrow(`mount option "${option}" is not supported`);
  });
});
