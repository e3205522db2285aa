/**
 * Somebody swaps a name while it is used: renameat2(RENAME_EXCHANGE), for ever, in a volume that attacker and victim share.
 * Each row is raced a thousand times, and shows by its outcomes that both sides of the swap were met.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { mountsUnder, readMountinfo } from '../../src/linux/mountinfo.ts';
import {
  type Battlefield,
  ESCAPED,
  inPod,
  MASKS,
  type Outcomes,
  openBattlefield,
  type Pod,
  ROUNDS,
  race,
  total,
  USER_NAMESPACE,
  whileAttacked,
} from '../fixtures/attack.ts';
import { patience } from '../fixtures/patience.ts';

const LONG = 300_000 * patience;

let field: Battlefield;
beforeAll(async () => {
  field = await openBattlefield();
});
afterAll(async () => {
  await field?.close();
});

/** A volume with things by name, and for each NAME a link `NAME.link`. */
function volumeOf(
  pairs: Readonly<Record<string, readonly [make: (path: string) => void, target: string]>>,
): string {
  const volume = field.directory('volume');
  for (const [name, [make, target]] of Object.entries(pairs)) {
    make(join(volume, name));
    symlinkSync(target, join(volume, `${name}.link`));
  }
  return volume;
}

/** Races a victim against the swap of each of these names with its link. */
async function swapped(
  pod: Pod,
  volume: string,
  names: readonly string[],
  victim: Parameters<typeof race>[2],
): Promise<Outcomes> {
  const mounts = [{ hostPath: volume, containerPath: '/vol' }];
  const words = names.flatMap((name) => [`/vol/${name}`, `/vol/${name}.link`]);
  return await whileAttacked(
    pod,
    ['attacker', 'swap', ...words],
    { mounts },
    async () => await race(pod, ROUNDS, victim),
  );
}

/** Nobody escaped, both sides were met, and every round was run. */
function expectHeld(outcomes: Outcomes, refused: RegExp): void {
  expect(outcomes[`exit ${ESCAPED}`] ?? 0).toBe(0);
  expect(total(outcomes)).toBe(ROUNDS);
  expect(total(outcomes, refused)).toBeGreaterThan(0);
  expect(outcomes['exit 0']).toBeGreaterThan(0);
  expect(total(outcomes, refused) + (outcomes['exit 0'] ?? 0)).toBe(ROUNDS);
}

const kinds = [
  ['', {}],
  [' with users of its own', { sandbox: USER_NAMESPACE }],
] as const;

describe('a volume', () => {
  // https://github.com/kubernetes/kubernetes/issues/104980
  test(
    'CVE-2021-25741: a sub-path that is swapped for a link to / mounts nothing of the host',
    async () => {
      const volume = volumeOf({ a: [mkdirSync, '/'] });
      const outcomes = await inPod(
        field,
        async (pod) =>
          await swapped(pod, volume, ['a'], () => ({
            command: ['attacker', 'look', field.secret, '/data'],
            options: { mounts: [{ hostPath: volume, containerPath: '/data', subPath: 'a' }] },
          })),
      );
      expectHeld(outcomes, /START_FAILED (EXDEV|ELOOP)/);
    },
    LONG,
  );

  // GHSA-c3xm-pvg7-gh7r, as reported: a first mount is led out, so that the source of a later one is the attacker's.
  test.each(kinds)(
    'CVE-2021-30465: a mount inside it stays inside, in a pod%s',
    async (_name, options) => {
      const host = field.directory('host');
      mkdirSync(join(host, 'target'));
      const volume = volumeOf({ a: [mkdirSync, host] });
      const other = field.directory('other');
      symlinkSync('/', join(other, 'target'));
      writeFileSync(join(other, 'file'), '');
      const before = mountsUnder(readMountinfo(), field.base);
      const outcomes = await inPod(
        field,
        async (pod) =>
          await swapped(pod, volume, ['a'], (round) => ({
            command: ['attacker', 'look', field.secret, '/vol/a', '/vol/a.link', '/far/off/host', '/'],
            options: {
              mounts: [
                { hostPath: volume, containerPath: '/vol' },
                { hostPath: other, containerPath: '/vol/a' },
                { hostPath: join(other, 'file'), containerPath: `/vol/a/made-${round}` },
                { hostPath: join(host, 'target'), containerPath: '/far/off/host' },
              ],
            },
          })),
        options,
      );
      expectHeld(outcomes, /START_FAILED (ELOOP|ENOENT|EACCES)/);
      expect(readdirSync(host)).toEqual(['target']);
      expect(mountsUnder(readMountinfo(), field.base)).toEqual(before);
    },
    LONG,
  );

  // GHSA-fh74-hm69-rqjw
  test.each(kinds)(
    'CVE-2019-19921: a mount inside it is not led over a file of /proc, in a pod%s',
    async (_name, options) => {
      const make = (path: string): void => void mkdirSync(join(path, 'sys'), { recursive: true });
      const volume = volumeOf({ a: [make, '/proc'] });
      const other = field.directory('other');
      const outcomes = await inPod(
        field,
        async (pod) =>
          await swapped(pod, volume, ['a'], () => ({
            command: ['attacker', 'look', field.secret, '/vol/a', '/'],
            options: {
              mounts: [
                { hostPath: volume, containerPath: '/vol' },
                { hostPath: other, containerPath: '/vol/a/sys' },
              ],
            },
          })),
        options,
      );
      expectHeld(outcomes, /START_FAILED EXDEV/);
    },
    LONG,
  );
});

