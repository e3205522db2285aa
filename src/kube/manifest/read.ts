/**
 * YAML and JSON as Kubernetes reads them (sigs.k8s.io/yaml over go-yaml): YAML 1.1 scalars (`0644` is octal, `yes` is
 * true), `0o644` too, but neither sexagesimal numbers (`22:22` is a string) nor timestamps.
 */
import {
  type Document,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseAllDocuments,
  type Tags,
} from 'yaml';
import { messageOf } from '../../base/index.ts';

export interface ReadDocument {
  /** Counted from 1, as they stand in the file, empty ones included. */
  readonly number: number;
  readonly value: unknown;
  /** The line (from 1) of the value at a path of keys and indexes, or of the nearest value above it. */
  lineOf(segments: readonly (string | number)[]): number | undefined;
}

export interface ReadError {
  readonly document: number;
  readonly line?: number;
  readonly message: string;
}

export interface ReadResult {
  readonly documents: ReadDocument[];
  readonly errors: ReadError[];
}

/** Tags of YAML 1.1 that go-yaml does not resolve in plain scalars. */
const NOT_RESOLVED = new Set(['TIME', 'timestamp']);

const RADIX: Readonly<Record<string, number>> = { o: 8, X: 16, B: 2 };

/** Integers that go-yaml takes beyond YAML 1.1's. */
const goIntegers = {
  identify: () => false,
  default: true,
  tag: 'tag:yaml.org,2002:int',
  test: /^[-+]?0(?:o[0-7_]+|X[0-9A-Fa-f_]+|B[01_]+)$/,
  resolve: (text: string) => {
    const digits = text.replace(/^[-+]?0/, '').replaceAll('_', '');
    return (text.startsWith('-') ? -1 : 1) * Number.parseInt(digits.slice(1), RADIX[digits[0] ?? '']);
  },
} as const;

/** A lone point is no number, whatever YAML 1.1's expression for floats says. */
const lonePoint = {
  identify: () => false,
  default: true,
  tag: 'tag:yaml.org,2002:str',
  test: /^[-+]?\._*$/,
  resolve: (text: string) => text,
} as const;

function kubernetesTags(tags: Tags): Tags {
  const kept = tags.filter((tag) => {
    if (typeof tag === 'string') return !NOT_RESOLVED.has(tag);
    return !(tag.tag.endsWith(':timestamp') || ('format' in tag && tag.format === 'TIME'));
  });
  return [goIntegers, lonePoint, ...kept];
}

/** Reads every document; a file that cannot be read at all gives errors and no documents. */
export function readDocuments(text: string, options: { readonly uniqueKeys: boolean }): ReadResult {
  // JSON allows tabs where YAML does not, and is read faster.
  if (/^\s*\{/.test(text)) {
    try {
      const value: unknown = JSON.parse(text);
      return { documents: [{ number: 1, value, lineOf: lazyLines(text) }], errors: [] };
    } catch {
      // several objects in one file, or YAML in flow style
    }
  }
  try {
    return readYaml(text, options.uniqueKeys);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return { documents: [], errors: [{ document: 1, message: 'cannot read YAML: it is nested too deeply' }] };
  }
}

function parse(text: string, uniqueKeys: boolean, counter: LineCounter): Document.Parsed[] {
  const parsed = parseAllDocuments(text, {
    version: '1.1',
    lineCounter: counter,
    prettyErrors: false,
    uniqueKeys,
    customTags: kubernetesTags,
  });
  return Array.isArray(parsed) ? parsed : [];
}

function readYaml(text: string, uniqueKeys: boolean): ReadResult {
  const counter = new LineCounter();
  const documents: ReadDocument[] = [];
  const errors: ReadError[] = [];
  for (const [i, document] of parse(text, uniqueKeys, counter).entries()) {
    const number = i + 1;
    for (const error of document.errors) {
      const { line } = counter.linePos(error.pos[0]);
      errors.push({ document: number, line, message: `cannot read YAML: ${firstLine(error.message)}` });
    }
    if (document.errors.length > 0) continue;
    try {
      const value: unknown = document.toJS();
      if (value === null || value === undefined) continue;
      documents.push({ number, value, lineOf: (segments) => lineIn(document, segments, counter) });
    } catch (error) {
      // an alias bomb, or an alias without its anchor
      errors.push({ document: number, message: `cannot read YAML: ${firstLine(messageOf(error))}` });
    }
  }
  return { documents, errors };
}

function lazyLines(text: string): ReadDocument['lineOf'] {
  let document: Document.Parsed | undefined;
  const counter = new LineCounter();
  return (segments) => {
    document ??= parse(text, false, counter)[0];
    return document === undefined ? undefined : lineIn(document, segments, counter);
  };
}

function lineIn(
  document: Document,
  segments: readonly (string | number)[],
  counter: LineCounter,
): number | undefined {
  let node: unknown = document.contents;
  let offset = isNode(node) ? node.range?.[0] : undefined;
  for (const segment of segments) {
    if (isMap(node)) {
      const pair = node.items.find(
        (item) => isScalar(item.key) && String(item.key.value) === String(segment),
      );
      if (pair === undefined) break;
      if (isScalar(pair.key)) offset = pair.key.range?.[0] ?? offset;
      node = pair.value;
    } else if (isSeq(node)) {
      node = node.items[Number(segment)];
      if (!isNode(node)) break;
      offset = node.range?.[0] ?? offset;
    } else break;
  }
  return offset === undefined ? undefined : counter.linePos(offset).line;
}

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && 'range' in value;
}

function firstLine(text: string): string {
  return (text.split('\n')[0] ?? '').replace(/\.$/, '');
}
