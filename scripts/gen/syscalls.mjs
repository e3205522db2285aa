// Generates src/linux/seccomp/syscalls.gen.ts: system call numbers by name for the five ABIs that a nodelet filter
// can meet (x86_64, i386, x32, arm64, arm EABI), the names that only other architectures have, and which arguments
// of a call are no wider than 32 bits.
//
// Input, two Debian packages unpacked into one directory:
//   linux-libc-dev           the kernel's exported headers. Since 6.11 it is architecture "all" and holds every
//                            architecture under usr/lib/linux/uapi/<arch>/asm; Debian 12's is older and has x86 only.
//   linux-headers-*-common   include/linux/syscalls.h, the prototypes of the calls.
//
//   apt-get download linux-libc-dev linux-headers-<version>-common   (with a newer suite in the sources list)
//   for deb in *.deb; do dpkg-deb -x $deb DIR; done
//   node scripts/gen/syscalls.mjs DIR          writes the file
//   node scripts/gen/syscalls.mjs --check DIR  only compares, exit 1 where it differs
//
// It is therefore no part of `npm run generate` and `npm run verify`: they run where those packages are absent.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Column order of the table; the source file of each ABI below usr/lib/linux/uapi. */
const ABIS = [
  ['x86_64', ['x86/asm/unistd_64.h']],
  ['i386', ['x86/asm/unistd_32.h']],
  ['x32', ['x86/asm/unistd_x32.h']],
  ['arm64', ['arm64/asm/unistd_64.h']],
  ['arm', ['arm/asm/unistd-eabi.h', 'arm/asm/unistd.h']],
];

const X32_BIT = 0x40000000;
const ARM_PRIVATE = 0x0f0000;

/** name → number, from the text of one header. */
function numbers(text) {
  const found = new Map();
  for (const [, prefix, name, value] of text.matchAll(
    /^#define\s+__(ARM_)?NR_(\w+)\s+(.+?)\s*(?:\/\*.*)?$/gm,
  )) {
    if (/^(SYSCALL_|OABI_|BASE$|syscalls$|compat|arch_specific|Linux|O32_|N32_|64_)/.test(name)) continue;
    const text = value.replace(/^\((.*)\)$/, '$1').trim();
    const sum = /^(?:(\w+)\s*\+\s*)?(\d+)$/.exec(text);
    if (sum) {
      const base = { __X32_SYSCALL_BIT: X32_BIT, __NR_SYSCALL_BASE: 0, __ARM_NR_BASE: ARM_PRIVATE }[
        sum[1] ?? '__NR_SYSCALL_BASE'
      ];
      if (base !== undefined) found.set(name, base + Number(sum[2]));
      else if (prefix === undefined) found.set(name, Number(sum[2])); // another architecture: only the name counts
      continue;
    }
    const alias = /^__NR_(\w+)$/.exec(text);
    if (alias && found.has(alias[1])) found.set(name, found.get(alias[1]));
  }
  return found;
}

/** Types of include/linux/syscalls.h that leave the upper half of a 64-bit register unread. */
const NARROW =
  /^(const )?(int|unsigned int|unsigned(?! long\b)|u?int32_t|(__)?[us](32|16|8)|u?mode_t|pid_t|uid_t|gid_t|qid_t|key_t|key_serial_t|mqd_t|clockid_t|timer_t|rwf_t|old_[ug]id_t|unsigned char|unsigned short|enum \w+)( \w+)?$/;

/** Calls whose prototype has another name than their number. */
const PROTOTYPES = {
  umount2: 'umount',
  stat: 'newstat',
  lstat: 'newlstat',
  fstat: 'newfstat',
  uname: 'newuname',
  _newselect: 'select',
};

