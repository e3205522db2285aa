/** What starting a pod would do, operation by operation. Nothing is made, opened or looked up beyond reading this host. */
import { join } from 'node:path';
import type { LocalContainerConfig, PodSandboxConfig } from '../cri/index.ts';
import type { ImageRecord, ImageUsers } from '../image/index.ts';
import { RuntimeCgroups } from './cgroup.ts';
import type { RuntimeContext } from './context.ts';
import { canHaveEmptyMounts } from './empty-mounts.ts';
import { probeHost } from './host.ts';
import { type DescribedOperation, describePlan } from './launch/describe.ts';
import type { OciSpec } from './launch/spec.ts';
import { Container, Model, Sandbox } from './model.ts';
import { podNamespaces } from './namespaces.ts';
import { RECORD_VERSION, RecordStore } from './records.ts';
import { sandboxPlans } from './run-sandbox.ts';
import { SeccompPrograms } from './seccomp.ts';
import { planOf, specOf } from './spec-of.ts';
import { stopSignalOf } from './stop-signal.ts';
import { resolveUser } from './users.ts';

export interface PlanPodOptions {
  readonly root: string;
  readonly state: string;
  readonly cgroupRoot: string;
}

export interface PlannedImage {
  readonly record: ImageRecord;
  readonly users: ImageUsers;
  /** Layer directories, topmost first. */
  readonly lower: readonly string[];
}

export interface PlanPodInput {
  readonly sandbox: PodSandboxConfig;
  readonly containers: readonly {
    readonly config: LocalContainerConfig;
    /** Undefined where the image is not here yet: its container can only be planned after the pull. */
    readonly image: PlannedImage | undefined;
  }[];
}

export interface PlannedLaunch {
  readonly name: string;
  readonly operations: readonly DescribedOperation[];
}

export interface PodLaunchPlan {
  /** Stands for the id that is drawn when the pod is made. */
  readonly sandboxId: string;
  readonly sandbox: readonly PlannedLaunch[];
  readonly containers: readonly {
    readonly name: string;
    readonly id: string;
    readonly spec: OciSpec | undefined;
    readonly operations: readonly DescribedOperation[] | undefined;
  }[];
}

/** Ids are drawn at random; in a plan they are seen to be placeholders. */
function placeholder(index: number): string {
  return index.toString(16).padStart(2, '0').repeat(32);
}

/** The images of volumes are looked up at the create: what stands for their layers here names them. */
function plannedImageLayers(config: LocalContainerConfig): Map<string, readonly string[]> {
  const named = (config.mounts ?? []).filter((mount) => (mount.image?.image ?? '') !== '');
  return new Map(
    named.map((mount) => [mount.containerPath ?? '', [`the layers of ${mount.image?.image}`]] as const),
  );
}

/** Throws what a create would throw for the same request. */
export function planPodLaunch(options: PlanPodOptions, input: PlanPodInput): PodLaunchPlan {
  const host = probeHost();
  const cgroups = new RuntimeCgroups(options.cgroupRoot);
  const store = new RecordStore(join(options.state, 'sandboxes'));
  const model = new Model();
  const context: Pick<RuntimeContext, 'paths' | 'host' | 'cgroups' | 'store' | 'seccomp'> = {
    paths: { root: options.root, state: options.state, staging: join(options.state, 'root') },
    host,
    cgroups,
    store,
    seccomp: new SeccompPrograms(host.arch, host.kernel),
  };
  const sandboxId = placeholder(0);
  const namespaces = podNamespaces(input.sandbox);
  const sandbox = new Sandbox({
    version: RECORD_VERSION,
    bootId: host.bootId,
    id: sandboxId,
    config: input.sandbox,
    runtimeHandler: '',
    createdAt: 0,
    state: 'ready',
    shimPid: 0,
    pausePid: 0,
    network: undefined,
    hostname: input.sandbox.hostname ?? '',
    uidMap: namespaces.uidMap,
    gidMap: namespaces.gidMap,
    spans: [],
  });
  const plans = sandboxPlans(context, sandboxId, input.sandbox, sandbox.record.hostname);
  return {
    sandboxId,
    sandbox: plans.map((plan) => ({ name: plan.name, operations: describePlan(plan) })),
    containers: input.containers.map(({ config, image }, i) => {
      const id = placeholder(i + 1);
      const name = config.metadata?.name ?? '';
      if (image === undefined) return { name, id, spec: undefined, operations: undefined };
      const security = config.linux?.securityContext ?? {};
      const container = new Container(
        {
          version: RECORD_VERSION,
          bootId: host.bootId,
          id,
          sandboxId,
          config,
          imageId: image.record.id,
          imageRef: image.record.id,
          user: resolveUser(security, image.record.config.config?.User ?? '', image.users),
          stopSignal: stopSignalOf(config, image.record),
          createdAt: 0,
          state: 'created',
          pid: 0,
          startedAt: 0,
          finishedAt: 0,
          exitCode: 0,
          oomKilled: false,
          reason: '',
          message: '',
          spans: [],
        },
        sandbox,
      );
      model.addContainer(container);
      const active = join(options.root, 'snapshots', 'active', id);
      const spec = specOf(context, container, image.record, plannedImageLayers(config));
      const snapshot = { lower: image.lower, upper: join(active, 'upper'), work: join(active, 'work') };
      const emptyMounts = canHaveEmptyMounts(host.features) && sandbox.record.uidMap.length === 0;
      const plan = planOf(context, container, spec, snapshot, emptyMounts);
      return { name, id, spec, operations: describePlan(plan) };
    }),
  };
}
