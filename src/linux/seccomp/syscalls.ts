import { FOREIGN_SYSCALLS, SYSCALL_TABLE } from './syscalls.gen.ts';
import type { MachineArch, SeccompArchitecture } from './types.ts';

/** A system call interface that a process on an x86-64 or arm64 machine can use. */
export type Abi = 'x86_64' | 'i386' | 'x32' | 'arm64' | 'arm';

export const ABIS: readonly Abi[] = ['x86_64', 'i386', 'x32', 'arm64', 'arm'];

/** AUDIT_ARCH_* of linux/audit.h: the machine's ELF number, 64-bit flag and little-endian flag. */
export const AUDIT_ARCH = {
  X86_64: 0xc000_003e,
  I386: 0x4000_0003,
  AARCH64: 0xc000_00b7,
  ARM: 0x4000_0028,
} as const;

/** Every x32 system call number has this bit; `seccomp_data.arch` is that of x86-64. */
export const X32_BIT = 0x4000_0000;

export interface AbiFacts {
  readonly audit: number;
  /** Arguments are 32 bits: the filter sees zeros in the upper halves. x32 has full registers but compares so too. */
  readonly narrow: boolean;
  /** Numbers outside the common sequence: not newer than the profile, only elsewhere. Inclusive. */
  readonly apart?: readonly [from: number, to: number];
  readonly oci: SeccompArchitecture;
}

export const ABI_FACTS: Readonly<Record<Abi, AbiFacts>> = {
  x86_64: { audit: AUDIT_ARCH.X86_64, narrow: false, oci: 'SCMP_ARCH_X86_64' },
  i386: { audit: AUDIT_ARCH.I386, narrow: true, oci: 'SCMP_ARCH_X86' },
  // 512 to 547 are x32's own variants of older calls; no call will be added there.
  x32: {
    audit: AUDIT_ARCH.X86_64,
    narrow: true,
    apart: [X32_BIT + 512, X32_BIT + 547],
    oci: 'SCMP_ARCH_X32',
  },
  arm64: { audit: AUDIT_ARCH.AARCH64, narrow: false, oci: 'SCMP_ARCH_AARCH64' },
  // ARM's private calls (cacheflush, set_tls and so on).
  arm: { audit: AUDIT_ARCH.ARM, narrow: true, apart: [0x0f_0000, 0x0f_ffff], oci: 'SCMP_ARCH_ARM' },
};

/** The ABIs of a machine, its own first. */
export const MACHINE_ABIS: Readonly<Record<MachineArch, readonly Abi[]>> = {
  x64: ['x86_64', 'x32', 'i386'],
  arm64: ['arm64', 'arm'],
};

const column: Readonly<Record<Abi, number>> = { x86_64: 0, i386: 1, x32: 2, arm64: 3, arm: 4 };

/** The number of a call by name (x32 with its bit), or undefined where the ABI lacks it. */
export function syscallNumber(abi: Abi, name: string): number | undefined {
  // The names come from users: "constructor" is no system call.
  const row = Object.hasOwn(SYSCALL_TABLE, name) ? SYSCALL_TABLE[name] : undefined;
  const number = row?.[column[abi]] ?? -1;
  return number < 0 ? undefined : number;
}

/** The name of a call by number, or undefined. Walks the table: for people, not for hot paths. */
export function syscallName(abi: Abi, number: number): string | undefined {
  for (const [name, row] of Object.entries(SYSCALL_TABLE)) if (row[column[abi]] === number) return name;
  return undefined;
}

/** True for the name of a call on any architecture of Linux. */
export function isSyscallName(name: string): boolean {
  return Object.hasOwn(SYSCALL_TABLE, name) || FOREIGN_SYSCALLS.includes(name);
}
