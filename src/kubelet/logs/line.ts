/** Lines of a CRI log: `2026-01-02T15:04:05.123456789Z stdout F text`. */

export interface LogEntry {
  /** RFC 3339 with nanoseconds, as it is written. */
  readonly time: string;
  readonly stream: 'stdout' | 'stderr';
  /** True where the line goes on in the next entry of its stream. */
  readonly partial: boolean;
  readonly text: Buffer;
}

const SPACE = 0x20;
/** The tags stand between the third space and the second; several are joined by colons, the first says F or P. */
const PARTIAL = 0x50;

/** Undefined for what is no entry: a line that a crash cut. */
export function parseLogLine(line: Buffer): LogEntry | undefined {
  const first = line.indexOf(SPACE);
  const second = first < 0 ? -1 : line.indexOf(SPACE, first + 1);
  if (second < 0) return undefined;
  const third = line.indexOf(SPACE, second + 1);
  const tagEnd = third < 0 ? line.length : third;
  const time = line.toString('latin1', 0, first);
  const stream = line.toString('latin1', first + 1, second);
  if ((stream !== 'stdout' && stream !== 'stderr') || !/^\d{4}-\d\d-\d\dT/.test(time)) return undefined;
  const tag = line[second + 1];
  if (tagEnd === second + 1) return undefined;
  return {
    time,
    stream,
    partial: tag === PARTIAL,
    text: third < 0 ? Buffer.alloc(0) : line.subarray(third + 1),
  };
}

/** Nanoseconds since 1970 of an RFC 3339 time; undefined where it is none. */
export function nanosOf(time: string): bigint | undefined {
  const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)$/.exec(time);
  if (!match) return undefined;
  const seconds = Date.parse(`${match[1]}${match[3]}`);
  if (Number.isNaN(seconds)) return undefined;
  return BigInt(seconds) * 1_000_000n + BigInt((match[2] ?? '').padEnd(9, '0'));
}
