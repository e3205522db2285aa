/** Durations in and out. Milliseconds, but where a name says otherwise. Pure. */
import { NodeletError } from '../../base/index.ts';

const UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** `90s`, `1m30s`, `1.5h`, `500ms`, `2d`; a bare number counts seconds. Throws INVALID_ARGUMENT. */
export function parseDuration(text: string, what = 'duration'): number {
  const bare = /^\d+(?:\.\d+)?$/.test(text) ? `${text}s` : text;
  const parts = [...bare.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)];
  const milliseconds = parts.reduce(
    (sum, [, number = '', unit = '']) => sum + Number(number) * (UNITS[unit] ?? 0),
    0,
  );
  const whole = parts.map(([part]) => part).join('') === bare && parts.length > 0;
  if (!whole || !Number.isSafeInteger(Math.round(milliseconds))) {
    throw new NodeletError('INVALID_ARGUMENT', `cannot read the ${what} ${JSON.stringify(text)}`, {
      hint: 'write it as 30s, 5m, 1h30m or 500ms; a bare number counts seconds',
    });
  }
  return Math.round(milliseconds);
}

/** How long ago, as kubectl's AGE columns say it: two units at most, the second only while it tells something. */
export function formatAge(milliseconds: number): string {
  const seconds = Math.trunc(milliseconds / 1000);
  if (seconds < -1) return '<invalid>';
  if (seconds < 0) return '0s';
  if (seconds < 120) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 10) return pair(minutes, 'm', seconds % 60, 's');
  if (minutes < 180) return `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  if (hours < 8) return pair(hours, 'h', minutes % 60, 'm');
  if (hours < 48) return `${hours}h`;
  const days = Math.floor(hours / 24);
  if (days < 8) return pair(days, 'd', hours % 24, 'h');
  if (days < 2 * 365) return `${days}d`;
  const years = Math.floor(days / 365);
  return years < 8 ? pair(years, 'y', days % 365, 'd') : `${years}y`;
}

function pair(large: number, largeUnit: string, small: number, smallUnit: string): string {
  return small === 0 ? `${large}${largeUnit}` : `${large}${largeUnit}${small}${smallUnit}`;
}

/** The age of an RFC 3339 time at `now`; `<unknown>` where there is none. */
export function ageOf(time: string | undefined, now: number): string {
  const at = time === undefined ? Number.NaN : Date.parse(time);
  return Number.isNaN(at) ? '<unknown>' : formatAge(now - at);
}

/** `2 minutes ago`, as crictl and podman say it. */
export function formatAgo(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 1) return 'Less than a second ago';
  const steps: readonly (readonly [number, string])[] = [
    [365 * 86_400, 'year'],
    [30 * 86_400, 'month'],
    [7 * 86_400, 'week'],
    [86_400, 'day'],
    [3600, 'hour'],
    [60, 'minute'],
    [1, 'second'],
  ];
  for (const [size, unit] of steps) {
    const number = Math.floor(seconds / size);
    if (number >= (unit === 'week' || unit === 'month' ? 2 : 1) || unit === 'second')
      return `${number} ${unit}${number === 1 ? '' : 's'} ago`;
  }
  return '';
}

/** A span's length in microseconds: `850µs`, `1.42ms`, `2.31s`; three digits, not more. */
export function formatMicros(micros: number): string {
  if (micros < 1000) return `${Math.round(micros)}µs`;
  if (micros < 999_500) return `${digits(micros / 1000)}ms`;
  return `${digits(micros / 1_000_000)}s`;
}

function digits(value: number): string {
  if (value >= 99.95) return value.toFixed(0);
  return value.toFixed(value >= 9.995 ? 1 : 2);
}
