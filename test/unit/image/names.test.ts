import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { NodeletError } from '../../../src/base/index.ts';
import { defaultLimits } from '../../../src/image/unpack/limits.ts';
import { classifyName, keepXattr, showName } from '../../../src/image/unpack/names.ts';

const classify = (name: string): unknown => classifyName(name, defaultLimits);

describe('classifyName', () => {
  test.each([
    ['a', 'a'],
    ['./a/b', 'a/b'],
    ['/etc/passwd', 'etc/passwd'],
    ['a//b/./c/', 'a/b/c'],
    ['a/..b/...', 'a/..b/...'],
    ['a.wh.b', 'a.wh.b'],
    ['./', ''],
    ['/', ''],
    ['\xff/\xfe', '\xff/\xfe'],
  ])('%s is %s in the layer', (name, path) => {
    expect(classify(name)).toMatchObject({ kind: 'entry', path });
  });

  test.each([
    ['a/.wh.b', { kind: 'whiteout', path: 'a/b', parent: 'a', base: 'b' }],
    ['.wh.b', { kind: 'whiteout', path: 'b', parent: '', base: 'b' }],
    ['.wh....', { kind: 'whiteout', path: '...', parent: '', base: '...' }],
    ['a/.wh..wh..opq', { kind: 'opaque', parent: 'a' }],
    ['.wh..wh..opq', { kind: 'opaque', parent: '' }],
    ['.wh..wh.plnk/1.2', { kind: 'ignored' }],
    ['.wh..wh.aufs', { kind: 'ignored' }],
    ['.wh..wh..', { kind: 'ignored' }],
  ])('%s', (name, expected) => {
    expect(classify(name)).toEqual(expected);
  });

  test.each([
    ['../a', /has a "\.\." part/],
    ['a/../../b', /has a "\.\." part/],
    ['/..', /has a "\.\." part/],
    ['.wh.', /no whiteout of a file/],
    ['a/.wh..', /no whiteout of a file/],
    ['a/.wh...', /no whiteout of a file/],
    ['.wh.a/b', /below a whiteout/],
    ['a\0b', /NUL byte/],
    [`${'a/'.repeat(2048)}b`, /4097 bytes, more than 4096/],
    ['b'.repeat(256), /256 bytes, more than 255/],
  ])('refuses %j', (name, reason) => {
    expect(() => classify(name)).toThrow(reason);
    expect(() => classify(name)).toThrow(expect.objectContaining({ code: 'LAYER_UNSAFE' }));
  });

  test('no accepted name can climb, start at the root or name a whiteout', () => {
    const name = fc.string({ maxLength: 60, unit: fc.constantFrom('.', '/', 'a', '.wh.', '..', '\0') });
    fc.assert(
      fc.property(name, (text) => {
        let found: ReturnType<typeof classifyName>;
        try {
          found = classifyName(text, defaultLimits);
        } catch (error) {
          expect((error as NodeletError).code).toBe('LAYER_UNSAFE');
          return;
        }
        if (found.kind !== 'entry' && found.kind !== 'whiteout') return;
        const parts = found.path === '' ? [] : found.path.split('/');
        expect(parts).not.toContain('..');
        expect(parts).not.toContain('.');
        expect(parts).not.toContain('');
        expect(found.path).toBe(found.parent === '' ? found.base : `${found.parent}/${found.base}`);
      }),
      { numRuns: 2000 },
    );
  });
});

test.each([
  ['security.capability', true],
  ['user.mime', true],
  ['user.overlay.opaque', false],
  ['trusted.overlay.opaque', false],
  ['trusted.x', false],
  ['security.selinux', false],
  ['security.ima', false],
  ['system.posix_acl_access', false],
])('keepXattr(%s) is %s', (name, kept) => {
  expect(keepXattr(name)).toBe(kept);
});

test('names are shown as text where they are, quoted and short', () => {
  expect(showName(Buffer.from('é\n').toString('latin1'))).toBe('"é\\n"');
  expect(showName('a'.repeat(500)).length).toBeLessThan(210);
});
