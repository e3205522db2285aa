/** A container into the configuration that CRI creates it from. Pure. */
import { type LocalContainerConfig, Signal, type UserNamespace } from '../../cri/index.ts';
import type { BoundPod, CheckedContainer } from '../../kube/index.ts';
import type { KubeletSettings, NodeFacts } from '../node.ts';
import type { ObjectLookup } from '../objects.ts';
import { relativeLogPath } from '../paths.ts';
import { resolveEnv } from './env.ts';
import { expand } from './expand.ts';
import { containerAnnotations, containerLabels } from './labels.ts';
import { containerMounts, type MountedVolume } from './mounts.ts';
import { containerResources } from './resources.ts';
import { containerSecurity, type ImageUser } from './security.ts';

export interface ContainerInput {
  readonly pod: BoundPod;
  readonly container: CheckedContainer;
  readonly attempt: number;
  readonly crashDelay: number | undefined;
  readonly imageRef: string;
  readonly imageUser: ImageUser;
  readonly objects: ObjectLookup;
  readonly volumes: ReadonlyMap<string, MountedVolume>;
  readonly podIps: readonly string[];
  readonly etcHosts: string | undefined;
  readonly terminationLog: string | undefined;
  readonly userNamespace: UserNamespace | undefined;
  readonly seccompRoot: string;
  readonly node: NodeFacts;
  readonly settings: KubeletSettings;
}

/** Throws CreateContainerConfigError, worded as upstream's. */
export function containerConfig(input: ContainerInput): LocalContainerConfig {
  const { pod, container, attempt, node, settings } = input;
  const env = resolveEnv(input);
  const expanded = (words: readonly string[] | undefined) =>
    (words ?? []).map((word) => expand(word, (name) => env.get(name)));
  const stopSignal = stopSignalOf(container);
  return {
    metadata: { name: container.name, attempt },
    image: { image: input.imageRef, userSpecifiedImage: container.image },
    command: expanded(container.command),
    args: expanded(container.args),
    workingDir: container.workingDir ?? '',
    envs: [...env].map(([key, value]) => ({ key, value })),
    mounts: containerMounts({ ...input, env }),
    labels: containerLabels(pod, container),
    annotations: containerAnnotations(pod, container, attempt, input.crashDelay),
    logPath: relativeLogPath(container.name, attempt),
    stdin: container.stdin ?? false,
    stdinOnce: container.stdinOnce ?? false,
    tty: container.tty ?? false,
    linux: {
      resources: containerResources(pod, container, { node, settings }),
      securityContext: containerSecurity({
        ...input,
        seccompDefault: settings.seccompDefault,
        thermalThrottlePaths: node.thermalThrottlePaths,
      }),
    },
    ...(stopSignal === undefined ? {} : { stopSignal }),
  };
}

/** `SIGRTMIN+3` is SIGRTMINPLUS3 in CRI. */
function stopSignalOf(container: CheckedContainer): Signal | undefined {
  const name = container.lifecycle?.stopSignal;
  if (name === undefined) return undefined;
  return Signal[name.replace('+', 'PLUS').replace('-', 'MINUS') as keyof typeof Signal];
}
