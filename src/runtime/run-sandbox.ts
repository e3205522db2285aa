/** RunPodSandbox: record, files, shim, namespaces, network; undone in reverse where a step fails. */
import { mkdirSync } from 'node:fs';
import { hostname as hostHostname } from 'node:os';
import { CleanupStack, failpoint, NodeletError, type Span, SpanList } from '../base/index.ts';
import { NamespaceMode, type PodSandboxConfig } from '../cri/index.ts';
import { native } from '../linux/native.ts';
import { check } from '../linux/syscall-error.ts';
import { attachShim } from './attach-shim.ts';
import type { RuntimeContext } from './context.ts';
import { POD_SYSCTLS, SHM_SIZE } from './defaults.ts';
import { heldDescriptors } from './held.ts';
import { newId } from './ids.ts';
import { compileSandbox, fitsSpare, type SandboxContext } from './launch/compile-sandbox.ts';
import type { LaunchPlan } from './launch/encode.ts';
import { logWarnings } from './launch-warnings.ts';
import { Sandbox } from './model.ts';
import { podNamespaces } from './namespaces.ts';
import { networkAttachment } from './network-attachment.ts';
import { RECORD_VERSION, type SandboxRecord } from './records.ts';
import { writeSandboxFiles } from './sandbox-files.ts';
import { checkSelinux } from './security-modules.ts';
import type { RunningShim } from './shim/start.ts';
import type { Spare } from './spares.ts';
import { stopShim } from './stop-shim.ts';
import { checkSysctls } from './sysctls.ts';

function checkConfig(config: PodSandboxConfig): void {
  const { metadata } = config;
  for (const field of ['name', 'namespace', 'uid'] as const) {
    const value = metadata?.[field] ?? '';
    if (value === '') throw new NodeletError('INVALID_ARGUMENT', `config.metadata.${field} is empty`);
    if (value.length > 253 || /[/\0\n]/.test(value))
      throw new NodeletError(
        'INVALID_ARGUMENT',
        `config.metadata.${field} ${JSON.stringify(value.slice(0, 100))} is no valid name`,
      );
  }
  if ((config.hostname ?? '').length > 64)
    throw new NodeletError(
      'INVALID_ARGUMENT',
      `config.hostname ${JSON.stringify(config.hostname)} has more than 64 characters`,
    );
  // It becomes a line of /etc/hosts (CVE-2022-4318).
  if (/[\0-\x20\x7f/]/.test(config.hostname ?? ''))
    throw new NodeletError(
      'INVALID_ARGUMENT',
      `config.hostname ${JSON.stringify(config.hostname)} has a space, a slash or a control character`,
    );
}

/** The plans that make the pod's namespaces, and what they are compiled from: `nodelet plan` prints them too. */
export function sandboxPlans(
  context: Pick<RuntimeContext, 'paths' | 'host' | 'cgroups'>,
  id: string,
  config: PodSandboxConfig,
  hostname: string,
  prepared = false,
): LaunchPlan[] {
  return compileSandbox(sandboxContext(context, id, config, hostname, prepared));
}

const NO_CGROUP = { steps: [], directory: '', join: [] };

/** Which namespaces a request wants for its pod. */
function namespacesOf(
  config: PodSandboxConfig,
): Pick<SandboxContext, 'network' | 'uts' | 'ipc' | 'sharedPid' | 'uidMap' | 'gidMap'> {
  const { network, ipc, pid, uidMap, gidMap } = podNamespaces(config);
  // A pod on the host's network has the host's name, too.
  return { network, uts: network, ipc, sharedPid: pid === NamespaceMode.POD, uidMap, gidMap };
}

function sandboxContext(
  context: Pick<RuntimeContext, 'paths' | 'host' | 'cgroups'>,
  id: string,
  config: PodSandboxConfig,
  hostname: string,
  prepared: boolean,
): SandboxContext {
  const namespaces = namespacesOf(config);
  const { network, sharedPid } = namespaces;
  return {
    id,
    hostname,
    ...namespaces,
    sysctls: {
      ...(network && !prepared ? POD_SYSCTLS : {}),
      ...checkSysctls(config.linux?.sysctls ?? {}, namespaces),
    },
    shmSize: SHM_SIZE,
    staging: context.paths.staging,
    cgroup: sharedPid ? context.cgroups.pauseLeaf(config.linux?.cgroupParent ?? '', id) : NO_CGROUP,
    oomScoreAdj: -998,
    features: context.host.features,
    prepared,
  };
}

