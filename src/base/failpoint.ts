/**
 * Named points between two steps that touch the disk or the kernel. `NODELET_FAILPOINTS` arms them,
 * so that a test can kill the process, or raise an error, exactly there:
 *
 *   NODELET_FAILPOINTS='container:after-snapshot=kill;atomic-file:before-rename=3*off->error'
 *
 * A term is `[count*]action`, terms are joined by `->`, each is used `count` times (1 where left out, the
 * last one for ever). Actions: off, error, kill (SIGKILL to this process), stop (SIGSTOP: a test then
 * looks at the world and decides).
 */
import { NodeletError } from './errors.ts';

type Action = 'off' | 'error' | 'kill' | 'stop';

interface Term {
  readonly action: Action;
  left: number;
}

const armed: ReadonlyMap<string, Term[]> | undefined = parse(process.env.NODELET_FAILPOINTS);

function parse(text: string | undefined): ReadonlyMap<string, Term[]> | undefined {
  if (text === undefined || text === '') return undefined;
  const points = new Map<string, Term[]>();
  for (const item of text.split(';')) {
    const at = item.indexOf('=');
    if (at < 1) throw new NodeletError('INVALID_FAILPOINT', `cannot parse failpoint ${JSON.stringify(item)}`);
    points.set(
      item.slice(0, at),
      item
        .slice(at + 1)
        .split('->')
        .map(parseTerm),
    );
  }
  return points;
}

function parseTerm(text: string): Term {
  const match = /^(?:(\d+)\*)?(off|error|kill|stop)$/.exec(text);
  if (!match)
    throw new NodeletError('INVALID_FAILPOINT', `cannot parse failpoint term ${JSON.stringify(text)}`);
  return { action: match[2] as Action, left: match[1] === undefined ? 1 : Number(match[1]) };
}

/** Does nothing, at the cost of one comparison, unless the environment armed this name. */
export function failpoint(name: string): void {
  if (armed === undefined) return;
  const terms = armed.get(name);
  const term = terms?.[0];
  if (terms === undefined || term === undefined) return;
  term.left -= 1;
  if (term.left <= 0 && terms.length > 1) terms.shift();
  switch (term.action) {
    case 'off':
      return;
    case 'error':
      throw new NodeletError('FAILPOINT', `failpoint "${name}"`);
    case 'kill':
      process.kill(process.pid, 'SIGKILL');
      return;
    case 'stop':
      process.kill(process.pid, 'SIGSTOP');
      return;
  }
}
