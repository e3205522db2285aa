import { posix } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { NodeletError } from '../../../src/base/index.ts';
import { collect, type Disk, type DiskStat } from '../../../src/image/pack/closure.ts';
import { parseElf } from '../../../src/image/pack/elf.ts';
import {
  configuredDirectories,
  defaultDirectories,
  expandTokens,
  searchPath,
} from '../../../src/image/pack/library-path.ts';
import { scriptInterpreter } from '../../../src/image/pack/script.ts';

interface ElfSpec {
  readonly needed?: readonly string[];
  readonly rpath?: string;
  readonly runpath?: string;
  readonly interpreter?: string;
  readonly machine?: number;
  readonly bits?: 32 | 64;
  readonly big?: boolean;
}

/** A small but true ELF file: header, program headers, interpreter, dynamic section, strings. */
function elf(spec: ElfSpec = {}): Buffer {
  const wide = spec.bits !== 32;
  const big = spec.big === true;
  const out = Buffer.alloc(4096);
  const u16 = (at: number, value: number): number =>
    big ? out.writeUInt16BE(value, at) : out.writeUInt16LE(value, at);
  const u32 = (at: number, value: number): number =>
    big ? out.writeUInt32BE(value, at) : out.writeUInt32LE(value, at);
  const word = (at: number, value: number): number => {
    if (!wide) return u32(at, value);
    return big ? out.writeBigUInt64BE(BigInt(value), at) : out.writeBigUInt64LE(BigInt(value), at);
  };
  out.set([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, big ? 2 : 1, 1]);
  u16(18, spec.machine ?? 62);
  const strings = ['\0'];
  const offsetOf = (text: string): number => strings.join('').length + (strings.push(`${text}\0`) && 0);
  const tags: [number, number][] = (spec.needed ?? []).map((name) => [1, offsetOf(name)]);
  if (spec.rpath !== undefined) tags.push([15, offsetOf(spec.rpath)]);
  if (spec.runpath !== undefined) tags.push([29, offsetOf(spec.runpath)]);
  const base = 0x40_0000;
  tags.push([5, base + 2048], [10, strings.join('').length], [0, 0]);
  const segments: { type: number; offset: number; address: number; size: number }[] = [
    { type: 1, offset: 0, address: base, size: 4096 },
    { type: 2, offset: 1024, address: base + 1024, size: tags.length * (wide ? 16 : 8) },
  ];
  if (spec.interpreter !== undefined) {
    out.write(`${spec.interpreter}\0`, 512, 'latin1');
    segments.push({ type: 3, offset: 512, address: base + 512, size: spec.interpreter.length + 1 });
  }
  const entry = wide ? 56 : 32;
  word(wide ? 32 : 28, 64);
  u16(wide ? 54 : 42, entry);
  u16(wide ? 56 : 44, segments.length);
  segments.forEach((segment, i) => {
    const at = 64 + i * entry;
    u32(at, segment.type);
    word(at + (wide ? 8 : 4), segment.offset);
    word(at + (wide ? 16 : 8), segment.address);
    word(at + (wide ? 32 : 16), segment.size);
  });
  tags.forEach(([tag, value], i) => {
    word(1024 + i * (wide ? 16 : 8), tag);
    word(1024 + i * (wide ? 16 : 8) + (wide ? 8 : 4), value);
  });
  out.write(strings.join(''), 2048, 'latin1');
  return out;
}

const reader = (data: Buffer) => (offset: number, length: number) => data.subarray(offset, offset + length);

describe('parseElf', () => {
  test.each([
    ['64 bit, little endian', {}],
    ['32 bit, little endian', { bits: 32, machine: 3 }],
    ['64 bit, big endian', { big: true, machine: 22 }],
    ['32 bit, big endian', { bits: 32, big: true, machine: 8 }],
  ] as const)('%s', (_name, kind) => {
    const file = elf({
      ...kind,
      needed: ['libc.so.6', 'libm.so.6'],
      runpath: '$ORIGIN/../lib:/opt/lib',
      rpath: '/r',
      interpreter: '/lib/ld.so',
    });
    expect(parseElf(reader(file), 'x')).toMatchObject({
      bits: 'bits' in kind ? kind.bits : 64,
      littleEndian: !('big' in kind),
      interpreter: '/lib/ld.so',
      needed: ['libc.so.6', 'libm.so.6'],
      runpath: ['$ORIGIN/../lib', '/opt/lib'],
      rpath: ['/r'],
    });
  });

  test('a damaged file is an error of its own, whatever the damage', () => {
    const whole = elf({ needed: ['a', 'b'], interpreter: '/i', rpath: '/r' });
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 200 }),
        fc.integer({ min: 0, max: 255 }),
        fc.integer({ min: 4, max: 4096 }),
        (at, value, size) => {
          const file = Buffer.from(whole.subarray(0, size));
          file[at] = value;
          try {
            parseElf(reader(file), 'x');
          } catch (error) {
            expect((error as NodeletError).code).toBe('ELF_INVALID');
          }
        },
      ),
      { numRuns: 2000 },
    );
  });
});

