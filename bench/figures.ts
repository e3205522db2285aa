/** Figures of a series: quantiles, never means, because a shared machine stutters. */

export function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** `name   p10 p50 p90` in columns. */
export function row(name: string, values: readonly number[]): string {
  const cells = [0.1, 0.5, 0.9].map((q) => quantile(values, q).toFixed(2).padStart(9));
  return `${name.padEnd(16)}${cells.join('')}`;
}
