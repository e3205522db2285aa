/** Milliseconds of a duration in Go's notation (`1m30s`, `1.5h`, `500ms`, `0`), or undefined where it is none. Pure. */
export function parseGoDuration(text: string): number | undefined {
  if (text === '0') return 0;
  const units: Readonly<Record<string, number>> = {
    ns: 1e-6,
    us: 1e-3,
    µs: 1e-3,
    ms: 1,
    s: 1000,
    m: 60_000,
    h: 3_600_000,
  };
  const negative = text.startsWith('-');
  const rest = text.replace(/^[+-]/, '');
  if (rest.length > 64 || !/^(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|ms|s|m|h))+$/.test(rest)) return undefined;
  let total = 0;
  for (const [, count = '', unit = ''] of rest.matchAll(/(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)/g))
    total += Number(count) * (units[unit] ?? 0);
  return negative ? -total : total;
}
