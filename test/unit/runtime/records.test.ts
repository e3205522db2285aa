import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type ContainerRecord, RecordStore } from '../../../src/runtime/records.ts';

let base: string;
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'nodelet-records-'));
});
afterEach(() => rmSync(base, { recursive: true, force: true }));

const record = (id: string): ContainerRecord =>
  ({ version: 1, id, sandboxId: 's', state: 'exited' }) as unknown as ContainerRecord;

test('a record that cannot be written holds back no other, and is written when it can be', () => {
  const store = new RecordStore(base);
  const blocked = store.containerDirectory('s', 'blocked');
  mkdirSync(dirname(blocked), { recursive: true });
  writeFileSync(blocked, 'in the way');
  for (const id of ['blocked', 'a', 'b']) store.saveSoon(record(id));
  expect(() => store.flush()).toThrow();
  for (const id of ['a', 'b'])
    expect(existsSync(join(store.containerDirectory('s', id), 'container.json'))).toBe(true);
  rmSync(blocked);
  store.flush();
  expect(existsSync(join(blocked, 'container.json'))).toBe(true);
});
