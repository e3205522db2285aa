import { hasCode } from '../base/index.ts';
import type { ContainerStatus } from '../cri/index.ts';
import { LABEL } from '../kubelet/index.ts';
import type { Agent } from './agent.ts';
import type { ContainerRow } from './api/types.ts';

const STATES = ['created', 'running', 'exited', 'unknown'] as const;
const millis = (nanos: number | undefined): number => Math.floor((nanos ?? 0) / 1e6);

/** Every container that the runtime knows, the newest first. */
export async function containerRows(agent: Agent): Promise<ContainerRow[]> {
  const { containers = [] } = await agent.runtime.listContainers({});
  const rows: ContainerRow[] = [];
  for (const { id = '', podSandboxId = '' } of containers) {
    const status = await statusOf(agent, id);
    if (status !== undefined) rows.push(row(status, podSandboxId, pidOf(agent, id)));
  }
  return rows.sort((a, b) => b.createdAt - a.createdAt);
}

/** Undefined where it was removed since the list. */
async function statusOf(agent: Agent, containerId: string): Promise<ContainerStatus | undefined> {
  try {
    return (await agent.runtime.containerStatus({ containerId })).status;
  } catch (error) {
    if (hasCode(error, 'NOT_FOUND')) return undefined;
    throw error;
  }
}

/** Known of a runtime in this process; CRI does not carry it. */
function pidOf(agent: Agent, id: string): number {
  const record = agent.local?.runtime.context.model.findContainer(id)?.record;
  return record?.state === 'running' ? record.pid : 0;
}

function row(status: ContainerStatus, podSandboxId: string, pid: number): ContainerRow {
  const labels = status.labels ?? {};
  return {
    id: status.id ?? '',
    name: status.metadata?.name ?? '',
    namespace: labels[LABEL.podNamespace] ?? '',
    pod: labels[LABEL.podName] ?? '',
    podUid: labels[LABEL.podUid] ?? '',
    podSandboxId,
    image: status.image?.userSpecifiedImage || status.image?.image || '',
    imageId: status.imageId ?? '',
    state: STATES[status.state ?? 3] ?? 'unknown',
    attempt: status.metadata?.attempt ?? 0,
    createdAt: millis(status.createdAt),
    startedAt: millis(status.startedAt),
    finishedAt: millis(status.finishedAt),
    exitCode: status.exitCode ?? 0,
    reason: status.reason ?? '',
    pid,
  };
}
