/**
 * Where the dynamic linker looks for libraries (ld.so(8)): RPATH or RUNPATH of the object, /etc/ld.so.conf, the
 * default directories. LD_LIBRARY_PATH and the cache are left out: the first is not part of a program, the second is
 * made from the same file. Pure over `Host`.
 */
import { posix } from 'node:path';
import type { ElfFile } from './elf.ts';

/** What is asked of the machine. */
export interface Host {
  /** Content of a text file, or undefined where there is none. */
  readText(path: string): string | undefined;
  /** Names in a directory, none where there is none. */
  list(path: string): readonly string[];
}

const multiarch: Readonly<Record<number, string>> = {
  3: 'i386-linux-gnu',
  40: 'arm-linux-gnueabihf',
  62: 'x86_64-linux-gnu',
  183: 'aarch64-linux-gnu',
  243: 'riscv64-linux-gnu',
  21: 'powerpc64le-linux-gnu',
  22: 's390x-linux-gnu',
};

/** Directories that the dynamic linker knows without being told. */
export function defaultDirectories(elf: Pick<ElfFile, 'bits' | 'machine'>): string[] {
  const triplet = multiarch[elf.machine];
  const own = triplet === undefined ? [] : [`/lib/${triplet}`, `/usr/lib/${triplet}`];
  const wide = elf.bits === 64 ? ['/lib64', '/usr/lib64'] : [];
  return [...own, ...wide, '/lib', '/usr/lib'];
}

/** Directories of /etc/ld.so.conf and what it includes, in order; of musl's path file where there is one. */
export function configuredDirectories(host: Host): string[] {
  const found: string[] = [];
  const read = (path: string, depth: number): void => {
    const text = host.readText(path);
    if (text === undefined || depth > 8) return;
    for (const raw of text.split('\n')) {
      const line = raw.replace(/#.*/, '').trim();
      const include = /^include\s+(.+)$/.exec(line);
      if (include !== null) {
        for (const pattern of (include[1] ?? '').split(/\s+/)) {
          for (const file of expand(host, pattern, posix.dirname(path))) read(file, depth + 1);
        }
      } else if (!/^hwcap\s/.test(line)) {
        // Old files separate by blanks, colons or commas, and may name a library type.
        for (const part of line.split(/[\s:,]+/))
          if (part.startsWith('/')) found.push(part.replace(/=.*$/, ''));
      }
    }
  };
  read('/etc/ld.so.conf', 0);
  for (const name of host.list('/etc')) {
    if (!/^ld-musl-.*\.path$/.test(name)) continue;
    found.push(
      ...(host.readText(`/etc/${name}`) ?? '').split(/[\s:]+/).filter((part) => part.startsWith('/')),
    );
  }
  return found;
}

/** A pattern with wildcards in its last part, as include lines have them. */
function expand(host: Host, pattern: string, from: string): string[] {
  const path = pattern.startsWith('/') ? pattern : posix.join(from, pattern);
  const name = posix.basename(path);
  if (!/[*?[]/.test(name)) return [path];
  const source = name
    .replace(/[.+^${}()|\\]/g, '\\$&')
    .replace(/\*/g, '[^/]*')
    .replace(/\?/g, '[^/]');
  const matcher = new RegExp(`^${source}$`);
  const folder = posix.dirname(path);
  return [...host.list(folder)]
    .filter((entry) => matcher.test(entry))
    .sort()
    .map((entry) => posix.join(folder, entry));
}

/** $ORIGIN, $LIB and $PLATFORM of a search path of the object at `path`. */
export function expandTokens(
  directory: string,
  path: string,
  elf: Pick<ElfFile, 'bits' | 'machine'>,
): string {
  const triplet = multiarch[elf.machine];
  const lib = triplet === undefined ? (elf.bits === 64 ? 'lib64' : 'lib') : `lib/${triplet}`;
  const platform = ({ 3: 'i686', 62: 'x86_64', 183: 'aarch64' } as Record<number, string>)[elf.machine] ?? '';
  return directory
    .replace(/\$\{?ORIGIN\}?/g, posix.dirname(path))
    .replace(/\$\{?LIB\}?/g, lib)
    .replace(/\$\{?PLATFORM\}?/g, platform);
}

export interface Loader {
  readonly path: string;
  readonly elf: ElfFile;
}

/**
 * Directories to look in for what `object` needs, in order. `chain` are the objects that caused it to be loaded, the
 * nearest first: their RPATH counts too, but only where the object has no RUNPATH.
 */
export function searchPath(
  object: Loader,
  chain: readonly Loader[],
  configured: readonly string[],
): string[] {
  const own = (loader: Loader, paths: readonly string[]): string[] =>
    paths.map((directory) => expandTokens(directory, loader.path, loader.elf));
  const inherited =
    object.elf.runpath.length > 0
      ? []
      : [object, ...chain].flatMap((loader) =>
          loader.elf.runpath.length > 0 ? [] : own(loader, loader.elf.rpath),
        );
  return [...inherited, ...own(object, object.elf.runpath), ...configured, ...defaultDirectories(object.elf)];
}