describe('scriptInterpreter', () => {
  test.each([
    ['#!/bin/sh\n', { program: '/bin/sh', viaEnv: undefined }],
    ['#! /usr/bin/perl -w\n', { program: '/usr/bin/perl', viaEnv: undefined }],
    ['#!/usr/bin/env node\n', { program: '/usr/bin/env', viaEnv: 'node' }],
    ['#!/usr/bin/env -S node --flag\n', { program: '/usr/bin/env', viaEnv: 'node' }],
    ['#!/usr/bin/env -u X A=b python3\r\n', { program: '/usr/bin/env', viaEnv: 'python3' }],
    ['#!/bin/sh', { program: '/bin/sh', viaEnv: undefined }],
    ['#!sh\n', undefined],
    ['echo', undefined],
    ['', undefined],
  ])('%j', (text, expected) => {
    expect(scriptInterpreter(Buffer.from(text))).toEqual(expected);
  });
});

describe('library path', () => {
  const object = (path: string, spec: ElfSpec): { path: string; elf: ReturnType<typeof parseElf> } => ({
    path,
    elf: parseElf(reader(elf(spec)), path),
  });
  const defaults = [
    '/lib/x86_64-linux-gnu',
    '/usr/lib/x86_64-linux-gnu',
    '/lib64',
    '/usr/lib64',
    '/lib',
    '/usr/lib',
  ];

  test('RPATH of the object and of who loaded it, then configuration, then defaults', () => {
    const main = object('/opt/app/bin/main', { rpath: '$ORIGIN/../lib' });
    const library = object('/opt/app/lib/libx.so', { rpath: '${ORIGIN}/deps' });
    expect(searchPath(library, [main], ['/conf'])).toEqual([
      '/opt/app/lib/deps',
      '/opt/app/bin/../lib',
      '/conf',
      ...defaults,
    ]);
  });

  test('RUNPATH shuts every RPATH out', () => {
    const main = object('/m', { rpath: '/main' });
    const library = object('/l', { rpath: '/own', runpath: '/run' });
    expect(searchPath(library, [main], [])).toEqual(['/run', ...defaults]);
  });

  test('$LIB and $PLATFORM', () => {
    expect(expandTokens('/x/$LIB/${PLATFORM}', '/y', { bits: 64, machine: 62 })).toBe(
      '/x/lib/x86_64-linux-gnu/x86_64',
    );
    expect(defaultDirectories({ bits: 32, machine: 3 })[0]).toBe('/lib/i386-linux-gnu');
  });

  test('ld.so.conf with includes, comments, loops and musl', () => {
    const files: Record<string, string> = {
      '/etc/ld.so.conf': '# first\ninclude ld.so.conf.d/*.conf\n/opt/a /opt/b:/opt/c\nhwcap 1 nosegneg\n',
      '/etc/ld.so.conf.d/2.conf': '/two\ninclude /etc/ld.so.conf\n',
      '/etc/ld.so.conf.d/1.conf': '/one # here\n',
      '/etc/ld.so.conf.d/x.txt': '/never\n',
      '/etc/ld-musl-x86_64.path': '/musl\n',
    };
    const host = {
      readText: (path: string) => files[path],
      list: (path: string) =>
        Object.keys(files)
          .filter((name) => posix.dirname(name) === path)
          .map((name) => posix.basename(name)),
    };
    const found = configuredDirectories(host);
    expect(found.slice(0, 2)).toEqual(['/one', '/two']);
    expect(found).toEqual(expect.arrayContaining(['/opt/a', '/opt/b', '/opt/c', '/musl']));
    expect(found).not.toContain('/never');
  });
});

