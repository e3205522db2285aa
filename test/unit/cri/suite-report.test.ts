import { describe, expect, test } from 'vitest';
import { atLeast } from '../../cri/judges.mjs';
import { count, fromGinkgo, fromVitest, judgeSkips } from '../../cri/report.ts';

const spec = (LeafNodeText: string, State: string, Message?: string, LeafNodeType = 'It') => ({
  ContainerHierarchyTexts: ['Room'],
  LeafNodeText,
  LeafNodeType,
  State,
  ...(Message === undefined ? {} : { Failure: { Message } }),
});

describe('a report of ginkgo', () => {
  test('tells what ran, under its whole name, and leaves out what a filter left out', () => {
    const outcomes = fromGinkgo([
      {
        SpecReports: [
          spec('passes', 'passed'),
          spec('fails', 'failed', 'expected 1'),
          spec('is skipped', 'skipped', 'no AppArmor'),
          spec('is filtered', 'skipped'),
        ],
      },
    ]);
    expect(outcomes).toEqual([
      { name: 'Room passes', state: 'passed', message: '' },
      { name: 'Room fails', state: 'failed', message: 'expected 1' },
      { name: 'Room is skipped', state: 'skipped', message: 'no AppArmor' },
    ]);
  });

  test.each(['panicked', 'interrupted', 'timedout', 'aborted'])('counts what %s as failed', (state) => {
    expect(count(fromGinkgo([{ SpecReports: [spec('x', state)] }]))).toEqual({
      passed: 0,
      failed: 1,
      skipped: 0,
    });
  });

  test('tells of a set-up that fails, not of one that passes', () => {
    const reports = [
      spec('', 'passed', undefined, 'BeforeSuite'),
      spec('', 'failed', 'no socket', 'BeforeSuite'),
    ];
    expect(fromGinkgo([{ SpecReports: reports }])).toEqual([
      { name: 'Room BeforeSuite', state: 'failed', message: 'no socket' },
    ]);
  });
});

test('a file of vitest that does not even load is a failure', () => {
  const file = { name: 'a.test.ts', message: 'cannot find module', assertionResults: [] };
  expect(fromVitest({ testResults: [file] })).toEqual([
    { name: 'a.test.ts', state: 'failed', message: 'cannot find module' },
  ]);
});

test('a skip is allowed by the spec and by the words that it says', () => {
  const skipped = (name: string, message: string) => ({ name, state: 'skipped' as const, message });
  const allowed = [{ spec: /AppArmor/, message: /^disabled$/, reason: '' }];
  const judged = judgeSkips(
    [skipped('AppArmor a', 'disabled'), skipped('AppArmor b', 'no such image'), skipped('Exec', 'disabled')],
    allowed,
  );
  expect(judged.map(({ state }) => state)).toEqual(['skipped', 'failed', 'failed']);
});

test.each([
  ['1.26.2', '1.26.2', true],
  ['1.26.10', '1.26.2', true],
  ['1.27', '1.26.2', true],
  ['1.26', '1.26.2', false],
  ['1.19', '1.26.2', false],
])('Go %s is new enough for %s: %s', (has, needs, enough) => {
  expect(atLeast(has, needs)).toBe(enough);
});