/** name → bit i set where argument i has a type of at most 32 bits. */
function narrowArguments(header, names) {
  const masks = new Map();
  for (const [, name, list] of header.matchAll(/asmlinkage long sys_(\w+)\(([^)]*)\)/g)) {
    let mask = 0;
    for (const [i, type] of list.split(',').entries()) {
      if (NARROW.test(type.replaceAll(/\s+/g, ' ').trim())) mask |= 1 << i;
    }
    // Prototypes that a configuration changes (clone) count only where all variants agree.
    masks.set(name, (masks.get(name) ?? mask) & mask);
  }
  // clone(2) takes an unsigned long and reads its lower half: lower_32_bits(clone_flags).
  masks.set('clone', masks.get('clone') | 1);
  // Declared by the architectures, not in the common header.
  masks.set('arch_prctl', 1).set('modify_ldt', 1).set('iopl', 1);
  return new Map(
    names.map((name) => [name, masks.get(PROTOTYPES[name] ?? name) ?? 0]).filter(([, mask]) => mask > 0),
  );
}

/** The text of the generated file, from an unpacked linux-libc-dev in `directory`. */
export function syscallsSource(directory) {
  const uapi = join(directory, 'usr/lib/linux/uapi');
  const read = (path) => readFileSync(join(uapi, path), 'utf8');
  const tables = ABIS.map(([, paths]) => numbers(paths.map(read).join('\n')));
  // arch/arm defines the alias in a header of its own, after the numbers.
  tables[4].set('sync_file_range2', tables[4].get('arm_sync_file_range'));
  const names = [...new Set(tables.flatMap((table) => [...table.keys()]))].sort();

  const foreign = new Set();
  for (const arch of readdirSync(uapi)) {
    const folder = join(uapi, arch, 'asm');
    if (!existsSync(folder)) continue;
    for (const file of readdirSync(folder)) {
      if (!/^unistd.*\.h$/.test(file)) continue;
      for (const name of numbers(read(`${arch}/asm/${file}`)).keys()) {
        // Alpha's OSF/1 calls and the reserved slots of tables are no names that a profile would hold.
        if (!names.includes(name) && !/^(osf_|reserved\d|unused\d)/.test(name)) foreign.add(name);
      }
    }
  }

  const sources = join(directory, 'usr/src');
  const common = readdirSync(sources).find((name) => /^linux-headers-.*-common$/.test(name));
  if (common === undefined) throw new Error(`no linux-headers-*-common in ${sources}`);
  const narrow = narrowArguments(
    readFileSync(join(sources, common, 'include/linux/syscalls.h'), 'utf8'),
    names,
  );

  const newest = Math.max(...tables[0].values());
  const lines = [
    "// Generated by scripts/gen/syscalls.mjs from the Linux headers of Debian's linux-libc-dev: do not edit.",
    `// Newest common system call: ${newest} (${[...tables[0]].find(([, n]) => n === newest)[0]}).`,
    '',
    '/** Numbers in the order x86_64, i386, x32 (with bit 30), arm64, arm EABI; -1 where the ABI lacks the call. */',
    'export const SYSCALL_TABLE: Readonly<Record<string, readonly [number, number, number, number, number]>> = {',
    ...names.map((name) => `  ${name}: [${tables.map((table) => table.get(name) ?? -1).join(', ')}],`),
    '};',
    '',
    '/** Names that only other architectures of Linux have: no spelling mistakes, but without effect here. */',
    'export const FOREIGN_SYSCALLS: readonly string[] = [',
    ...[...foreign].sort().map((name) => `  '${name}',`),
    '];',
    '',
    '/** Bit i: argument i is at most 32 bits wide, so the kernel never looks at the upper half of its register. */',
    'export const NARROW_ARGUMENTS: Readonly<Record<string, number>> = {',
    ...[...narrow].map(([name, mask]) => `  ${name}: 0b${mask.toString(2)},`),
    '};',
    '',
  ];
  return lines.join('\n');
}

const self = fileURLToPath(import.meta.url);
if (process.argv[1] === self) {
  const check = process.argv.includes('--check');
  const directory = process.argv.slice(2).find((argument) => argument !== '--check');
  if (directory === undefined) throw new Error('usage: node scripts/gen/syscalls.mjs [--check] DIR');
  const target = join(dirname(dirname(dirname(self))), 'src/linux/seccomp/syscalls.gen.ts');
  const text = syscallsSource(directory);
  if (!check) writeFileSync(target, text);
  else if (readFileSync(target, 'utf8') !== text) {
    console.error('src/linux/seccomp/syscalls.gen.ts is not what its generator writes');
    process.exitCode = 1;
  }
}
