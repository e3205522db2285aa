/** The manifests of a command line: all of them are read and checked before anything is done with one. */
import { readFile } from 'node:fs/promises';
import { codeOf, NodeletError } from '../../base/index.ts';
import { type Manifests, parseManifests, podKey, type Validation } from '../../kube/index.ts';

export interface SourceText {
  /** A file's name, or "standard input". */
  readonly source: string;
  readonly text: string;
}

/** `-` is standard input. Throws MANIFEST_UNREADABLE, INVALID_ARGUMENT. */
export async function readSources(files: readonly string[]): Promise<SourceText[]> {
  if (files.filter((file) => file === '-').length > 1)
    throw new NodeletError(
      'INVALID_ARGUMENT',
      'cannot read standard input twice: "-" is named more than once',
    );
  const sources: SourceText[] = [];
  for (const file of files) {
    const source = file === '-' ? 'standard input' : file;
    try {
      sources.push({ source, text: file === '-' ? await readStdin() : await readFile(file, 'utf8') });
    } catch (error) {
      const why = { ENOENT: 'there is no such file', EISDIR: 'it is a directory' }[codeOf(error) ?? ''];
      throw new NodeletError(
        'MANIFEST_UNREADABLE',
        `cannot read ${JSON.stringify(source)}${why === undefined ? '' : `: ${why}`}`,
        why === undefined ? { cause: error } : {},
      );
    }
  }
  return sources;
}

async function readStdin(): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8');
}

/**
 * Throws what parseManifests throws: with several files that are wrong, one error that has all of them. Throws NO_POD where
 * none holds a pod, DUPLICATE_OBJECT for an object that two files define.
 */
export async function parseSources(sources: readonly SourceText[], validate: Validation): Promise<Manifests> {
  const whole: Manifests = { pods: [], configMaps: [], secrets: [], warnings: [] };
  const failures: NodeletError[] = [];
  const origin = new Map<string, string>();
  for (const { source, text } of sources) {
    try {
      const found = await parseManifests(text, { source, validate });
      whole.pods.push(...found.pods);
      whole.configMaps.push(...found.configMaps);
      whole.secrets.push(...found.secrets);
      whole.warnings.push(...found.warnings);
      for (const name of objectNames(found)) claim(origin, name, source);
    } catch (error) {
      if (!(error instanceof NodeletError)) throw error;
      failures.push(error);
    }
  }
  const [first] = failures;
  if (first !== undefined) throw failures.length === 1 ? first : together(failures);
  if (whole.pods.length === 0) {
    const names = sources.map(({ source }) => JSON.stringify(source)).join(', ');
    throw new NodeletError('NO_POD', `cannot run ${names}: no Pod is in it`, {
      hint: 'a manifest needs at least one object with "kind: Pod"',
    });
  }
  return whole;
}

function objectNames({ pods, configMaps, secrets }: Manifests): string[] {
  const nameOf = (one: {
    readonly metadata?: { readonly namespace?: string; readonly name?: string };
  }): string => `${one.metadata?.namespace ?? 'default'}/${one.metadata?.name ?? ''}`;
  return [
    ...pods.map((pod) => `Pod ${podKey(pod)}`),
    ...configMaps.map((one) => `ConfigMap ${nameOf(one)}`),
    ...secrets.map((one) => `Secret ${nameOf(one)}`),
  ];
}

function claim(origin: Map<string, string>, name: string, source: string): void {
  const before = origin.get(name);
  if (before !== undefined && before !== source)
    throw new NodeletError(
      'DUPLICATE_OBJECT',
      `${name} is in ${JSON.stringify(before)} and in ${JSON.stringify(source)}`,
      {
        hint: 'give one of them another name',
      },
    );
  origin.set(name, source);
}

function together(failures: readonly NodeletError[]): NodeletError {
  return new NodeletError('INVALID_MANIFEST', failures.map((failure) => failure.message).join('\n'), {
    details: { problems: failures.flatMap((failure) => failure.details.problems ?? []) },
  });
}
