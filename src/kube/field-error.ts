/** What is wrong with one field, in the API server's words: `spec.containers[0].name: Duplicate value: "a"`. */

export type FieldErrorKind =
  | 'Required value'
  | 'Invalid value'
  | 'Unsupported value'
  | 'Duplicate value'
  | 'Not found'
  | 'Forbidden'
  | 'Too long'
  | 'Too many'
  | 'unknown field'
  | 'not supported by this version of Nodelet';

export interface FieldError {
  /** `spec.containers[0].name`, `data[key.txt]`. */
  readonly path: string;
  readonly kind: FieldErrorKind;
  /** The value as JSON, where the kind shows one. */
  readonly value?: string;
  readonly detail?: string;
}

/** `path: kind: value: detail`. */
export function describeFieldError(error: FieldError): string {
  return [error.path, error.kind, error.value, error.detail]
    .filter((part) => part !== undefined && part !== '')
    .join(': ');
}

/** Collects field errors; the names of its methods and what they print are the API server's. */
export class FieldErrors {
  readonly list: FieldError[] = [];

  required(path: string, detail?: string): void {
    this.list.push({ path, kind: 'Required value', ...(detail ? { detail } : {}) });
  }

  invalid(path: string, value: unknown, detail: string): void {
    this.list.push({ path, kind: 'Invalid value', value: show(value), detail });
  }

  /** One error for each reason that a check of a value gave. */
  invalidEach(path: string, value: unknown, reasons: readonly string[]): void {
    for (const reason of reasons) this.invalid(path, value, reason);
  }

  /** A value that is none of `supported`. */
  notSupported(path: string, value: unknown, supported: readonly string[]): void {
    const detail = `supported values: ${supported.map((each) => JSON.stringify(each)).join(', ')}`;
    this.list.push({ path, kind: 'Unsupported value', value: show(value), detail });
  }

  duplicate(path: string, value: unknown): void {
    this.list.push({ path, kind: 'Duplicate value', value: show(value) });
  }

  notFound(path: string, value: unknown): void {
    this.list.push({ path, kind: 'Not found', value: show(value) });
  }

  forbidden(path: string, detail: string): void {
    this.list.push({ path, kind: 'Forbidden', detail });
  }

  tooLong(path: string, max: number): void {
    this.list.push({ path, kind: 'Too long', detail: `may not be more than ${max} bytes` });
  }

  tooMany(path: string, count: number, max: number): void {
    this.list.push({
      path,
      kind: 'Too many',
      value: String(count),
      detail: `must have at most ${max} items`,
    });
  }
}

const SHOWN = 200;

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? 'null';
  return text.length <= SHOWN ? text : `${text.slice(0, SHOWN)}…`;
}

/** `path.name`, or `path[name]` where the name is a key of a map that would be misread as fields. */
export function child(path: string, name: string): string {
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) return key(path, name);
  return path === '' ? name : `${path}.${name}`;
}

export function index(path: string, at: number): string {
  return `${path}[${at}]`;
}

export function key(path: string, name: string): string {
  return `${path}[${name}]`;
}
