/** What is done for a pod as a whole: its directories, cgroup, volumes and sandboxes, before and after its containers. */
import { mkdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { describeError, failpoint, hasCode } from '../../base/index.ts';
import { podCgroup } from '../cgroups.ts';
import type { ActionOf } from '../core/actions.ts';
import { PodError } from '../errors.ts';
import { podDns } from '../translate/dns.ts';
import { sandboxConfig } from '../translate/sandbox.ts';
import { removeTree, setUpVolumes, tearDownVolumes } from '../volumes/volumes.ts';
import { type PodContext, userNamespaceOf } from './context.ts';

export async function preparePod(context: PodContext): Promise<void> {
  const { pod, paths, cgroups, events, settings } = context;
  const { uid } = pod.metadata;
  for (const path of [paths.pod(uid), paths.volumes(uid), join(paths.pod(uid), 'plugins')]) {
    mkdirSync(path, { recursive: true, mode: 0o750 });
  }
  mkdirSync(paths.podLogs(pod), { recursive: true, mode: 0o755 });
  failpoint('kubelet:after-directories');
  try {
    await cgroups.ensure(podCgroup(pod, settings));
  } catch (error) {
    const message = `unable to ensure pod container exists: ${describeError(error)}`;
    events.record(pod, 'Warning', 'FailedCreatePodContainer', message);
    throw new PodError('FailedCreatePodContainer', message, { cause: error });
  }
  failpoint('kubelet:after-cgroup');
  userNamespaceOf(context);
  const failures = setUpVolumes(pod, { ...context, now: () => new Date(context.now()) });
  for (const { volume, message } of failures) {
    events.record(
      pod,
      'Warning',
      'FailedMount',
      `MountVolume.SetUp failed for volume ${JSON.stringify(volume)} : ${message}`,
    );
  }
  const [first] = failures;
  if (first !== undefined)
    throw new PodError('FailedMount', `volume ${JSON.stringify(first.volume)}: ${first.message}`);
}

export async function createSandbox(
  context: PodContext,
  action: ActionOf<'create-sandbox'>,
  signal: AbortSignal,
): Promise<void> {
  const { pod, runtime, events, node, settings, cgroups, paths } = context;
  if (action.replaces) {
    events.record(pod, 'Normal', 'SandboxChanged', 'Pod sandbox changed, it will be killed and re-created.');
  }
  try {
    const dns = podDns(pod, settings, node.resolvConf);
    for (const { reason, message } of dns.warnings) events.record(pod, 'Warning', reason, message);
    const config = sandboxConfig({
      pod,
      attempt: action.attempt,
      dns: dns.config,
      clusterDomain: settings.clusterDomain,
      cgroupParent: cgroups.parent(podCgroup(pod, settings)),
      logDirectory: paths.podLogs(pod),
      userNamespace: userNamespaceOf(context),
    });
    await runtime.runPodSandbox({ config, runtimeHandler: '' }, signal);
  } catch (error) {
    const message = describeError(error);
    if (!signal.aborted) {
      events.record(pod, 'Warning', 'FailedCreatePodSandBox', `Failed to create pod sandbox: ${message}`);
    }
    throw new PodError('CreatePodSandboxError', message, { cause: error });
  }
}

export async function stopSandbox(
  { pod, runtime, events }: PodContext,
  action: ActionOf<'stop-sandbox'>,
): Promise<void> {
  try {
    await runtime.stopPodSandbox({ podSandboxId: action.id });
  } catch (error) {
    if (hasCode(error, 'NOT_FOUND')) return;
    events.record(pod, 'Warning', 'FailedKillPod', `error killing pod: ${describeError(error)}`);
    throw new PodError('KillPodSandboxError', describeError(error), { cause: error });
  }
}

export async function removeSandbox(
  { runtime }: PodContext,
  action: ActionOf<'remove-sandbox'>,
): Promise<void> {
  await runtime.removePodSandbox({ podSandboxId: action.id });
}

export async function releasePod({ pod, paths, cgroups, userNamespaces }: PodContext): Promise<void> {
  const { uid } = pod.metadata;
  await tearDownVolumes(uid, paths);
  failpoint('kubelet:after-volumes');
  await cgroups.remove(uid);
  failpoint('kubelet:after-cgroup-removal');
  userNamespaces.release(uid);
}

/** Leaves the record, which says that the pod is to be removed, until everybody has heard that it is gone. */
export async function erasePod({ pod, paths }: PodContext): Promise<void> {
  const { uid } = pod.metadata;
  await rm(paths.podLogs(pod), { recursive: true, force: true });
  failpoint('kubelet:after-logs');
  await removeTree(paths.pod(uid), basename(paths.record(uid)));
}
