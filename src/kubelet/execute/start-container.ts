import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { describeError, failpoint, hasCode } from '../../base/index.ts';
import type { LocalContainerConfig, LocalMount } from '../../cri/index.ts';
import type { CheckedContainer } from '../../kube/index.ts';
import { makeDirectoryBeneath } from '../../linux/beneath.ts';
import { podCgroup } from '../cgroups.ts';
import type { ActionOf } from '../core/actions.ts';
import { asPodError, PodError } from '../errors.ts';
import { writeHosts } from '../files/hosts.ts';
import { makeTerminationFile } from '../files/termination.ts';
import { runHook } from '../hooks.ts';
import { orderAddresses } from '../status/status.ts';
import { containerConfig } from '../translate/container.ts';
import { podDns } from '../translate/dns.ts';
import { podHostname } from '../translate/hostname.ts';
import type { MountedVolume } from '../translate/mounts.ts';
import { sandboxConfig } from '../translate/sandbox.ts';
import type { ImageUser } from '../translate/security.ts';
import { bindSubPath, openSubPath } from '../volumes/sub-path.ts';
import { volumePaths } from '../volumes/volumes.ts';
import { containerOf, type PodContext, podAddress, userNamespaceOf } from './context.ts';
import { killContainer } from './kill-container.ts';

/** Creates and starts one attempt of a container and runs its postStart hook. */
export async function startContainer(
  context: PodContext,
  action: ActionOf<'start-container'>,
  signal: AbortSignal,
): Promise<void> {
  const container = containerOf(context.pod, action.container);
  const attempt = action.attempt ?? attemptFromLogs(context, container);
  const files: string[] = [];
  let id: string;
  try {
    const config = await step(context, container, signal, 'CreateContainerConfigError', () =>
      configure(context, container, action, attempt, files),
    );
    failpoint('kubelet:before-create');
    id = await step(context, container, signal, 'CreateContainerError', () =>
      create(context, action, config, signal),
    );
  } catch (error) {
    for (const file of files) rmSync(file, { force: true });
    throw error;
  }
  context.events.record(context.pod, 'Normal', 'Created', 'Container created', container.name);
  failpoint('kubelet:after-create');
  await step(context, container, signal, 'RunContainerError', () =>
    context.runtime.startContainer({ containerId: id }, signal),
  );
  context.events.record(context.pod, 'Normal', 'Started', 'Container started', container.name);
  linkLog(context, container, attempt, id);
  failpoint('kubelet:after-start');
  await postStart(context, container, id, action.ips, signal);
}

/** Runs one step; its failure becomes an event and the container's waiting reason. */
async function step<T>(
  context: PodContext,
  container: CheckedContainer,
  signal: AbortSignal,
  reason: string,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const failure = asPodError(error, reason);
    if (!signal.aborted) {
      context.events.record(context.pod, 'Warning', 'Failed', `Error: ${failure.message}`, container.name);
    }
    throw failure;
  }
}

/** The first attempt of which the runtime knows nothing: log files of earlier ones, from before a reboot, tell the count. */
function attemptFromLogs({ pod, paths }: PodContext, container: CheckedContainer): number {
  const folder = paths.containerLogs(pod, container.name);
  if (!existsSync(folder)) return 0;
  const attempts = readdirSync(folder).flatMap((name) => /^(\d+)\.log/.exec(name)?.[1] ?? []);
  return attempts.length === 0 ? 0 : Math.max(...attempts.map(Number)) + 1;
}

function podIpsOf({ pod, node }: PodContext, action: ActionOf<'start-container'>): string[] {
  return orderAddresses(pod.spec.hostNetwork ? node.ips : action.ips, node.ips);
}

