/** The start of a pod as a time line, and as a trace for a browser's trace viewer. Pure. */
import type { TraceResponse } from '../../agent/index.ts';
import { formatMicros } from '../format/duration.ts';
import { count, printable, truncate } from '../format/text.ts';
import type { Style } from '../terminal/style.ts';

type Span = TraceResponse['spans'][number];

export interface TraceNode {
  readonly span: Span;
  readonly children: TraceNode[];
}

const endOf = (span: Span): number => span.start + span.duration;

/** A span is a part of the shortest one that holds it from its start to its end. In the order of their starts. */
export function buildTree(spans: readonly Span[]): TraceNode[] {
  const roots: TraceNode[] = [];
  const open: TraceNode[] = [];
  for (const span of spans.toSorted((a, b) => a.start - b.start || b.duration - a.duration)) {
    while (open.length > 0 && endOf(open.at(-1)?.span ?? span) < endOf(span)) open.pop();
    const node: TraceNode = { span, children: [] };
    (open.at(-1)?.children ?? roots).push(node);
    open.push(node);
  }
  return roots;
}

/** Parts of a launch plan that take less are told together. Microseconds. */
const SHORT = 100;

interface Row {
  readonly depth: number;
  readonly start: number;
  readonly duration: number;
  readonly text: string;
  readonly category: string;
}

function rowsOf(nodes: readonly TraceNode[], depth: number, all: boolean): Row[] {
  const rows: Row[] = [];
  let folded: Span[] = [];
  const flush = (): void => {
    const [first] = folded;
    const last = folded.at(-1);
    if (first !== undefined && last !== undefined) {
      const text =
        folded.length === 1
          ? label(first)
          : `${count(folded.length, 'operation')} of less than ${SHORT}µs each`;
      rows.push({
        depth,
        start: first.start,
        duration: endOf(last) - first.start,
        text,
        category: first.category,
      });
    }
    folded = [];
  };
  for (const { span, children } of nodes) {
    if (!all && span.category === 'shim' && span.duration < SHORT) {
      folded.push(span);
      continue;
    }
    flush();
    rows.push({
      depth,
      start: span.start,
      duration: span.duration,
      text: label(span),
      category: span.category,
    });
    rows.push(...rowsOf(children, depth + 1, all));
  }
  flush();
  return rows;
}

/** What was done, in words where there are some. */
function label({ name, detail }: Span): string {
  return printable(detail === undefined || detail === '' ? name : detail);
}

export interface TimelineOptions {
  /** Every operation in a line of its own. */
  readonly all: boolean;
  /** Columns of the terminal. */
  readonly width: number;
  readonly style: Style;
}

const BAR = 28;

/** Start and length of each step, a bar at its place in time, and what it was. */
export function timelineLines(trace: TraceResponse, options: TimelineOptions): string[] {
  const rows = rowsOf(buildTree(trace.spans), 0, options.all);
  const begin = Math.min(...rows.map((row) => row.start));
  const end = Math.max(...rows.map((row) => row.start + row.duration));
  const total = Math.max(1, end - begin);
  const { style } = options;
  const head = `${style.bold(printable(trace.pod))}: ${formatMicros(total)} from the first step to the end of the last`;
  if (rows.length === 0) return [`${printable(trace.pod)}: nothing is known of its start`];
  const titles = `${'START'.padStart(8)} ${'TAKES'.padStart(8)}  ${' '.repeat(BAR + 2)}  STEP`;
  const lines = rows.map((row) => {
    const { start, duration, depth, category } = row;
    const bar = barAt((start - begin) / total, duration / total);
    const times = `${formatMicros(start - begin).padStart(8)} ${formatMicros(duration).padStart(8)}`;
    const left = `${times}  |${bar}|  `;
    const text = `${'  '.repeat(depth)}${row.text}`;
    const room = Math.max(20, options.width - left.length - category.length - 3);
    const shown = truncate(text, room);
    return `${times}  ${style.dim('|')}${colour(category, style)(bar)}${style.dim('|')}  ${shown} ${style.dim(`(${category})`)}`;
  });
  return [head, '', style.bold(titles), ...lines];
}

/** A bar from `offset` on, `length` long, both parts of the whole; never shorter than one mark. */
export function barAt(offset: number, length: number): string {
  const from = Math.min(BAR - 1, Math.floor(offset * BAR));
  const size = Math.min(BAR - from, Math.max(1, Math.round(length * BAR)));
  return `${' '.repeat(from)}${'='.repeat(size)}${' '.repeat(BAR - from - size)}`;
}

function colour(category: string, style: Style): (text: string) => string {
  return (
    {
      kubelet: style.blue,
      agent: style.cyan,
      network: style.magenta,
      image: style.yellow,
      shim: style.green,
    }[category] ?? style.bold
  );
}

// --- for a browser

export interface ChromeEvent {
  readonly name: string;
  readonly ph: 'X' | 'M';
  readonly pid: number;
  readonly tid: number;
  readonly cat?: string;
  /** Microseconds. */
  readonly ts?: number;
  readonly dur?: number;
  readonly args?: Readonly<Record<string, unknown>>;
}

/** What one line of a viewer can show: spans that hold each other, or come one after another. */
class Lane {
  readonly #open: Span[] = [];

  take(span: Span): boolean {
    while (this.#open.length > 0 && endOf(this.#open.at(-1) ?? span) <= span.start) this.#open.pop();
    const top = this.#open.at(-1);
    if (top !== undefined && endOf(span) > endOf(top)) return false;
    this.#open.push(span);
    return true;
  }
}

/** Trace events (JSON array format) with a thread for each category, more where its spans overlap. */
export function chromeTrace(trace: TraceResponse): ChromeEvent[] {
  const spans = trace.spans.toSorted((a, b) => a.start - b.start || b.duration - a.duration);
  const categories = [...new Set(spans.map((span) => span.category))];
  const begin = spans[0]?.start ?? 0;
  const lanes = new Map<string, Lane[]>();
  const events: ChromeEvent[] = [
    { name: 'process_name', ph: 'M', pid: 1, tid: 0, args: { name: `pod ${trace.pod}` } },
  ];
  const named = new Set<number>();
  for (const span of spans) {
    const own = lanes.get(span.category) ?? [];
    lanes.set(span.category, own);
    let lane = own.findIndex((one) => one.take(span));
    if (lane < 0) {
      const fresh = new Lane();
      fresh.take(span);
      lane = own.push(fresh) - 1;
    }
    const tid = (categories.indexOf(span.category) + 1) * 100 + lane;
    if (!named.has(tid)) {
      named.add(tid);
      const name = lane === 0 ? span.category : `${span.category} ${lane + 1}`;
      events.push({ name: 'thread_name', ph: 'M', pid: 1, tid, args: { name } });
    }
    events.push({
      name: span.name,
      cat: span.category,
      ph: 'X',
      ts: span.start - begin,
      dur: span.duration,
      pid: 1,
      tid,
      ...(span.detail === undefined ? {} : { args: { detail: span.detail } }),
    });
  }
  return events;
}
