import type {
  ConditionalRule,
  ConditionalSeccomp,
  LinuxSeccomp,
  SeccompContext,
  SeccompRule,
} from './types.ts';

const GOARCH = { x64: 'amd64', arm64: 'arm64' } as const;
const MACHINE = { x64: 'SCMP_ARCH_X86_64', arm64: 'SCMP_ARCH_AARCH64' } as const;

/** The profile for one container: the rules whose conditions hold, the architectures of this machine. */
export function resolveSeccomp(profile: ConditionalSeccomp, context: SeccompContext): LinuxSeccomp {
  const { archMap, syscalls, ...rest } = profile;
  const mapped = archMap?.find((entry) => entry.architecture === MACHINE[context.arch]);
  return {
    ...rest,
    ...(archMap === undefined
      ? {}
      : { architectures: mapped ? [mapped.architecture, ...(mapped.subArchitectures ?? [])] : [] }),
    syscalls: (syscalls ?? []).filter((rule) => counts(rule, context)).map(plain),
  };
}

function counts({ includes = {}, excludes = {} }: ConditionalRule, context: SeccompContext): boolean {
  const has = (capability: string) => context.capabilities.includes(capability);
  const here = (arches: readonly string[]) => arches.includes(GOARCH[context.arch]);
  if (includes.caps && !includes.caps.every(has)) return false;
  if (includes.arches && includes.arches.length > 0 && !here(includes.arches)) return false;
  if (includes.minKernel && !atLeast(context.kernel, includes.minKernel)) return false;
  if (excludes.caps?.some(has)) return false;
  if (excludes.arches && here(excludes.arches)) return false;
  return !(excludes.minKernel && atLeast(context.kernel, excludes.minKernel));
}

function plain({ includes: _includes, excludes: _excludes, ...rule }: ConditionalRule): SeccompRule {
  return rule;
}

function atLeast(kernel: readonly [number, number], least: readonly [number, number]): boolean {
  return kernel[0] > least[0] || (kernel[0] === least[0] && kernel[1] >= least[1]);
}
