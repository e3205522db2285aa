/** Lists of operations as a reader takes them in: in parts, each told once, long names cut. Pure. */
import type { PlannedOperation } from '../../agent/index.ts';
import { formatMemory } from '../format/size.ts';

export interface OperationRow {
  /** Of the first and the last operation in this row. */
  readonly from: number;
  readonly to: number;
  readonly where: 'shim' | 'child';
  readonly op: string;
  readonly text: string;
}

export interface OperationPart {
  readonly title: string;
  readonly rows: readonly OperationRow[];
}

/**
 * The parts of a container's plan in their order, and the operations that begin each. One that begins none belongs to the
 * part before it, and a part that is over does not begin again.
 */
const PARTS: readonly (readonly [title: string, begins: ReadonlySet<string>])[] = [
  ['its control group: a directory in each hierarchy, a value in each file', new Set(['make-directory'])],
  ['what has to outlive it: the record of its exit, its log', new Set(['exit-record', 'streams'])],
  ['a process of its own, in that control group from its first instruction', new Set(['clone'])],
  ['what the process hands on to its children', new Set(['session-keyring', 'rlimit', 'oom-score'])],
  [
    'what will be mounted, opened before anything of the image is seen',
    new Set(['open-tree', 'open-beneath', 'id-map']),
  ],
  ['namespaces of the pod, joined', new Set(['join-namespace'])],
  ['a root file system of its own, and no way back to the old one', new Set(['overlay', 'unshare', 'pivot'])],
  [
    'born in the PID namespace of the pod when nothing of the host is left to be found',
    new Set(['drop-descriptors']),
  ],
  ['mounts below the root', new Set(['mount'])],
  ['devices and links', new Set(['device-in', 'link-in'])],
  ['what is hidden, what may not be written', new Set(['mask', 'read-only'])],
  ['streams and working directory', new Set(['session', 'standard-streams', 'terminal', 'umask'])],
  [
    'rights given up for good: system calls, capabilities, users',
    new Set(['exec-profile', 'seccomp', 'bounding-set', 'identity', 'capabilities', 'no-new-privileges']),
  ],
  ['the program', new Set(['find-program', 'execute', 'execute-program'])],
];

/** Operations that differ only in their last words, and what those of one row begin with. */
const ALIKE: Readonly<Record<string, RegExp>> = {
  'make-directory': /^(mkdir) (.*)$/,
  'device-in': /^(mknod) (.*)$/,
  'link-in': /^(ln -s) (.*)$/,
  mask: /^(hide) (.*)$/,
};

export interface OperationOptions {
  /** Every operation in a row of its own, all names in full. */
  readonly all: boolean;
  /** Texts of operations that were told before: those at the beginning are told as one. */
  readonly known: ReadonlySet<string>;
  /** How the known ones are called. */
  readonly knownAs: string;
  readonly shorten: (text: string) => string;
}

export function operationParts(
  operations: readonly PlannedOperation[],
  options: OperationOptions,
): OperationPart[] {
  const parts: { title: string; rows: OperationRow[] }[] = [];
  let at = -1;
  for (const row of options.all ? operations.map(rowOf) : foldedRows(operations, options)) {
    const next = PARTS.findIndex(([, begins], i) => i >= at && begins.has(row.op));
    if (next > at || parts.length === 0) {
      at = Math.max(next, 0);
      parts.push({ title: PARTS[at]?.[0] ?? '', rows: [] });
    }
    parts.at(-1)?.rows.push({ ...row, text: options.all ? row.text : options.shorten(row.text) });
  }
  return parts;
}

const rowOf = ({ index, where, op, text }: PlannedOperation): OperationRow => ({
  from: index,
  to: index,
  where,
  op,
  text,
});

function foldedRows(
  operations: readonly PlannedOperation[],
  { known, knownAs }: OperationOptions,
): OperationRow[] {
  const first = operations.findIndex(({ text }) => !known.has(text));
  const last = operations[first - 1];
  const rows: OperationRow[] =
    last === undefined
      ? []
      : [{ from: 0, to: last.index, where: last.where, op: 'make-directory', text: knownAs }];
  for (const operation of operations.slice(Math.max(first, 0))) {
    const before = rows.at(-1);
    const words = ALIKE[operation.op]?.exec(operation.text);
    if (before?.op === operation.op && words?.[1] !== undefined && before.text.startsWith(`${words[1]} `)) {
      rows[rows.length - 1] = { ...before, to: operation.index, text: `${before.text}, ${words[2]}` };
    } else rows.push(rowOf(operation));
  }
  return rows;
}

/**
 * Cuts what is said again and again: ids that stand for those to be drawn, and the directories above `group`, the pod's own
 * control group, whose full path is told once.
 */
export function shortener(group: string): (text: string) => string {
  const parent = group.slice(0, group.lastIndexOf('/'));
  return (text) =>
    sized(
      text
        .replaceAll(`${parent}/pod`, '/…/pod')
        .replaceAll(/\b([0-9a-f]{2})\1{31}\b/g, (id) => `${id.slice(0, 4)}…`),
    );
}

/** Bytes that go into a file of the memory controller are also said as people write them. */
function sized(text: string): string {
  const match = /^echo (\d+) > \S+\/memory\.\S+$/.exec(text);
  const bytes = Number(match?.[1]);
  return match === null || bytes < 1024 ? text : `${text}   (${formatMemory(bytes)})`;
}
