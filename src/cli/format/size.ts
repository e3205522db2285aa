/** Bytes for people. Pure. */
import { NodeletError } from '../../base/index.ts';

function scaled(bytes: number, base: number, units: readonly string[]): string {
  let value = bytes;
  let unit = 0;
  // 999.5 would be printed as 1000 of the smaller unit
  while (value >= (base === 1000 ? 999.5 : 1023.5) && unit < units.length - 1) {
    value /= base;
    unit += 1;
  }
  const text = unit === 0 || value >= 99.95 ? value.toFixed(0) : value.toFixed(value >= 9.995 ? 1 : 2);
  return `${text.includes('.') ? text.replace(/\.?0+$/, '') : text}${units[unit]}`;
}

/** Sizes of images and files, decimal as docker, podman and crictl print them: `1.46MB`. */
export function formatSize(bytes: number): string {
  return scaled(bytes, 1000, ['B', 'kB', 'MB', 'GB', 'TB', 'PB']);
}

/** Memory, binary as its limits are: `64Mi` is written `64MiB`. */
export function formatMemory(bytes: number): string {
  return scaled(bytes, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']);
}

/** A whole number, 0 or more. Throws INVALID_ARGUMENT naming the option. */
export function parseCount(text: string, option: string): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) {
    throw new NodeletError('INVALID_ARGUMENT', `cannot use ${JSON.stringify(text)} for ${option}`, {
      hint: 'give a whole number, 0 or more',
    });
  }
  return value;
}
