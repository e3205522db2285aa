/** What `nodelet doctor` finds. */

export const GROUPS = [
  'Program',
  'Rights',
  'Kernel',
  'Control groups',
  'Storage',
  'Network',
  'Machine',
] as const;
export type Group = (typeof GROUPS)[number];

export interface Finding {
  /** Stable: `overlay`, `nftables`, … */
  readonly id: string;
  readonly group: Group;
  readonly name: string;
  /** needed: pods do not run without it. recommended: something that people expect does not. */
  readonly level: 'needed' | 'recommended';
  /** unknown: it could not be tried; `found` says why. */
  readonly status: 'ok' | 'lacking' | 'unknown';
  /** What is there, or what happened when it was tried. */
  readonly found: string;
  /** What to do; where the status is not `ok`. */
  readonly mend?: string;
}

export interface Diagnosis {
  readonly root: string;
  readonly findings: readonly Finding[];
  /** Nothing that is needed is lacking. */
  readonly ready: boolean;
}
