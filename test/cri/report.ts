/** What a suite found, in one form: of critest's JSON (ginkgo) and of vitest's. Pure. */

export interface Outcome {
  readonly name: string;
  readonly state: 'passed' | 'failed' | 'skipped';
  /** Why it failed or was skipped; empty where it passed. */
  readonly message: string;
}

export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

interface Spec {
  readonly ContainerHierarchyTexts: readonly string[] | null;
  readonly LeafNodeText: string;
  readonly LeafNodeType: string;
  readonly State: string;
  readonly Failure?: { readonly Message?: string };
}

/** The specs that ran, and every set-up or tear-down of the suite that failed. Those that a filter left out are not told. */
export function fromGinkgo(report: readonly { readonly SpecReports: readonly Spec[] | null }[]): Outcome[] {
  return report
    .flatMap(({ SpecReports }) => SpecReports ?? [])
    .flatMap((spec): Outcome[] => {
      const name = [...(spec.ContainerHierarchyTexts ?? []), spec.LeafNodeText || spec.LeafNodeType].join(
        ' ',
      );
      const message = spec.Failure?.Message ?? '';
      const isSpec = spec.LeafNodeType === 'It';
      if (spec.State === 'passed') return isSpec ? [{ name, state: 'passed', message: '' }] : [];
      // What a filter left out is skipped without a word.
      if (spec.State === 'skipped' && message === '') return [];
      const state = spec.State === 'skipped' || spec.State === 'pending' ? 'skipped' : 'failed';
      return [{ name, state, message: message || spec.State }];
    });
}

interface VitestFile {
  readonly name: string;
  readonly message: string;
  readonly assertionResults: readonly {
    readonly fullName: string;
    readonly status: string;
    readonly failureMessages?: readonly string[] | null;
  }[];
}

export function fromVitest({ testResults }: { readonly testResults: readonly VitestFile[] }): Outcome[] {
  return testResults.flatMap(({ name: file, message, assertionResults }): Outcome[] => {
    const outcomes = assertionResults.map(({ fullName: name, status, failureMessages }): Outcome => {
      if (status === 'passed') return { name, state: 'passed', message: '' };
      if (status === 'failed') return { name, state: 'failed', message: failureMessages?.[0] ?? '' };
      return { name, state: 'skipped', message: status };
    });
    // The file itself, or what it does before its first test.
    const broken = message !== '' && outcomes.every(({ state }) => state !== 'failed');
    return broken ? [...outcomes, { name: file, state: 'failed', message }] : outcomes;
  });
}

/** A spec that may be skipped, by the words that it says when it is. */
export interface AllowedSkip {
  readonly spec: RegExp;
  readonly message: RegExp;
  readonly reason: string;
}

/** Makes a failure of each skip that nobody allowed. */
export function judgeSkips(outcomes: readonly Outcome[], allowed: readonly AllowedSkip[]): Outcome[] {
  return outcomes.map((one) => {
    if (one.state !== 'skipped') return one;
    const known = allowed.some(({ spec, message }) => spec.test(one.name) && message.test(one.message));
    return known
      ? one
      : { ...one, state: 'failed', message: `skipped without a reason we know: ${one.message}` };
  });
}

export function count(outcomes: readonly Outcome[]): Counts {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const { state } of outcomes) counts[state] += 1;
  return counts;
}
