/** Manifests: text in, defaulted and validated objects out, or one error that names everything that is wrong. */
import { NodeletError } from '../../base/index.ts';
import { defaultConfigMap, defaultPod, defaultSecret } from '../defaults.ts';
import { describeFieldError, type FieldError } from '../field-error.ts';
import type { ConfigMap, Pod, Secret } from '../gen/types.gen.ts';
import type { ManifestKind, SchemaFinding } from '../schema.ts';
import type { CheckedPod } from '../types.ts';
import { unsupported } from '../unsupported.ts';
import { validateConfigMap, validateSecret } from '../validation/objects.ts';
import { validatePod } from '../validation/pod.ts';
import { normalize } from './normalize.ts';
import type { ReadDocument } from './read.ts';

/** What to do about fields that the schema does not know, as kubectl's `--validate`. */
export type Validation = 'strict' | 'warn' | 'ignore';

export interface ParseOptions {
  /** How messages name the text: a file's name, or "standard input". */
  readonly source: string;
  readonly validate?: Validation;
  /** Completes `metadata.generateName`; by default five random letters. */
  readonly random?: () => string;
}

export interface Manifests {
  readonly pods: CheckedPod[];
  readonly configMaps: ConfigMap[];
  readonly secrets: Secret[];
  readonly warnings: string[];
}

/** One thing that is wrong with a manifest. */
export interface ManifestProblem {
  /** Counted from 1. */
  readonly document: number;
  readonly line?: number;
  /** `Pod default/web`, where it got that far. */
  readonly object?: string;
  readonly path?: string;
  readonly message: string;
  readonly unsupported: boolean;
}

/** As the kubelet reads static pods. */
const MAX_BYTES = 10 * 1024 * 1024;

const KINDS: Readonly<Record<string, ManifestKind | 'List'>> = {
  Pod: 'Pod',
  ConfigMap: 'ConfigMap',
  Secret: 'Secret',
  List: 'List',
  PodList: 'List',
  ConfigMapList: 'List',
  SecretList: 'List',
};

const ITEM_KINDS: Readonly<Record<string, ManifestKind>> = {
  PodList: 'Pod',
  ConfigMapList: 'ConfigMap',
  SecretList: 'Secret',
};

/**
 * Reads YAML (several documents) or JSON with Pods, ConfigMaps, Secrets and Lists of them.
 * Throws INVALID_MANIFEST, UNSUPPORTED_MANIFEST (valid, but this version cannot run it) or MANIFEST_TOO_LARGE;
 * `details.problems` holds every ManifestProblem.
 */
export async function parseManifests(text: string, options: ParseOptions): Promise<Manifests> {
  if (Buffer.byteLength(text) > MAX_BYTES) {
    throw new NodeletError(
      'MANIFEST_TOO_LARGE',
      `cannot use ${quote(options.source)}: it is larger than 10 MiB`,
    );
  }
  // Parser and validators are loaded only where a manifest is read.
  const [{ readDocuments }, { checkSchema }] = await Promise.all([
    import('./read.ts'),
    import('../schema.ts'),
  ]);
  const parser = new Parser(options, checkSchema);
  const { documents, errors } = readDocuments(text, {
    uniqueKeys: (options.validate ?? 'strict') === 'strict',
  });
  for (const error of errors) parser.problems.push({ ...error, unsupported: false });
  for (const document of documents) parser.document(document);
  if (documents.length === 0 && errors.length === 0) {
    parser.problems.push({ document: 1, message: 'it holds no object', unsupported: false });
  }
  return parser.finish();
}

type CheckSchema = (kind: ManifestKind, document: unknown) => SchemaFinding[];

class Parser {
  readonly problems: ManifestProblem[] = [];
  readonly #options: ParseOptions;
  readonly #checkSchema: CheckSchema;
  readonly #found: Manifests = { pods: [], configMaps: [], secrets: [], warnings: [] };
  readonly #names = new Set<string>();

  constructor(options: ParseOptions, checkSchema: CheckSchema) {
    this.#options = options;
    this.#checkSchema = checkSchema;
  }

