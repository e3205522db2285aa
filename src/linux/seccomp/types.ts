/**
 * The vocabulary of a seccomp profile: `LinuxSeccomp` of the OCI runtime specification (config-linux.md, section
 * "Seccomp"), field for field.
 */

export const SECCOMP_ACTIONS = [
  'SCMP_ACT_KILL',
  'SCMP_ACT_KILL_PROCESS',
  'SCMP_ACT_KILL_THREAD',
  'SCMP_ACT_TRAP',
  'SCMP_ACT_ERRNO',
  'SCMP_ACT_TRACE',
  'SCMP_ACT_ALLOW',
  'SCMP_ACT_LOG',
  'SCMP_ACT_NOTIFY',
] as const;
export type SeccompAction = (typeof SECCOMP_ACTIONS)[number];

export const SECCOMP_OPERATORS = [
  'SCMP_CMP_NE',
  'SCMP_CMP_LT',
  'SCMP_CMP_LE',
  'SCMP_CMP_EQ',
  'SCMP_CMP_GE',
  'SCMP_CMP_GT',
  'SCMP_CMP_MASKED_EQ',
] as const;
export type SeccompOperator = (typeof SECCOMP_OPERATORS)[number];

export const SECCOMP_FLAGS = [
  'SECCOMP_FILTER_FLAG_TSYNC',
  'SECCOMP_FILTER_FLAG_LOG',
  'SECCOMP_FILTER_FLAG_SPEC_ALLOW',
  'SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV',
] as const;
export type SeccompFlag = (typeof SECCOMP_FLAGS)[number];

/** Every architecture that the specification names. Those of other families than the machine's have no effect. */
export const SECCOMP_ARCHITECTURES = [
  'SCMP_ARCH_X86',
  'SCMP_ARCH_X86_64',
  'SCMP_ARCH_X32',
  'SCMP_ARCH_ARM',
  'SCMP_ARCH_AARCH64',
  'SCMP_ARCH_MIPS',
  'SCMP_ARCH_MIPS64',
  'SCMP_ARCH_MIPS64N32',
  'SCMP_ARCH_MIPSEL',
  'SCMP_ARCH_MIPSEL64',
  'SCMP_ARCH_MIPSEL64N32',
  'SCMP_ARCH_PPC',
  'SCMP_ARCH_PPC64',
  'SCMP_ARCH_PPC64LE',
  'SCMP_ARCH_S390',
  'SCMP_ARCH_S390X',
  'SCMP_ARCH_PARISC',
  'SCMP_ARCH_PARISC64',
  'SCMP_ARCH_RISCV64',
  'SCMP_ARCH_LOONGARCH64',
  'SCMP_ARCH_M68K',
  'SCMP_ARCH_SH',
  'SCMP_ARCH_SHEB',
] as const;
export type SeccompArchitecture = (typeof SECCOMP_ARCHITECTURES)[number];

/** A comparison of one argument, all numbers unsigned 64-bit. */
export interface SeccompArg {
  /** 0 to 5. */
  readonly index: number;
  /** What the argument is compared with; for MASKED_EQ the mask. */
  readonly value: number | bigint;
  /** For MASKED_EQ what the masked argument has to be, default 0. */
  readonly valueTwo?: number | bigint;
  readonly op: SeccompOperator;
}

export interface SeccompRule {
  readonly names: readonly string[];
  readonly action: SeccompAction;
  /** For ERRNO and TRACE only; default EPERM. */
  readonly errnoRet?: number;
  /** All have to hold, except that an index which appears twice turns every comparison into a rule of its own. */
  readonly args?: readonly SeccompArg[];
}

export interface LinuxSeccomp {
  readonly defaultAction: SeccompAction;
  readonly defaultErrnoRet?: number;
  /** The machine's own architecture is always covered, named or not. */
  readonly architectures?: readonly SeccompArchitecture[];
  readonly flags?: readonly SeccompFlag[];
  readonly syscalls?: readonly SeccompRule[];
}

/** When a rule of a conditional profile counts: every field that is given has to hold. */
export interface SeccompCondition {
  /** Capability names (`CAP_…`): the container has every one of them. */
  readonly caps?: readonly string[];
  /** Names as Go has them: amd64, 386, arm64, arm, x32 and so on: the machine's is one of them. */
  readonly arches?: readonly string[];
  /** The kernel is at least this one. */
  readonly minKernel?: readonly [major: number, minor: number];
}

/** A rule as Docker's profile format extends it. */
export interface ConditionalRule extends SeccompRule {
  /** The rule counts only where all of this holds. */
  readonly includes?: SeccompCondition;
  /** The rule does not count where any of this holds. */
  readonly excludes?: SeccompCondition;
}

/** A profile before it is known for which container it is. */
export interface ConditionalSeccomp extends Omit<LinuxSeccomp, 'syscalls'> {
  /** Instead of `architectures`: the machine's architecture and those that come with it. */
  readonly archMap?: readonly {
    readonly architecture: SeccompArchitecture;
    readonly subArchitectures?: readonly SeccompArchitecture[];
  }[];
  readonly syscalls?: readonly ConditionalRule[];
}

/** The two machines that nodelet runs on, by Node's `process.arch`. */
export type MachineArch = 'x64' | 'arm64';

/** For which container a profile is meant. */
export interface SeccompContext {
  /** The bounding set, `CAP_…`. */
  readonly capabilities: readonly string[];
  readonly arch: MachineArch;
  readonly kernel: readonly [major: number, minor: number];
}

/** What seccomp(2) takes. */
export interface CompiledSeccomp {
  /** `struct sock_filter[]`, little-endian, 8 bytes an instruction. */
  readonly program: Uint8Array;
  /** SECCOMP_FILTER_FLAG_* bits. */
  readonly flags: number;
  readonly instructions: number;
  /** Names in the profile that no architecture of Linux knows: misspelt, or newer than nodelet's tables. */
  readonly unknown: readonly string[];
}