/** A machine in memory: text or bytes are files, `-> x` are links, null are devices. */
function disk(tree: Record<string, string | Buffer | null>): Disk {
  const folders = new Set<string>(['/']);
  for (const path of Object.keys(tree))
    for (let at = posix.dirname(path); at !== '/'; at = posix.dirname(at)) folders.add(at);
  const linkOf = (path: string): string | undefined => {
    const value = tree[path];
    return typeof value === 'string' && value.startsWith('-> ') ? value.slice(3) : undefined;
  };
  return {
    lstat(path): DiskStat | undefined {
      if (tree[path] === null) return { kind: 'other', mode: 0 };
      if (linkOf(path) !== undefined) return { kind: 'symlink', mode: 0o777 };
      if (tree[path] !== undefined) return { kind: 'file', mode: 0o755 };
      return folders.has(path) ? { kind: 'directory', mode: 0o755 } : undefined;
    },
    readlink: (path) => linkOf(path) ?? '',
    readText: (path) => (typeof tree[path] === 'string' ? tree[path] : undefined),
    list: (path) => [
      ...new Set(
        [...Object.keys(tree), ...folders]
          .filter((name) => name !== '/' && posix.dirname(name) === path)
          .map((name) => posix.basename(name)),
      ),
    ],
    readAt: (path) => reader(Buffer.from(tree[path] ?? '')),
  };
}

const one = (source: string, target?: string): { source: string; target: string | undefined }[] => [
  { source, target },
];