  document(document: ReadDocument): void {
    const normalized = normalize(document.value);
    if ('problem' in normalized)
      return this.#problem(document, normalized.path, { message: normalized.problem });
    return this.#object(document, [], normalized.value, undefined);
  }

  finish(): Manifests {
    if (this.problems.length === 0) return this.#found;
    throw manifestError(this.#options.source, this.problems);
  }

  #object(
    document: ReadDocument,
    base: readonly (string | number)[],
    value: unknown,
    assumed: ManifestKind | undefined,
  ): void {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      return this.#problem(document, base, { message: 'it is not an object with apiVersion and kind' });
    }
    const object = value as Record<string, unknown>;
    const kindName = object.kind ?? assumed;
    const version = object.apiVersion ?? (assumed === undefined ? undefined : 'v1');
    if (typeof kindName !== 'string' || kindName === '') {
      return this.#problem(document, base, { path: 'kind', message: 'kind: Required value' });
    }
    if (typeof version !== 'string' || version === '') {
      return this.#problem(document, base, { path: 'apiVersion', message: 'apiVersion: Required value' });
    }
    const kind = version === 'v1' && Object.hasOwn(KINDS, kindName) ? KINDS[kindName] : undefined;
    if (kind === undefined) {
      const message = `cannot use kind ${quote(kindName)} of ${quote(version)}; Pod, ConfigMap, Secret and List of "v1" can be used`;
      return this.#problem(document, [...base, 'kind'], { path: 'kind', message, unsupported: true });
    }
    if (kind === 'List') return this.#list(document, base, object, ITEM_KINDS[kindName]);
    return this.#manifest(document, base, kind, { apiVersion: version, kind: kindName, ...object });
  }

  #list(
    document: ReadDocument,
    base: readonly (string | number)[],
    list: Record<string, unknown>,
    itemKind: ManifestKind | undefined,
  ): void {
    const { items = [] } = list;
    if (!Array.isArray(items)) {
      return this.#problem(document, [...base, 'items'], { path: 'items', message: 'items: must be a list' });
    }
    for (const [i, item] of items.entries()) this.#object(document, [...base, 'items', i], item, itemKind);
    return undefined;
  }

  #manifest(
    document: ReadDocument,
    base: readonly (string | number)[],
    kind: ManifestKind,
    object: Record<string, unknown>,
  ): void {
    const name = nameOf(kind, object);
    let refused = false;
    for (const found of this.#checkSchema(kind, object)) {
      const text = describeFieldError(found);
      if (
        found.kind === 'unknown field' &&
        this.#options.validate !== undefined &&
        this.#options.validate !== 'strict'
      ) {
        if (this.#options.validate === 'warn') this.#found.warnings.push(`${name}: ${text}`);
        removeAt(object, found.segments);
        continue;
      }
      refused = true;
      this.#problem(document, [...base, ...found.segments], {
        object: name,
        path: found.path,
        message: text,
      });
    }
    if (refused) return;
    const errors = this.#check(kind, object);
    for (const error of errors) {
      this.#problem(document, [...base, ...segmentsOf(error.path)], {
        object: name,
        path: error.path,
        message: describeFieldError(error),
        unsupported: error.kind === 'not supported by this version of Nodelet',
      });
    }
    if (errors.length > 0) return;
    const full = nameOf(kind, object);
    if (this.#names.has(full)) {
      this.#problem(document, [...base, 'metadata', 'name'], {
        object: full,
        path: 'metadata.name',
        message: `metadata.name: Duplicate value: there are two of ${full}`,
      });
    }
    this.#names.add(full);
  }

  /** Defaults and validates; keeps the object where nothing is wrong. */
  #check(kind: ManifestKind, object: Record<string, unknown>): FieldError[] {
    if (kind === 'Pod') return this.#checkPod(object);
    if (kind === 'ConfigMap') {
      const configMap = object as ConfigMap;
      defaultConfigMap(configMap);
      const errors = validateConfigMap(configMap);
      if (errors.length === 0) this.#found.configMaps.push(configMap);
      return errors;
    }
    const secret = object as Secret;
    defaultSecret(secret);
    const errors = validateSecret(secret);
    if (errors.length === 0) this.#found.secrets.push(secret);
    return errors;
  }

  #checkPod(pod: Pod): FieldError[] {
    defaultPod(pod);
    this.#generateName(pod);
    const errors = validatePod(pod);
    if (errors.length > 0) return errors;
    // Validation proved what the type promises.
    const checked = pod as CheckedPod;
    const refusals = unsupported(checked);
    if (refusals.length === 0) this.#found.pods.push(checked);
    return refusals;
  }

  #generateName(pod: Pod): void {
    const { metadata } = pod;
    if (metadata === undefined || metadata.name || !metadata.generateName) return;
    metadata.name = `${metadata.generateName.slice(0, 58)}${(this.#options.random ?? randomSuffix)()}`;
  }

  #problem(
    document: ReadDocument,
    segments: readonly (string | number)[],
    found: { object?: string; path?: string; message: string; unsupported?: boolean },
  ): void {
    const line = document.lineOf(segments);
    this.problems.push({
      document: document.number,
      ...(line === undefined ? {} : { line }),
      unsupported: false,
      ...found,
    });
  }
}

