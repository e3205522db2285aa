/**
 * Platforms (image-spec image-index.md) and the order in which a machine prefers them. Pure but for
 * `machinePlatform`, which looks at the process.
 */
import { NodeletError } from '../base/index.ts';
import { quote } from './digest.ts';

export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
}

/** Other names of GOARCH values, as containerd's platforms package accepts them. */
const aliases: Readonly<Record<string, readonly [architecture: string, variant?: string]>> = {
  x86_64: ['amd64'],
  'x86-64': ['amd64'],
  aarch64: ['arm64'],
  armhf: ['arm', 'v7'],
  armel: ['arm', 'v6'],
  i386: ['386'],
};

/** Node's names that are not GOARCH values. */
const nodeArchitectures: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386', ppc64: 'ppc64le' };

/** Makes two spellings of a platform equal: arm64/v8 and amd64/v1 are the plain architecture, arm alone is v7. */
export function normalisePlatform(platform: Platform): Platform {
  const os = platform.os.toLowerCase();
  const given = platform.architecture.toLowerCase();
  const [architecture, implied] = (Object.hasOwn(aliases, given) ? aliases[given] : undefined) ?? [given];
  let variant = platform.variant?.toLowerCase() ?? implied ?? '';
  if (/^\d+$/.test(variant)) variant = `v${variant}`;
  if (architecture === 'arm64' && variant === 'v8') variant = '';
  if (architecture === 'amd64' && variant === 'v1') variant = '';
  if (architecture === 'arm' && variant === '') variant = 'v7';
  return variant === '' ? { os, architecture } : { os, architecture, variant };
}

/** `linux/arm64`, `linux/arm/v7`. Throws INVALID_PLATFORM. */
export function parsePlatform(text: string): Platform {
  const parts = text.split('/');
  if (parts.length < 2 || parts.length > 3 || parts.some((part) => !/^[A-Za-z0-9_.-]{1,64}$/.test(part))) {
    throw new NodeletError('INVALID_PLATFORM', `cannot parse platform ${quote(text)}`, {
      hint: 'a platform is OS/ARCH or OS/ARCH/VARIANT, for example linux/amd64 or linux/arm/v7',
    });
  }
  const [os = '', architecture = '', variant] = parts;
  return normalisePlatform({ os, architecture, ...(variant === undefined ? {} : { variant }) });
}

export function formatPlatform(platform: Platform): string {
  const variant = platform.variant === undefined || platform.variant === '' ? '' : `/${platform.variant}`;
  return `${platform.os}/${platform.architecture}${variant}`;
}

export function machinePlatform(arch: string = process.arch): Platform {
  return normalisePlatform({ os: 'linux', architecture: nodeArchitectures[arch] ?? arch });
}

/** What a machine of platform `wanted` can run, the best first. */
export function acceptable(wanted: Platform): Platform[] {
  const { os, architecture, variant } = normalisePlatform(wanted);
  const of = (arch: string, ...variants: string[]): Platform[] =>
    variants.map((v) => normalisePlatform({ os, architecture: arch, ...(v === '' ? {} : { variant: v }) }));
  if (architecture === 'arm') {
    const version = Number(/^v(\d+)/.exec(variant ?? 'v7')?.[1] ?? 7);
    return of('arm', ...[8, 7, 6, 5].filter((v) => v <= version).map((v) => `v${v}`));
  }
  if (architecture === 'arm64') {
    const own = variant === undefined ? [] : of('arm64', variant);
    return [...own, ...of('arm64', ''), ...of('arm', 'v8', 'v7', 'v6', 'v5')];
  }
  if (architecture === 'amd64') {
    const version = Number(/^v(\d)$/.exec(variant ?? 'v1')?.[1] ?? 1);
    const levels = [4, 3, 2].filter((v) => v <= version).map((v) => `v${v}`);
    return [...of('amd64', ...levels, ''), ...of('386', '')];
  }
  return [normalisePlatform(wanted)];
}

/** Index of the best of `offered` for `wanted` (the first of equals), or -1. */
export function choosePlatform(offered: readonly (Platform | undefined)[], wanted: Platform): number {
  for (const candidate of acceptable(wanted)) {
    const text = formatPlatform(candidate);
    const found = offered.findIndex((p) => p !== undefined && formatPlatform(normalisePlatform(p)) === text);
    if (found >= 0) return found;
  }
  return -1;
}
