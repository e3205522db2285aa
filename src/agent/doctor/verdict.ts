/** How a verdict is said. Pure. */
import type { Facts, Outcome, RightsFacts } from './facts.ts';
import type { Finding, Group } from './types.ts';

export type Rule = (facts: Facts) => Finding | readonly Finding[] | undefined;

/** A finding about one thing, still without its outcome. */
export interface About {
  ok(found: string): Finding;
  lacking(found: string, mend: string): Finding;
  unknown(found: string, mend: string): Finding;
  /** Without it some things do not work, and others do. */
  recommended(): About;
}

export function finding(id: string, group: Group, name: string, level: Finding['level'] = 'needed'): About {
  const about = { id, group, name, level } as const;
  return {
    ok: (found) => ({ ...about, status: 'ok', found }),
    lacking: (found, mend) => ({ ...about, status: 'lacking', found, mend }),
    unknown: (found, mend) => ({ ...about, status: 'unknown', found, mend }),
    recommended: () => finding(id, group, name, 'recommended'),
  };
}

export interface Trial {
  readonly rights: RightsFacts;
  readonly good: string;
  /** Before what the failure says. */
  readonly bad: string;
  readonly mend: string;
}

/** What came of trying. Where somebody who is not root was refused, nothing is known. */
export function tried(about: About, outcome: Outcome<unknown>, { rights, good, bad, mend }: Trial): Finding {
  if (outcome.ok) return about.ok(good);
  if (rights.uid !== 0 && (outcome.code === 'EPERM' || outcome.code === 'EACCES'))
    return about.unknown('root is needed to try it', 'run it with sudo');
  return about.lacking(`${bad}${outcome.message}`, outcome.hint ?? mend);
}

/** True where a version (`20.18.1`) is at least this one. */
export function atLeast(version: string, [major, minor]: readonly [number, number]): boolean {
  const [a = 0, b = 0] = version.split('.').map(Number);
  return a > major || (a === major && b >= minor);
}

export function bytes(value: number): string {
  const gib = value / 1024 ** 3;
  return gib >= 1 ? `${gib.toFixed(gib >= 10 ? 0 : 1)} GiB` : `${Math.floor(value / 1024 ** 2)} MiB`;
}