describe('collect', () => {
  const ld = elf();
  const merged: Record<string, string | Buffer | null> = {
    '/bin': '-> usr/bin',
    '/lib': '-> usr/lib',
    '/lib64': '-> usr/lib64',
    '/usr/lib64/ld-linux-x86-64.so.2': '-> ../lib/x86_64-linux-gnu/ld.so',
    '/usr/lib/x86_64-linux-gnu/ld.so': ld,
    '/usr/lib/x86_64-linux-gnu/libc.so.6': elf({ needed: ['ld.so'] }),
    '/usr/lib/x86_64-linux-gnu/libz.so.1': '-> libz.so.1.2',
    '/usr/lib/x86_64-linux-gnu/libz.so.1.2': elf({ needed: ['libc.so.6'] }),
    '/usr/bin/sh': '-> dash',
    '/usr/bin/dash': elf({ interpreter: '/lib64/ld-linux-x86-64.so.2', needed: ['libc.so.6'] }),
    '/usr/bin/prog': elf({ interpreter: '/lib64/ld-linux-x86-64.so.2', needed: ['libz.so.1', 'libc.so.6'] }),
    '/usr/bin/script': '#!/bin/sh\n',
    '/usr/bin/env': elf({ interpreter: '/lib64/ld-linux-x86-64.so.2', needed: ['libc.so.6'] }),
    '/usr/bin/by-env': '#!/usr/bin/env prog\n',
    '/dev/null': null,
  };

  test('a program brings its linker and libraries, through links as they are', () => {
    const { items, startsWithProgram, machine } = collect(one('/bin/sh'), disk(merged), []);
    expect(startsWithProgram).toBe(true);
    expect(machine).toBe(62);
    expect([...items.keys()].sort()).toEqual([
      '/bin',
      '/lib',
      '/lib64',
      '/usr',
      '/usr/bin',
      '/usr/bin/dash',
      '/usr/bin/sh',
      '/usr/lib',
      '/usr/lib/x86_64-linux-gnu',
      '/usr/lib/x86_64-linux-gnu/ld.so',
      '/usr/lib/x86_64-linux-gnu/libc.so.6',
      '/usr/lib64',
      '/usr/lib64/ld-linux-x86-64.so.2',
    ]);
    expect(items.get('/bin')).toEqual({ kind: 'symlink', target: 'usr/bin' });
  });

  test('libraries of libraries, by links', () => {
    const { items } = collect(one('/usr/bin/prog'), disk(merged), []);
    expect(items.get('/usr/lib/x86_64-linux-gnu/libz.so.1')).toEqual({
      kind: 'symlink',
      target: 'libz.so.1.2',
    });
    expect(items.has('/usr/lib/x86_64-linux-gnu/libz.so.1.2')).toBe(true);
  });

  test('scripts bring their interpreter, also by env', () => {
    expect(collect(one('/usr/bin/script'), disk(merged), []).items.has('/usr/bin/dash')).toBe(true);
    const { items } = collect(one('/usr/bin/by-env'), disk(merged), ['/nowhere', '/bin']);
    expect(items.has('/usr/bin/env')).toBe(true);
    expect(items.has('/usr/bin/prog')).toBe(true);
  });

  test('a mapped file goes elsewhere, its libraries stay where they are', () => {
    const { items } = collect(one('/bin/sh', '/app/run'), disk(merged), []);
    expect(items.get('/app/run')).toMatchObject({ kind: 'file', source: '/usr/bin/dash' });
    expect(items.get('/app')).toEqual({ kind: 'directory', mode: 0o755 });
    expect(items.has('/usr/bin/dash')).toBe(false);
    expect(items.has('/usr/lib/x86_64-linux-gnu/libc.so.6')).toBe(true);
  });

  test('a directory comes with everything in it, also what its links and programs need', () => {
    const tree = {
      ...merged,
      '/srv/a': 'text',
      '/srv/tool': '-> /usr/bin/prog',
      '/srv/broken': '-> nowhere',
      '/srv/deep/b': 'x',
      '/srv/pipe': null,
    };
    const { items, warnings } = collect(one('/srv', '/data'), disk(tree), []);
    expect(items.get('/data/tool')).toEqual({ kind: 'symlink', target: '/usr/bin/prog' });
    expect(items.has('/usr/bin/prog')).toBe(true);
    expect(items.has('/data/deep/b')).toBe(true);
    expect(warnings.join()).toMatch(/"\/srv\/pipe" is no file.*|the link "\/srv\/broken" leads nowhere/);
    expect(warnings).toHaveLength(2);
  });

  test('a library found only by configuration or $ORIGIN of a moved program is named to the linker inside', () => {
    const tree = {
      ...merged,
      '/etc/ld.so.conf': '/opt/vendor\n',
      '/opt/vendor/libv.so': elf(),
      '/opt/app/lib/libo.so': elf(),
      '/opt/app/bin/a': elf({ needed: ['libv.so', 'libo.so'], runpath: '$ORIGIN/../lib' }),
    };
    expect(collect(one('/opt/app/bin/a'), disk(tree), []).libraryDirectories).toEqual(['/opt/vendor']);
    expect(collect(one('/opt/app/bin/a', '/a'), disk(tree), []).libraryDirectories).toEqual([
      '/opt/app/lib',
      '/opt/vendor',
    ]);
  });

  test('a library for another machine is passed over', () => {
    const tree = { ...merged, '/etc/ld.so.conf': '/opt/arm\n', '/opt/arm/libc.so.6': elf({ machine: 183 }) };
    const { items } = collect(one('/usr/bin/dash'), disk(tree), []);
    expect(items.has('/opt/arm/libc.so.6')).toBe(false);
  });

  test.each<[string, Record<string, string | Buffer | null>, string, RegExp]>([
    ['a missing file', {}, '/none', /^PACK_NOT_FOUND: cannot pack "\/none": there is no such file/],
    ['a device', { '/dev/x': null }, '/dev/x', /^PACK_NOT_FOUND: .*no such file/],
    ['a loop of links', { '/a': '-> b', '/b': '-> a' }, '/a', /^PACK_NOT_FOUND/],
    [
      'a missing library',
      { '/p': elf({ needed: ['libnone.so'] }) },
      '/p',
      /^PACK_LIBRARY_MISSING: cannot pack "\/p": its library "libnone.so" is missing/,
    ],
    [
      'a missing linker',
      { '/p': elf({ interpreter: '/ld' }) },
      '/p',
      /^PACK_NOT_FOUND: .*its dynamic linker "\/ld" is missing/,
    ],
    [
      'a missing interpreter',
      { '/s': '#!/bin/none\n' },
      '/s',
      /^PACK_NOT_FOUND: .*its interpreter "\/bin\/none" is missing/,
    ],
    [
      'an interpreter not in PATH',
      { '/s': '#!/env x\n', '/env': 'x' },
      '/s',
      /^PACK_NOT_FOUND: .*"x" is not in PATH/,
    ],
    [
      'scripts upon scripts',
      Object.fromEntries(Array.from({ length: 8 }, (_, i) => [`/s${i}`, `#!/s${i + 1}\n`])),
      '/s0',
      /^PACK_NOT_FOUND/,
    ],
  ])('refuses %s', (_name, tree, path, expected) => {
    let text = 'accepted';
    try {
      collect(one(path), disk(tree), ['/bin']);
    } catch (error) {
      text = error instanceof NodeletError ? `${error.code}: ${error.message}` : String(error);
    }
    expect(text).toMatch(expected);
  });
});
