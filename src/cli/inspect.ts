/** What a name may mean: a pod, a container, an image. */
import type { AgentClient, ContainerRow } from '../agent/index.ts';
import { hasCode, NodeletError } from '../base/index.ts';
import type { ImagePeek } from '../image/index.ts';
import { allPods, choosePod, type KnownPod } from './pods.ts';

export type ObjectKind = 'pod' | 'container' | 'image';

export interface FoundObject {
  readonly kind: ObjectKind;
  readonly load: () => Promise<unknown>;
}

export interface Places {
  readonly client: AgentClient;
  readonly images: ImagePeek;
}

export interface FindOptions {
  readonly type?: ObjectKind;
  readonly namespace?: string;
}

/** Pods first, then containers, then images. Throws AMBIGUOUS_POD, AMBIGUOUS_CONTAINER, AMBIGUOUS_IMAGE, AGENT_UNREACHABLE. */
export async function findObjects(
  places: Places,
  text: string,
  options: FindOptions,
): Promise<FoundObject[]> {
  const { type } = options;
  const image = type === undefined || type === 'image' ? findImage(places.images, text) : undefined;
  const found: FoundObject[] = [];
  if (type !== 'image') {
    try {
      found.push(...(await findInAgent(places.client, text, options)));
    } catch (error) {
      // Images are there without an agent; for anything else it has to be asked.
      if (!hasCode(error, 'AGENT_UNREACHABLE') || image === undefined) throw error;
    }
  }
  if (image !== undefined) found.push(image);
  return found;
}

function findImage(images: ImagePeek, text: string): FoundObject | undefined {
  const record = images.resolve(text);
  return record === undefined ? undefined : { kind: 'image', load: async () => images.inspect(record.id) };
}

async function findInAgent(client: AgentClient, text: string, options: FindOptions): Promise<FoundObject[]> {
  const { type, namespace } = options;
  const rows = await client.containers();
  const found: FoundObject[] = [];
  if (type !== 'container') {
    const pod = podIfAny(await allPods(client), text, namespace);
    if (pod !== undefined) found.push({ kind: 'pod', load: () => loadPod(client, pod, rows) });
  }
  if (type !== 'pod') {
    const row = chooseContainerRow(rows, text, namespace);
    if (row !== undefined)
      found.push({ kind: 'container', load: async () => withInfo(await client.inspect(row.id)) });
  }
  return found;
}

function podIfAny(
  pods: readonly KnownPod[],
  text: string,
  namespace: string | undefined,
): KnownPod | undefined {
  try {
    return choosePod(pods, text, namespace);
  } catch (error) {
    if (hasCode(error, 'POD_NOT_FOUND')) return undefined;
    throw error;
  }
}

/** Fewest characters of an id. */
const MIN_ID = 4;

/** By id, `pod/container` or name; of several attempts the newest. Pure. Throws AMBIGUOUS_CONTAINER. */
export function chooseContainerRow(
  rows: readonly ContainerRow[],
  text: string,
  namespace?: string,
): ContainerRow | undefined {
  const byId = text.length >= MIN_ID ? rows.filter((row) => row.id.startsWith(text)) : [];
  const fits = (row: ContainerRow): boolean =>
    (namespace === undefined || row.namespace === namespace) &&
    [row.name, `${row.pod}/${row.name}`, `${row.namespace}/${row.pod}/${row.name}`].includes(text);
  const named = new Map<string, ContainerRow>();
  for (const row of rows.filter(fits).toSorted((a, b) => a.attempt - b.attempt))
    named.set(`${row.podUid}/${row.name}`, row);
  const found = byId.length > 0 ? byId : [...named.values()];
  if (found.length > 1) {
    throw new NodeletError(
      'AMBIGUOUS_CONTAINER',
      `${JSON.stringify(text)} may be ${found.length} containers`,
      {
        hint: `name one of ${found.map((row) => `${row.pod}/${row.name}`).join(', ')}, or give more digits of an id`,
      },
    );
  }
  return found[0];
}

async function loadPod(client: AgentClient, pod: KnownPod, rows: readonly ContainerRow[]): Promise<unknown> {
  const own = rows.filter((row) => row.podUid === pod.metadata.uid);
  const ids = [...new Set(own.map((row) => row.podSandboxId))];
  const sandboxes = await Promise.all(ids.map(async (id) => withInfo(await client.inspect(id))));
  return { ...pod, runtime: { sandboxes, containers: own } };
}

/** CRI carries the verbose half as JSON in a text: shown as what it is. Pure. */
export function withInfo(answer: unknown): unknown {
  const { info, ...rest } = answer as { readonly info?: { readonly info?: string } };
  if (info?.info === undefined) return answer;
  return { ...rest, info: JSON.parse(info.info) as unknown };
}
