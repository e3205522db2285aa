/**
 * Device cgroup rules in the OCI runtime specification's words (config-linux.md, "Allowed Device list").
 *
 * Rules are applied in order, the last one that says something about a device and an access wins; what no rule speaks
 * of is denied. An access is decided bit by bit: opening for reading and writing needs both to be allowed, by one rule
 * or by two.
 */
import { NodeletError } from '../../base/index.ts';

export interface DeviceRule {
  readonly allow: boolean;
  /** a: character and block devices. */
  readonly type: 'a' | 'b' | 'c';
  /** Absent (or -1, as some write it) for any. */
  readonly major?: number;
  readonly minor?: number;
  /** Of r, w and m (mknod); absent for all three. */
  readonly access?: string;
}

/** A rule after checking; wildcards are undefined. */
export interface CheckedDeviceRule {
  readonly allow: boolean;
  readonly type: 'a' | 'b' | 'c';
  readonly major: number | undefined;
  readonly minor: number | undefined;
  /** DEVICE_ACCESS bits, at least one. */
  readonly access: number;
}

/** BPF_DEVCG_ACC_* of linux/bpf.h. */
export const DEVICE_ACCESS = { m: 1, r: 2, w: 4 } as const;
export const ALL_ACCESS = 7;

/** Minor numbers have 20 bits in the kernel (MINORBITS), major numbers 12. */
const MAX_MAJOR = 0xfff;
const MAX_MINOR = 0xf_ffff;

/** Throws DEVICE_RULE_INVALID naming `devices[i]` and the field. */
export function checkDeviceRules(rules: readonly DeviceRule[]): CheckedDeviceRule[] {
  return rules.map((rule, i) => {
    const field = `devices[${i}]`;
    if (!['a', 'b', 'c'].includes(rule.type)) {
      throw invalid(`${field}.type`, `expected a, b or c, found ${JSON.stringify(rule.type)}`);
    }
    const access = rule.access ?? 'rwm';
    if (!/^[rwm]{1,3}$/.test(access)) {
      throw invalid(`${field}.access`, `expected letters of r, w and m, found ${JSON.stringify(access)}`);
    }
    let bits = 0;
    for (const letter of access) bits |= DEVICE_ACCESS[letter as keyof typeof DEVICE_ACCESS];
    return {
      allow: rule.allow,
      type: rule.type,
      major: number(rule.major, MAX_MAJOR, `${field}.major`),
      minor: number(rule.minor, MAX_MINOR, `${field}.minor`),
      access: bits,
    };
  });
}

function number(value: number | undefined, most: number, field: string): number | undefined {
  if (value === undefined || value === -1) return undefined;
  if (!Number.isInteger(value) || value < 0 || value > most) {
    throw invalid(field, `expected a number from 0 to ${most}, found ${value}`);
  }
  return value;
}

function invalid(field: string, problem: string): NodeletError {
  return new NodeletError('DEVICE_RULE_INVALID', `cannot use the device rule: ${field}: ${problem}`, {
    details: { field },
  });
}

const rwm = (major: number, minor?: number): DeviceRule => ({
  allow: true,
  type: 'c',
  major,
  ...(minor === undefined ? {} : { minor }),
  access: 'rwm',
});

/** What every container may use, as runc and crun have it. */
export const defaultDeviceRules: readonly DeviceRule[] = [
  { allow: false, type: 'a', access: 'rwm' },
  // A node may be made; opening it is another matter.
  { allow: true, type: 'c', access: 'm' },
  { allow: true, type: 'b', access: 'm' },
  rwm(1, 3), // null
  rwm(1, 5), // zero
  rwm(1, 7), // full
  rwm(1, 8), // random
  rwm(1, 9), // urandom
  rwm(5, 0), // tty
  rwm(5, 2), // ptmx
  rwm(136), // pts/*
  rwm(10, 200), // net/tun: without CAP_NET_ADMIN it makes no interface in a namespace that is not one's own
];

/** A privileged container's. */
export const allDeviceRules: readonly DeviceRule[] = [{ allow: true, type: 'a', access: 'rwm' }];

/** `c 1:3 rwm`, the form of cgroup v1's files; `a` with numbers has none there and becomes two lines. */
export function deviceRuleTexts(rule: CheckedDeviceRule): string[] {
  const access = (['r', 'w', 'm'] as const)
    .filter((letter) => (rule.access & DEVICE_ACCESS[letter]) !== 0)
    .join('');
  const everything = rule.major === undefined && rule.minor === undefined;
  if (rule.type === 'a' && everything && rule.access === ALL_ACCESS) return ['a'];
  const types = rule.type === 'a' ? (['b', 'c'] as const) : [rule.type];
  return types.map((type) => `${type} ${rule.major ?? '*'}:${rule.minor ?? '*'} ${access}`);
}

/**
 * The same rules for a host where the v1 devices controller is what counts: lines for devices.allow and devices.deny of
 * the cgroup, to be written in this order. A fresh v1 cgroup has its parent's rules, so everything is denied first.
 */
export function deviceRulesV1(
  rules: readonly DeviceRule[],
): { readonly file: 'devices.allow' | 'devices.deny'; readonly value: string }[] {
  const lines = checkDeviceRules(rules).flatMap((rule) =>
    deviceRuleTexts(rule).map((value) => ({
      file: rule.allow ? ('devices.allow' as const) : ('devices.deny' as const),
      value,
    })),
  );
  const first = lines[0];
  if (first !== undefined && first.value === 'a') return lines;
  return [{ file: 'devices.deny', value: 'a' }, ...lines];
}
