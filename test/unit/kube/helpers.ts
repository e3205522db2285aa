import type { NodeletError } from '../../../src/base/index.ts';
import {
  type ManifestProblem,
  type Manifests,
  type ParseOptions,
  parseManifests,
} from '../../../src/kube/index.ts';

/** A pod of one container as YAML, with further lines of `metadata`, `spec` and the container. */
export function podYaml(parts: { spec?: string; container?: string; metadata?: string } = {}): string {
  return [
    'apiVersion: v1',
    'kind: Pod',
    'metadata:',
    '  name: web',
    indent(parts.metadata, 2),
    'spec:',
    indent(parts.spec, 2),
    '  containers:',
    '  - name: a',
    '    image: busybox:1.37',
    indent(parts.container, 4),
  ]
    .filter((line) => line !== '')
    .join('\n');
}

function indent(text: string | undefined, by: number): string {
  if (text === undefined) return '';
  const lines = text.replace(/^\n/, '').trimEnd().split('\n');
  const margin = Math.min(
    ...lines.filter((line) => line.trim() !== '').map((line) => /^ */.exec(line)?.[0].length ?? 0),
  );
  return lines.map((line) => ' '.repeat(by) + line.slice(margin)).join('\n');
}

export async function parse(text: string, options: Partial<ParseOptions> = {}): Promise<Manifests> {
  return parseManifests(text, { source: 'pod.yaml', ...options });
}

/** What is wrong with a manifest, or an empty list. */
export async function problemsOf(
  text: string,
  options: Partial<ParseOptions> = {},
): Promise<readonly ManifestProblem[]> {
  try {
    await parse(text, options);
    return [];
  } catch (error) {
    return (error as NodeletError).details.problems as ManifestProblem[];
  }
}

export async function messagesOf(
  text: string,
  options: Partial<ParseOptions> = {},
): Promise<readonly string[]> {
  return (await problemsOf(text, options)).map((problem) => problem.message);
}
