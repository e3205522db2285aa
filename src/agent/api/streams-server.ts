/**
 * Exec, attach and port-forward of the local API, by the protocols of the CRI streaming server. Paths are the kubelet's. A
 * program is started before the upgrade, so that what goes wrong is an answer with a code.
 */
import { NodeletError } from '../../base/index.ts';
import {
  acceptCommand,
  serveAttachSession,
  serveExecSession,
  servePortForward,
  TIMEOUTS,
  type UpgradeRequest,
} from '../../cri/streaming/index.ts';
import type { Agent } from '../agent.ts';

export interface StreamCall {
  readonly agent: Agent;
  readonly url: URL;
  readonly params: Readonly<Record<string, string>>;
}

export interface StreamRoute {
  readonly path: string;
  serve(call: StreamCall, upgrade: UpgradeRequest): Promise<void>;
}

export const STREAM_ROUTES: readonly StreamRoute[] = [
  { path: '/exec/{namespace}/{pod}/{container}', serve: exec },
  { path: '/attach/{namespace}/{pod}/{container}', serve: attach },
  { path: '/portForward/{namespace}/{pod}', serve: portForward },
];

/** The running container of that name. Throws CONTAINER_NOT_FOUND, INVALID_STATE. */
function containerOf({ agent, params }: StreamCall): string {
  const pod = agent.findPod(`${params.namespace}/${params.pod}`);
  const containers = pod.spec?.containers ?? [];
  const name =
    params.container === '-'
      ? (pod.metadata.annotations?.['kubectl.kubernetes.io/default-container'] ?? containers[0]?.name)
      : params.container;
  const known = [...(pod.spec?.initContainers ?? []), ...containers].map((one) => one.name);
  if (name === undefined || !known.includes(name)) {
    throw new NodeletError(
      'CONTAINER_NOT_FOUND',
      `container ${JSON.stringify(params.container)} is not in pod "${params.namespace}/${params.pod}"`,
      {
        hint: `there are ${known.join(', ')}`,
      },
    );
  }
  const observed = agent.kubelet.observed(pod.metadata.uid)?.containers.find((one) => one.name === name);
  if (observed?.state !== 'running') {
    throw new NodeletError(
      'INVALID_STATE',
      `container "${name}" of pod "${params.namespace}/${params.pod}" does not run (${observed?.state ?? 'not created'})`,
    );
  }
  return observed.id;
}

/** Upgrades for a session that is open already, and closes that where it cannot be. */
async function serveOpen<T extends { close(): void }>(
  call: StreamCall,
  upgrade: UpgradeRequest,
  session: T,
  serve: (streams: Awaited<ReturnType<typeof acceptCommand>>, session: T) => Promise<void>,
): Promise<void> {
  const { terminal, stdin } = wantedOf(call);
  try {
    const wanted = { stdin, stdout: true, stderr: !terminal, terminal };
    await serve(await acceptCommand(upgrade, wanted, TIMEOUTS), session);
  } finally {
    session.close();
  }
}

function wantedOf({ url }: StreamCall): { terminal: boolean; stdin: boolean } {
  const flag = (name: string): boolean => ['true', '1'].includes(url.searchParams.get(name) ?? '');
  return { terminal: flag('tty'), stdin: flag('stdin') };
}

async function exec(call: StreamCall, upgrade: UpgradeRequest): Promise<void> {
  const query = call.url.searchParams;
  const height = Number(query.get('rows') ?? 0);
  const width = Number(query.get('columns') ?? 0);
  const session = await call.agent.runtime.openExec({
    ...wantedOf(call),
    containerId: containerOf(call),
    command: query.getAll('command'),
    ...(height > 0 && width > 0 ? { size: { height, width } } : {}),
  });
  await serveOpen(call, upgrade, session, serveExecSession);
}

async function attach(call: StreamCall, upgrade: UpgradeRequest): Promise<void> {
  const { terminal, stdin } = wantedOf(call);
  const session = await call.agent.runtime.openAttach({
    containerId: containerOf(call),
    terminal,
    stdin,
    stdout: true,
    stderr: !terminal,
  });
  await serveOpen(call, upgrade, session, serveAttachSession);
}

async function portForward({ agent, params }: StreamCall, upgrade: UpgradeRequest): Promise<void> {
  const pod = agent.findPod(`${params.namespace}/${params.pod}`);
  const sandboxes = agent.kubelet.observed(pod.metadata.uid)?.sandboxes ?? [];
  const sandbox = sandboxes.find((one) => one.ready);
  if (sandbox === undefined)
    throw new NodeletError('INVALID_STATE', `pod "${params.namespace}/${params.pod}" does not run`);
  await servePortForward(agent.runtime, { podSandboxId: sandbox.id, ports: [] }, upgrade);
}
