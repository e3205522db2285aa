/** What a container of a pod is created from. */
import type { UserNamespace } from '../../../src/cri/index.ts';
import type { BoundPod } from '../../../src/kube/index.ts';
import { defaultSettings, ObjectStore } from '../../../src/kubelet/index.ts';
import { containerConfig } from '../../../src/kubelet/translate/container.ts';
import type { ImageUser } from '../../../src/kubelet/translate/security.ts';
import { NODE, podOf } from './world.ts';

export type Fields = Readonly<Record<string, unknown>>;

function store(): ObjectStore {
  const objects = new ObjectStore();
  const metadata = { name: 'conf', namespace: 'default' };
  objects.putConfigMap({ metadata, data: { color: 'blue', size: '5' }, binaryData: { raw: '/w==' } });
  objects.putSecret({ metadata: { ...metadata, name: 'keys' }, data: { token: 'czNjcmV0' } });
  return objects;
}

export interface Given {
  readonly imageUser?: ImageUser;
  readonly userNamespace?: UserNamespace;
  readonly settings?: Partial<typeof defaultSettings>;
  readonly metadata?: Fields;
  readonly index?: number;
  readonly volumes?: ReadonlyMap<string, { path: string; readOnly: boolean }>;
}

export async function configOf(container: Fields, spec: Fields = {}, given: Given = {}) {
  const pod = await podOf({ ...spec, containers: [{ name: 'a', ...container }] }, given.metadata);
  return configIn(pod, given);
}

function configIn(pod: BoundPod, given: Given = {}) {
  const container = pod.spec.containers[given.index ?? 0];
  if (container === undefined) throw new Error('no container');
  return containerConfig({
    pod,
    container,
    attempt: 2,
    crashDelay: undefined,
    imageRef: 'sha256:1',
    imageUser: given.imageUser ?? {},
    objects: store(),
    volumes: given.volumes ?? new Map(),
    podIps: ['10.0.0.5', 'fd00::5'],
    etcHosts: '/kubelet/etc-hosts',
    terminationLog: '/kubelet/termination',
    userNamespace: given.userNamespace,
    seccompRoot: '/kubelet/seccomp',
    node: NODE,
    settings: { ...defaultSettings, ...given.settings },
  });
}
