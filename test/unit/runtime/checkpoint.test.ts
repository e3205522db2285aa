import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cannotCheckpoint, findCriu } from '../../../src/runtime/checkpoint.ts';

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'nodelet-criu-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe('a checkpoint', () => {
  it('is not possible, and says whether CRIU is what lacks', () => {
    const criu = join(directory, 'criu');
    writeFileSync(criu, '');
    chmodSync(criu, 0o644);
    const path = `relative:${directory}:/no/such`;
    expect(findCriu(path)).toBeUndefined();
    expect(cannotCheckpoint('a'.repeat(64), path)).toMatchObject({
      code: 'UNIMPLEMENTED',
      message: `cannot checkpoint container "aaaaaaaaaaaa": there is no CRIU on this machine (no "criu" in ${path})`,
    });
    chmodSync(criu, 0o755);
    expect(findCriu(path)).toBe(criu);
    expect(cannotCheckpoint('a'.repeat(64), path).message).toContain(`CRIU is there ("${criu}")`);
  });
});
