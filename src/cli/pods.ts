/** Which pod a word on the command line means. Pure but for `findPod`. */
import type { AgentClient } from '../agent/index.ts';
import { NodeletError } from '../base/index.ts';
import type { Pod } from '../kube/index.ts';

/** A pod as the API shows it: it has its names. */
export interface KnownPod extends Pod {
  readonly metadata: NonNullable<Pod['metadata']> & {
    readonly name: string;
    readonly namespace: string;
    readonly uid: string;
  };
}

/** `pod/web`, or `ns/web` outside "default": it finds the same pod again. */
export function podName(pod: KnownPod): string {
  const { namespace, name } = pod.metadata;
  return namespace === 'default' ? `pod/${name}` : `${namespace}/${name}`;
}

/** `web`, or `ns/web` outside "default": for sentences. */
export function shortName(pod: KnownPod): string {
  const { namespace, name } = pod.metadata;
  return namespace === 'default' ? name : `${namespace}/${name}`;
}

/** Fewest characters of a UID that stand for a pod. */
const MIN_UID = 6;

function meaning(text: string, namespace: string | undefined): (pod: KnownPod) => boolean {
  const slash = text.indexOf('/');
  const kind = slash < 0 ? '' : text.slice(0, slash);
  const name = text.slice(slash + 1);
  const inNamespace = (pod: KnownPod): boolean =>
    namespace === undefined || pod.metadata.namespace === namespace;
  return ({ metadata, ...pod }) => {
    const one = { ...pod, metadata } as KnownPod;
    if (slash < 0) {
      const byUid = text.length >= MIN_UID && metadata.uid.startsWith(text);
      return (metadata.name === text || byUid) && inNamespace(one);
    }
    if (metadata.namespace === kind && metadata.name === name) return inNamespace(one);
    return ['pod', 'pods', 'po'].includes(kind) && metadata.name === name && inNamespace(one);
  };
}

/**
 * By name (in any namespace, where only one has it, else in "default"), `namespace/name`, `pod/name`, UID or the beginning
 * of one. Throws POD_NOT_FOUND, AMBIGUOUS_POD.
 */
export function choosePod(pods: readonly KnownPod[], text: string, namespace?: string): KnownPod {
  const matches = pods.filter(meaning(text, namespace));
  const exact = matches.filter((pod) => pod.metadata.name === text);
  const candidates = exact.length > 0 ? exact : matches;
  const [only, other] = candidates;
  if (only !== undefined && other === undefined) return only;
  const inDefault = candidates.find((pod) => pod.metadata.namespace === 'default');
  if (inDefault !== undefined && exact.length > 0) return inDefault;
  const where = namespace === undefined ? '' : ` in namespace ${JSON.stringify(namespace)}`;
  if (only === undefined) {
    const names = pods.map(shortName);
    const more = names.length > 8 ? ' and more' : '';
    throw new NodeletError('POD_NOT_FOUND', `cannot find pod ${JSON.stringify(text)}${where}`, {
      hint: names.length === 0 ? 'there is no pod' : `there are ${names.slice(0, 8).join(', ')}${more}`,
    });
  }
  throw new NodeletError(
    'AMBIGUOUS_POD',
    `${JSON.stringify(text)} may be ${candidates.length} pods${where}`,
    {
      hint: `name one of ${candidates.map((pod) => `${pod.metadata.namespace}/${pod.metadata.name}`).join(', ')}`,
    },
  );
}

/** Every pod of the agent. */
export async function allPods(client: AgentClient): Promise<readonly KnownPod[]> {
  return (await client.pods()) as KnownPod[];
}

/** Throws POD_NOT_FOUND, AMBIGUOUS_POD, AGENT_UNREACHABLE. */
export async function findPod(client: AgentClient, text: string, namespace?: string): Promise<KnownPod> {
  return choosePod(await allPods(client), text, namespace);
}

/** Names of all containers, the init containers first. */
export function containerNames(pod: Pod): string[] {
  return [...(pod.spec?.initContainers ?? []), ...(pod.spec?.containers ?? [])].map(({ name }) => name);
}
