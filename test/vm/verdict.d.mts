/** Types of verdict.mjs, which is plain Node because it runs before anything is built. */
export interface VitestReport {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numFailedTestSuites: number;
  readonly numPendingTests: number;
  readonly numTodoTests?: number;
  readonly testResults: readonly {
    readonly status: string;
    readonly assertionResults: readonly { readonly status: string }[];
  }[];
}

export interface Run {
  readonly console: string;
  readonly ended: string;
  readonly exit: number | null;
  readonly seconds: number;
  readonly results:
    | { readonly status: number; readonly report: VitestReport | undefined; readonly dmesg: string }
    | undefined;
}

export function kernelTrouble(text: string): { what: string; said: string }[];
export function problems(run: Run): string[];
export function counts(
  report: VitestReport | undefined,
  problemCount: number,
): { passed: number; failed: number; skipped: number };
