import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { tryOverlay } from '../../../src/linux/overlay.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'nodelet-overlay-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

describe('trying whether an overlay can be made', () => {
  test('leaves nothing', () => {
    tryOverlay(directory);
    expect(readdirSync(directory)).toEqual([]);
  });

  test('removes what one left that was killed, and nothing of one that is at it', () => {
    const { pid } = spawnSync('true');
    const [dead, alive] = [`.nodelet-probe-${pid}-x`, `.nodelet-probe-${process.pid}-y`];
    for (const name of [dead, alive]) {
      mkdirSync(join(directory, name, 'upper'), { recursive: true });
      writeFileSync(join(directory, name, 'upper', 'file'), '');
    }
    writeFileSync(join(directory, '.nodelet-probe-mine'), '');
    tryOverlay(directory);
    expect(existsSync(join(directory, dead))).toBe(false);
    expect(readdirSync(directory).sort()).toEqual([alive, '.nodelet-probe-mine'].sort());
  });
});
