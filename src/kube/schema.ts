/** Checks a document against the OpenAPI schema with ajv's compiled validators, and puts its findings in our words. */
import { child, type FieldError, index, key } from './field-error.ts';
import { shapes, validateConfigMap, validatePod, validateSecret } from './gen/validate.gen.ts';

export type ManifestKind = 'Pod' | 'ConfigMap' | 'Secret';

interface AjvError {
  readonly instancePath: string;
  readonly keyword: string;
  readonly params: Readonly<Record<string, unknown>>;
}

interface Validator {
  (data: unknown): boolean;
  readonly errors?: readonly AjvError[] | null;
}

const VALIDATORS: Readonly<Record<ManifestKind, Validator>> = {
  Pod: validatePod,
  ConfigMap: validateConfigMap,
  Secret: validateSecret,
};

export interface SchemaFinding extends FieldError {
  /** Property names and indexes from the document's root, for the line that it stands on. */
  readonly segments: readonly (string | number)[];
}

export function checkSchema(kind: ManifestKind, document: unknown): SchemaFinding[] {
  const validate = VALIDATORS[kind];
  if (validate(document)) return [];
  return (validate.errors ?? []).map((error) => finding(kind, document, error));
}

function finding(kind: ManifestKind, document: unknown, error: AjvError): SchemaFinding {
  const at = locate(kind, document, error.instancePath);
  const { params } = error;
  switch (error.keyword) {
    case 'additionalProperties': {
      const name = String(params.additionalProperty);
      const known = fieldsOf(at.definition);
      const near = nearest(name, known);
      return {
        path: child(at.path, name),
        segments: [...at.segments, name],
        kind: 'unknown field',
        ...(near === undefined ? {} : { detail: `did you mean ${JSON.stringify(near)}?` }),
      };
    }
    case 'required': {
      const name = String(params.missingProperty);
      return { path: child(at.path, name), segments: at.segments, kind: 'Required value' };
    }
    case 'type': {
      const wanted = [params.type].flat().map((type) => article(String(type)));
      const detail = `must be ${wanted.join(' or ')}, found ${describe(at.value)}`;
      return { path: at.path, segments: at.segments, kind: 'Invalid value', value: shown(at.value), detail };
    }
    case 'format':
      return {
        path: at.path,
        segments: at.segments,
        kind: 'Invalid value',
        value: shown(at.value),
        detail: 'must be a time as in RFC 3339 (e.g. 2006-01-02T15:04:05Z)',
      };
    default: {
      // minimum and maximum of the integer types
      const detail = `must be ${String(params.comparison)} ${String(params.limit)}`;
      return { path: at.path, segments: at.segments, kind: 'Invalid value', value: shown(at.value), detail };
    }
  }
}

interface Place {
  readonly path: string;
  readonly segments: (string | number)[];
  readonly value: unknown;
  /** Of the value, where it is an object of the API. */
  readonly definition: string | undefined;
}

/** Follows a JSON pointer through the document and, beside it, through the definitions. */
function locate(kind: ManifestKind, document: unknown, pointer: string): Place {
  let place: Place = { path: '', segments: [], value: document, definition: kind };
  for (const raw of pointer.split('/').slice(1)) {
    const name = raw.replaceAll('~1', '/').replaceAll('~0', '~');
    const { value } = place;
    if (Array.isArray(value)) {
      const at = Number(name);
      place = {
        path: index(place.path, at),
        segments: [...place.segments, at],
        value: value[at],
        definition: place.definition,
      };
    } else {
      const field = fieldsOf(place.definition).get(name);
      place = {
        // an object without a field table is a map
        path: place.definition === undefined ? key(place.path, name) : child(place.path, name),
        segments: [...place.segments, name],
        value:
          typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined,
        definition: field,
      };
    }
  }
  return place;
}

/** Field names of a definition with the definition of each one's objects. */
function fieldsOf(definition: string | undefined): ReadonlyMap<string, string | undefined> {
  const fields = new Map<string, string | undefined>();
  for (const entry of (shapes[definition ?? ''] ?? '').split(' ')) {
    const [name = '', target] = entry.split(':');
    if (name !== '') fields.set(name, target);
  }
  return fields;
}

const TYPE_WORDS: Readonly<Record<string, string>> = {
  array: 'a list',
  object: 'an object',
  string: 'a string',
  integer: 'an integer',
  number: 'a number',
  boolean: 'true or false',
};

function article(type: string): string {
  return TYPE_WORDS[type] ?? type;
}

function describe(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'boolean') return 'a boolean';
  if (typeof value === 'number') return Number.isInteger(value) ? 'an integer' : 'a number';
  return typeof value === 'object' ? 'an object' : 'a string';
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? 'null';
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

/** The known name that is most like `name`, where one is near enough to be what was meant. */
export function nearest(name: string, known: ReadonlyMap<string, unknown>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.min(3, Math.floor(name.length / 3)) + 0.5;
  for (const candidate of known.keys()) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** Damerau-Levenshtein: insertions, deletions, replacements and swaps of neighbours. */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let cost = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (last[j - 1] ?? 0) + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, (beforeLast[j - 2] ?? 0) + 1);
      }
      row.push(cost);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length] ?? 0;
}
