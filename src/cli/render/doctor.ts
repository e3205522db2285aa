/** A diagnosis as a page: what is there in short, what is lacking with its mend. Pure. */
import type { Diagnosis, Finding } from '../../agent/index.ts';
import { count, printable, wrap } from '../format/text.ts';
import type { Style } from '../terminal/style.ts';

export interface DoctorOptions {
  readonly width: number;
  readonly style: Style;
}

const INDENT = '    ';

export function diagnosisLines(diagnosis: Diagnosis, options: DoctorOptions): string[] {
  const { findings } = diagnosis;
  const name = Math.max(...findings.map((one) => one.name.length));
  const groups = [...new Set(findings.map(({ group }) => group))];
  return [
    ...groups.flatMap((group) => [
      options.style.bold(group),
      ...findings.filter((one) => one.group === group).flatMap((one) => lines(one, name, options)),
      '',
    ]),
    summary(diagnosis, options.style),
  ];
}

function mark({ status, level }: Finding, style: Style): string {
  if (status === 'ok') return style.green('ok');
  if (status === 'unknown') return style.yellow(' ?');
  return level === 'needed' ? style.red('NO') : style.yellow(' !');
}

function lines(one: Finding, width: number, options: DoctorOptions): string[] {
  const { style } = options;
  const indent = ' '.repeat(INDENT.length + width + 3);
  const text = `${one.name.padEnd(width)}  ${printable(one.found)}`;
  const [first = '', ...rest] = wrap(
    text,
    Math.max(60, options.width - INDENT.length - 1),
    ' '.repeat(width + 2),
  );
  const all = [`  ${mark(one, style)} ${first}`, ...rest.map((line) => `${INDENT} ${line}`)];
  if (one.mend !== undefined && one.status !== 'ok')
    all.push(
      ...wrap(`${indent}mend: ${printable(one.mend)}`, Math.max(60, options.width), `${indent}      `).map(
        (line) => style.bold(line),
      ),
    );
  return all;
}

function summary({ findings, ready }: Diagnosis, style: Style): string {
  const of = (level: Finding['level'], status: Finding['status']): number =>
    findings.filter((one) => one.level === level && one.status === status).length;
  const needed = of('needed', 'lacking');
  const others = of('recommended', 'lacking');
  const unknown = findings.filter(({ status }) => status === 'unknown').length;
  const parts = [
    ...(needed > 0 ? [`${count(needed, 'thing')} that ${needed === 1 ? 'is' : 'are'} needed (NO)`] : []),
    ...(others > 0 ? [`${count(others, 'thing')} that ${others === 1 ? 'is' : 'are'} recommended (!)`] : []),
  ];
  const lack = parts.length === 0 ? 'lacks nothing' : `lacks ${parts.join(' and ')}`;
  const rest = unknown > 0 ? `; ${count(unknown, 'thing')} could not be tried (?)` : '';
  const head = ready
    ? style.green('Pods can run on this machine.')
    : style.red('Pods cannot run on this machine yet.');
  return `${head} It ${lack}${rest}.`;
}