export async function runSandbox(
  context: RuntimeContext,
  config: PodSandboxConfig,
  runtimeHandler: string,
  signal?: AbortSignal,
): Promise<Sandbox> {
  checkConfig(config);
  const { store, model, log } = context;
  const namespaces = namespacesOf(config);
  checkSysctls(config.linux?.sysctls ?? {}, namespaces);
  checkSelinux(
    config.linux?.securityContext?.selinuxOptions,
    'config.linux.securityContext.selinuxOptions',
    context.host.securityModules,
  );
  const spare = fitsSpare({ ...namespaces, features: context.host.features })
    ? context.spares.take()
    : undefined;
  const id = spare?.id ?? newId();
  const hostNetwork = !namespaces.network;
  const hostname = hostNetwork || !config.hostname ? hostHostname() : config.hostname;
  const record: SandboxRecord = {
    version: RECORD_VERSION,
    bootId: context.host.bootId,
    id,
    config,
    runtimeHandler,
    createdAt: Date.now() * 1e6,
    state: 'creating',
    shimPid: 0,
    pausePid: 0,
    network: undefined,
    hostname,
    uidMap: namespaces.uidMap,
    gidMap: namespaces.gidMap,
    spans: [],
  };
  const sandbox = new Sandbox(record);
  const spans = new SpanList();
  const undo = new CleanupStack((step, error) =>
    log.warn({ sandbox: id, step, error: error.message }, 'cannot undo'),
  );
  try {
    // The record stands before anything that it names, so that a crash leaves no owner unknown.
    undo.push('record', () => store.removeSandbox(id));
    // A spare is there already, and must not be lost where there is no room for the record.
    if (spare !== undefined) useSpare(context, sandbox, spare, undo);
    store.saveSandbox(record);
    failpoint('sandbox:after-record');
    if (spare === undefined) {
      await spans.measure('start shim', 'agent', async () => {
        using group = context.cgroups.openShimGroup(id);
        undo.push('shim cgroup', () => context.cgroups.removeShimGroup(id));
        failpoint('sandbox:after-shim-cgroup');
        useShim(
          context,
          sandbox,
          context.shims.start({ sandboxId: id, socketPath: store.shimSocket(id), cgroup: group.number }),
          undo,
        );
      });
    }
    failpoint('sandbox:after-shim');
    const parent = config.linux?.cgroupParent ?? '';
    if (namespaces.sharedPid) undo.push('pause cgroup', () => context.cgroups.removePauseLeaf(parent, id));

    const namespacesMade = spans.measure('make namespaces', 'agent', () =>
      makeNamespaces(context, sandbox, spans, spare !== undefined, signal),
    );
    // Meanwhile.
    const filesWritten = writeFiles(store.sandboxDirectory(id), hostname, config);
    for (const step of await Promise.allSettled([namespacesMade, filesWritten]))
      if (step.status === 'rejected') throw step.reason;
    failpoint('sandbox:after-namespaces');

    if (!hostNetwork && context.network !== undefined) {
      const network = context.network;
      const attachment = networkAttachment({ id, config }, sandbox.namespaces.get('net')?.number);
      undo.push('network', () => network.remove(attachment));
      record.network = await spans.measure('connect network', 'network', () => network.add(attachment));
      failpoint('sandbox:after-network');
      undo.push('loopback ports', () => context.loopbackPorts.close(id));
      await context.loopbackPorts.open(record);
    }
    if (signal?.aborted) throw new NodeletError('ABORTED', 'the request was cancelled');
    record.state = 'ready';
    record.spans = spans.spans;
    store.saveSandbox(record);
    failpoint('sandbox:after-ready');
    model.addSandbox(sandbox);
    undo.disarm();
    return sandbox;
  } catch (error) {
    await undo.run();
    sandbox.release();
    throw error;
  }
}

async function writeFiles(directory: string, hostname: string, config: PodSandboxConfig): Promise<void> {
  if (config.logDirectory) mkdirSync(config.logDirectory, { recursive: true, mode: 0o755 });
  writeSandboxFiles(directory, hostname, config.dnsConfig);
  failpoint('sandbox:after-files');
}

function useShim(context: RuntimeContext, sandbox: Sandbox, shim: RunningShim, undo: CleanupStack): void {
  attachShim(context, sandbox, shim.client);
  sandbox.shimPidfd = shim.pidfd;
  sandbox.record.shimPid = shim.pid;
  undo.push('shim', () => {
    sandbox.stopping = true;
    return stopShim(context, sandbox);
  });
}

function useSpare(context: RuntimeContext, sandbox: Sandbox, spare: Spare, undo: CleanupStack): void {
  undo.push('shim cgroup', () => context.cgroups.removeShimGroup(spare.id));
  useShim(context, sandbox, spare.shim, undo);
  for (const [name, fd] of spare.namespaces) sandbox.namespaces.set(name, fd);
}

/** Whether a sandbox that was made ahead lacks nothing but its name: the shim need not be asked for that. */
function needsOnlyName(config: PodSandboxConfig): boolean {
  return !namespacesOf(config).sharedPid && Object.keys(config.linux?.sysctls ?? {}).length === 0;
}

async function makeNamespaces(
  context: RuntimeContext,
  sandbox: Sandbox,
  spans: { add(span: Span): void },
  prepared: boolean,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { shim, record } = sandbox;
  if (shim === undefined) throw new NodeletError('SHIM_GONE', 'the shim has not started');
  const uts = sandbox.namespaces.get('uts');
  if (prepared && uts !== undefined && needsOnlyName(record.config)) {
    check(native().setHostname(uts.number, record.hostname), 'sethostname', record.hostname);
    return;
  }
  for (const plan of sandboxPlans(context, sandbox.id, record.config, record.hostname, prepared)) {
    const started = await shim.run(plan, [], { deadline: context.startDeadline, signal });
    if (started.pid !== 0) record.pausePid = started.pid;
    for (const span of started.spans) spans.add(span);
    logWarnings(context, sandbox.id, started.warnings);
    for (const [name, fd] of heldDescriptors(plan, started.fds)) {
      sandbox.namespaces.get(name)?.close();
      sandbox.namespaces.set(name, fd);
    }
  }
}
