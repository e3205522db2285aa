export { ENOSYS, EPERM, flagBits, RET } from './actions.ts';
export { BPF, MAX_INSTRUCTIONS } from './assemble.ts';
export { SeccompCache } from './cache.ts';
export { type CompileOptions, compileSeccomp } from './compile.ts';
export { RUNTIME_DEFAULT, runtimeDefault } from './default-profile.ts';
export { parseSeccompProfile } from './profile.ts';
export { resolveSeccomp } from './resolve.ts';
export { ABI_FACTS, ABIS, type Abi, isSyscallName, syscallName, syscallNumber, X32_BIT } from './syscalls.ts';
export type {
  CompiledSeccomp,
  ConditionalRule,
  ConditionalSeccomp,
  LinuxSeccomp,
  MachineArch,
  SeccompAction,
  SeccompArchitecture,
  SeccompArg,
  SeccompCondition,
  SeccompContext,
  SeccompFlag,
  SeccompOperator,
  SeccompRule,
} from './types.ts';
export { SECCOMP_ACTIONS, SECCOMP_ARCHITECTURES, SECCOMP_FLAGS, SECCOMP_OPERATORS } from './types.ts';