describe('a /dev that is shared', () => {
  const masks = ['attacker', 'masks', ...MASKS];

  // GHSA-9493-h29p-rfm2; youki had the same: CVE-2025-54867, CVE-2025-62161, CVE-2025-62596
  test(
    'CVE-2025-31133: what hides a path is the null device, whatever /dev/null is',
    async () => {
      const node = (path: string): void => void execFileSync('mknod', [path, 'c', '1', '3']);
      const volume = volumeOf({ null: [node, '/proc/version'] });
      const outcomes = await inPod(
        field,
        async (pod) =>
          await swapped(pod, volume, ['null'], () => ({
            command: masks,
            options: { mounts: [{ hostPath: volume, containerPath: '/dev' }] },
          })),
      );
      expect(outcomes).toEqual({ 'exit 0': ROUNDS });
    },
    LONG,
  );

  // GHSA-qw9x-cqr3-wc7r; crun had the same with a /dev that is shared: CVE-2026-88264
  test(
    'CVE-2025-52565: a terminal is laid over no file of the kernel, whatever /dev/pts and /dev/console are',
    async () => {
      const empty = (path: string): void => writeFileSync(path, '');
      const volume = volumeOf({ pts: [mkdirSync, '/proc'], console: [empty, '/proc/version'] });
      const outcomes = await inPod(
        field,
        async (pod) =>
          await swapped(pod, volume, ['pts', 'console'], () => ({
            command: masks,
            options: {
              tty: true,
              mounts: [
                { hostPath: volume, containerPath: '/dev' },
                { hostPath: '/dev/pts', containerPath: '/dev/pts' },
              ],
            },
          })),
      );
      expectHeld(outcomes, /START_FAILED (ELOOP|EXDEV|ENOENT)/);
    },
    LONG,
  );
});

describe('the directory of all logs', () => {
  test(
    'logs: a pod’s log that is swapped for a link writes nothing elsewhere',
    async () => {
      const host = field.directory('host');
      const victims = field.directory('logs');
      mkdirSync(join(victims, 'a'));
      symlinkSync(host, join(victims, 'a.link'));
      const outcomes = await inPod(field, async (pod) => {
        const { record } = field.runtime.context.model.sandbox(pod.id);
        Object.assign(record.config, { logDirectory: victims });
        return await swapped(pod, victims, ['a'], (round) => ({
          command: ['echo', 'line'],
          options: { logPath: `a/${round}.log` },
        }));
      });
      expectHeld(outcomes, /^(START_FAILED )?(ELOOP|EXDEV|ENOTDIR)/);
      expect(readdirSync(host)).toEqual([]);
    },
    LONG,
  );
});
