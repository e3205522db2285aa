/**
 * CPU shares (2 to 262144, default 1024) as a v2 cpu.weight (1 to 10000, default 100). Two formulas are in use:
 * runtimes map the defaults onto each other since runc 1.3.2 and crun 1.23; the kubelet maps linearly, which makes 1024
 * shares a weight of 39.
 */
export const MIN_SHARES = 2;
export const MAX_SHARES = 262_144;

/** The kernel clamps shares into this range; 0 stays 0, "not set". */
export function clampShares(shares: number): number {
  return shares === 0 ? 0 : Math.min(MAX_SHARES, Math.max(MIN_SHARES, shares));
}

/** For a container's cgroup: a quadratic function through (2, 1), (1024, 100) and (262144, 10000) in logarithms. */
export function containerCpuWeight(shares: number): number {
  if (shares <= MIN_SHARES) return 1;
  if (shares >= MAX_SHARES) return 10_000;
  const log = Math.log2(shares);
  return Math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34));
}

/** For cgroups that the kubelet writes (kubepods, QoS classes, pods): linear, rounded down. */
export function podCpuWeight(shares: number): number {
  const clamped = clampShares(Math.max(shares, MIN_SHARES));
  return 1 + Math.floor(((clamped - MIN_SHARES) * 9999) / (MAX_SHARES - MIN_SHARES));
}