async function configure(
  context: PodContext,
  container: CheckedContainer,
  action: ActionOf<'start-container'>,
  attempt: number,
  files: string[],
): Promise<LocalContainerConfig> {
  const { pod, paths, settings } = context;
  const { uid } = pod.metadata;
  const podIps = podIpsOf(context, action);
  const hasHosts = podIps.length > 0 || pod.spec.hostNetwork === true;
  // Through no link: a pod that mounts all logs could have put one there.
  const { podLogs } = paths.directories;
  mkdirSync(podLogs, { recursive: true, mode: 0o755 });
  makeDirectoryBeneath(podLogs, relative(podLogs, paths.containerLogs(pod, container.name)), 0o755);
  if (hasHosts) writeHosts(paths.etcHosts(uid), pod, podIps, podHostname(pod, settings.clusterDomain));
  const terminationLog = makeTerminationFile(paths.container(uid, container.name));
  files.push(terminationLog);
  const volumes = volumePaths(pod, paths);
  const config = containerConfig({
    ...context,
    container,
    attempt,
    crashDelay: action.crash?.delay,
    imageRef: action.imageRef,
    imageUser: await imageUser(context, action.imageRef),
    volumes,
    podIps,
    etcHosts: hasHosts ? paths.etcHosts(uid) : undefined,
    terminationLog,
    userNamespace: userNamespaceOf(context),
    seccompRoot: paths.seccomp,
  });
  return withSubPaths(context, container, config, volumes);
}

/** Makes sure that subPaths are there, and binds them where the runtime does not. */
function withSubPaths(
  { pod, paths, runtime }: PodContext,
  container: CheckedContainer,
  config: LocalContainerConfig,
  volumes: ReadonlyMap<string, MountedVolume>,
): LocalContainerConfig {
  // In what the kubelet writes itself nothing is made: the name may yet become a file there.
  const fixed = new Set([...volumes.values()].filter(({ readOnly }) => readOnly).map(({ path }) => path));
  const mounts = (config.mounts ?? []).map((mount, index): LocalMount => {
    const { hostPath = '', subPath } = mount;
    if (subPath === undefined) return mount;
    using source = openSubPath(hostPath, subPath, !fixed.has(hostPath));
    if (runtime.wantsPreparedSubPaths !== true) return mount;
    return bindSubPath(mount, source, join(paths.subPaths(pod.metadata.uid), container.name, String(index)));
  });
  return { ...config, mounts };
}

async function imageUser({ images }: PodContext, imageRef: string): Promise<ImageUser> {
  const { image } = await images.imageStatus({ image: { image: imageRef } });
  if (image === undefined) {
    throw new PodError('CreateContainerError', `image ${JSON.stringify(imageRef)} has just been removed`);
  }
  const uid = image.uid?.value;
  return { ...(uid === undefined ? {} : { uid }), ...(image.username ? { username: image.username } : {}) };
}

async function create(
  context: PodContext,
  action: ActionOf<'start-container'>,
  config: LocalContainerConfig,
  signal: AbortSignal,
): Promise<string> {
  const { pod, runtime, node, settings, cgroups, paths } = context;
  const sandbox = sandboxConfig({
    pod,
    attempt: 0,
    dns: podDns(pod, settings, node.resolvConf).config,
    clusterDomain: settings.clusterDomain,
    cgroupParent: cgroups.parent(podCgroup(pod, settings)),
    logDirectory: paths.podLogs(pod),
    userNamespace: userNamespaceOf(context),
  });
  const request = { podSandboxId: action.sandboxId, config, sandboxConfig: sandbox };
  return (await runtime.createContainer(request, signal)).containerId ?? '';
}

/** The name under which collectors of logs look for it. */
function linkLog(
  { pod, paths, log }: PodContext,
  container: CheckedContainer,
  attempt: number,
  id: string,
): void {
  const link = paths.logLink(pod, container.name, id);
  if (link === undefined) return;
  try {
    mkdirSync(dirname(link), { recursive: true, mode: 0o755 });
    symlinkSync(`${paths.containerLogs(pod, container.name)}/${attempt}.log`, link);
  } catch (error) {
    if (!hasCode(error, 'EEXIST'))
      log.warn({ link, error: describeError(error) }, 'cannot link the log of a container');
  }
}

async function postStart(
  context: PodContext,
  container: CheckedContainer,
  containerId: string,
  ips: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const handler = container.lifecycle?.postStart;
  if (handler === undefined) return;
  try {
    const podIp = podAddress(context, ips);
    await runHook(handler, { ...context, container, containerId, podIp }, signal);
  } catch (error) {
    if (signal.aborted) throw error;
    // Not the message: it may hold what the server answered.
    context.events.record(
      context.pod,
      'Warning',
      'FailedPostStartHook',
      'PostStartHook failed',
      container.name,
    );
    const grace = context.pod.spec.terminationGracePeriodSeconds;
    const kill = { container: container.name, id: containerId, ips, grace, message: 'FailedPostStartHook' };
    await killContainer(context, kill, signal);
    throw new PodError('PostStartHookError', describeError(error), { cause: error });
  }
}
