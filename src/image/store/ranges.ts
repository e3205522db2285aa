/** Which bytes of a file are there: disjoint, sorted, not touching. Pure. */

/** `[from, to)`. */
export type Range = readonly [from: number, to: number];

/** `ranges` with `[from, to)` as well. */
export function addRange(ranges: readonly Range[], from: number, to: number): readonly Range[] {
  if (to <= from) return ranges;
  let start = from;
  let end = to;
  const before: Range[] = [];
  const after: Range[] = [];
  for (const range of ranges) {
    if (range[1] < start) before.push(range);
    else if (range[0] > end) after.push(range);
    else {
      start = Math.min(start, range[0]);
      end = Math.max(end, range[1]);
    }
  }
  return [...before, [start, end], ...after];
}

/** The gaps up to `size`. */
export function missingRanges(ranges: readonly Range[], size: number): Range[] {
  const gaps: Range[] = [];
  let at = 0;
  for (const [from, to] of ranges) {
    if (from > at) gaps.push([at, Math.min(from, size)]);
    at = Math.max(at, to);
  }
  if (at < size) gaps.push([at, size]);
  return gaps;
}

/** Bytes from the start on without a gap. */
export function prefixOf(ranges: readonly Range[]): number {
  const [first] = ranges;
  return first !== undefined && first[0] === 0 ? first[1] : 0;
}

export function bytesOf(ranges: readonly Range[]): number {
  return ranges.reduce((sum, [from, to]) => sum + to - from, 0);
}

/** Checks what a file says of itself: undefined where it cannot be true. */
export function readRanges(value: unknown, size: number): readonly Range[] | undefined {
  if (!Array.isArray(value)) return undefined;
  let ranges: readonly Range[] = [];
  for (const item of value as unknown[]) {
    if (!Array.isArray(item) || item.length !== 2) return undefined;
    const [from, to] = item as unknown[];
    if (!Number.isSafeInteger(from) || !Number.isSafeInteger(to)) return undefined;
    if ((from as number) < 0 || (to as number) <= (from as number) || (to as number) > size) return undefined;
    ranges = addRange(ranges, from as number, to as number);
  }
  return ranges;
}