/** Letters that form no words, as the API server takes them. */
const SUFFIX_LETTERS = 'bcdfghjklmnpqrstvwxz2456789';

function randomSuffix(): string {
  const letter = () => SUFFIX_LETTERS[Math.floor(Math.random() * SUFFIX_LETTERS.length)];
  return Array.from({ length: 5 }, letter).join('');
}

function manifestError(source: string, found: readonly ManifestProblem[]): NodeletError {
  const problems = found.toSorted((a, b) => a.document - b.document || (a.line ?? 0) - (b.line ?? 0));
  const code = problems.every((problem) => problem.unsupported) ? 'UNSUPPORTED_MANIFEST' : 'INVALID_MANIFEST';
  const lines = problems.map(describeProblem);
  const message =
    lines.length === 1
      ? `cannot use ${quote(source)}: ${lines[0]}`
      : `cannot use ${quote(source)}: ${lines.length} problems\n${lines.map((line) => `  ${line}`).join('\n')}`;
  return new NodeletError(code, message, { details: { problems } });
}

/** `document 2, line 7: Pod default/web: spec.containers[0].imag: unknown field`. */
export function describeProblem(problem: ManifestProblem): string {
  const where = `document ${problem.document}${problem.line === undefined ? '' : `, line ${problem.line}`}`;
  return [where, problem.object, problem.message].filter((part) => part !== undefined).join(': ');
}

function nameOf(kind: ManifestKind, object: Record<string, unknown>): string {
  // Not validated yet: what is no string has no place in a name.
  const metadata = (object.metadata ?? {}) as Record<string, unknown>;
  const text = (field: string) => (typeof metadata[field] === 'string' ? metadata[field] : undefined);
  return `${kind} ${text('namespace') ?? 'default'}/${text('name') ?? text('generateName') ?? '(no name)'}`;
}

/** `spec.containers[0].env[1]` and `data[a.b]` as keys and indexes. */
export function segmentsOf(path: string): (string | number)[] {
  const segments: (string | number)[] = [];
  for (const match of path.matchAll(/\[([^\]]*)\]|([^.[\]]+)/g)) {
    const inner = match[1];
    if (inner === undefined) segments.push(match[2] ?? '');
    else segments.push(/^\d+$/.test(inner) ? Number(inner) : inner);
  }
  return segments;
}

function removeAt(object: unknown, segments: readonly (string | number)[]): void {
  let at: unknown = object;
  for (const segment of segments.slice(0, -1)) at = (at as Record<string | number, unknown>)[segment];
  delete (at as Record<string | number, unknown>)[segments.at(-1) ?? ''];
}

function quote(text: string): string {
  return JSON.stringify(text);
}
