/**
 * Start-up is recovery: what runs is adopted, what ended meanwhile is recorded, what has no owner is collected. Nothing here
 * depends on how the agent before this one ended.
 */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { hasCode, messageOf } from '../base/index.ts';
import { attachShim, containerExited, containerLost, reconcile, sandboxLost } from './attach-shim.ts';
import type { RuntimeContext } from './context.ts';
import { ownerOfSnapshot, removeImageMounts } from './image-mounts.ts';
import { volumeDirectory } from './image-volumes.ts';
import { Container, Sandbox } from './model.ts';
import { networkAttachment } from './network-attachment.ts';
import type { ContainerRecord, SandboxRecord } from './records.ts';
import { ShimClient } from './shim/client.ts';

export interface Recovered {
  readonly adopted: number;
  readonly lost: number;
  readonly collected: readonly string[];
}

export async function recover(context: RuntimeContext): Promise<Recovered> {
  const { store, model, host, log } = context;
  context.cgroups.checkRoot();
  const { sandboxes, containers, broken } = store.load();
  const collected: string[] = [];
  let adopted = 0;
  let lost = 0;
  for (const record of sandboxes) {
    const own = containers.filter((container) => container.sandboxId === record.id);
    if (record.bootId !== host.bootId || record.state === 'creating') {
      // Yesterday's, or half made: nothing of it can run on.
      await discardSandbox(context, record, own);
      collected.push(`sandbox ${record.id}`);
      continue;
    }
    const sandbox = new Sandbox(record);
    model.addSandbox(sandbox);
    for (const containerRecord of own) {
      const container = new Container(containerRecord, sandbox);
      if (containerRecord.state === 'exited') container.ended.resolve();
      model.addContainer(container);
    }
    if (record.state === 'ready') {
      if (await adopt(context, sandbox)) adopted += 1;
      else lost += 1;
    } else {
      // Stopped, or a stop that a crash cut short: only a shim that still answers knows of processes.
      for (const container of sandbox.containers.values()) {
        const { state } = container.record;
        // One that was created may have run: the agent before this one did not live to write that down.
        if (state !== 'running' && state !== 'created') continue;
        const exit = store.readExit(sandbox.id, container.id);
        if (exit !== undefined) containerExited(context, container, exit);
        else if (state === 'running') containerLost(context, container, 'its sandbox was stopped');
      }
    }
  }
  for (const { sandboxId, containerId } of broken) {
    // A directory that was made before its record: nothing else exists under that name yet.
    rmSync(
      containerId === undefined
        ? store.sandboxDirectory(sandboxId)
        : store.containerDirectory(sandboxId, containerId),
      { recursive: true, force: true },
    );
    collected.push(`record ${containerId ?? sandboxId}`);
  }
  collected.push(...(await collectGarbage(context)));
  log.info({ adopted, lost, collected: collected.length }, 'runtime state recovered');
  return { adopted, lost, collected };
}

async function adopt(context: RuntimeContext, sandbox: Sandbox): Promise<boolean> {
  try {
    const shim = ShimClient.connect(context.store.shimSocket(sandbox.id));
    try {
      const { podFds, pid } = await shim.hello();
      for (const [name, fd] of podFds) sandbox.namespaces.set(name, fd);
      sandbox.record.shimPid = pid;
      attachShim(context, sandbox, shim);
      reconcile(context, sandbox, await shim.list());
      await context.loopbackPorts.open(sandbox.record);
      return true;
    } catch (error) {
      sandbox.shim = undefined;
      shim.close();
      throw error;
    }
  } catch (error) {
    context.log.warn(
      { sandbox: sandbox.id, error: messageOf(error) },
      'cannot adopt a sandbox: its shim does not answer',
    );
    await sandboxLost(context, sandbox);
    return false;
  }
}

async function discardSandbox(
  context: RuntimeContext,
  record: SandboxRecord,
  containers: readonly ContainerRecord[],
): Promise<void> {
  const parent = record.config.linux?.cgroupParent ?? '';
  for (const container of containers) await discardContainer(context, record, container);
  await context.cgroups.removePauseLeaf(parent, record.id);
  await context.cgroups.removeShimGroup(record.id);
  if (context.network !== undefined) await context.network.remove(networkAttachment(record, undefined));
  context.store.removeSandbox(record.id);
}

async function discardContainer(
  context: RuntimeContext,
  sandbox: SandboxRecord,
  { id, config }: ContainerRecord,
): Promise<void> {
  const parent = sandbox.config.linux?.cgroupParent ?? '';
  await context.cgroups.kill(parent, id);
  await context.cgroups.remove(parent, id);
  await context.images.removeSnapshot(id);
  await removeImageMounts(context.images, id, config);
  rmSync(volumeDirectory(context, id), { recursive: true, force: true });
  context.store.removeContainer(sandbox.id, id);
}

/** Whatever carries the name of an owner that no record knows. */
async function collectGarbage(context: RuntimeContext): Promise<string[]> {
  const { model, images, cgroups, network } = context;
  const collected: string[] = [];
  for (const id of cgroups.shimGroups()) {
    if (model.sandboxes.has(id) && model.sandboxes.get(id)?.shim !== undefined) continue;
    await cgroups.removeShimGroup(id);
    collected.push(`shim ${id}`);
  }
  for (const path of cgroups.containerGroups()) {
    const id = path.slice(path.lastIndexOf('/') + 1);
    const container = model.containers.get(id);
    const sandbox = model.sandboxes.get(id);
    if (container !== undefined && container.record.state !== 'exited') continue;
    if (sandbox?.record.pausePid) continue;
    await cgroups.removePath(path);
    collected.push(`cgroup ${path}`);
  }
  for (const key of images.snapshotKeys()) {
    if (model.containers.has(ownerOfSnapshot(key))) continue;
    await images.removeSnapshot(key);
    collected.push(`snapshot ${key}`);
  }
  for (const id of names(join(context.paths.root, 'volumes'))) {
    if (model.containers.has(id)) continue;
    rmSync(volumeDirectory(context, id), { recursive: true, force: true });
    collected.push(`volumes ${id}`);
  }
  if (network !== undefined) {
    const valid = new Set(
      [...model.sandboxes.values()].filter((one) => one.record.state === 'ready').map((one) => one.id),
    );
    for (const id of await network.collect(valid)) collected.push(`network ${id}`);
  }
  return collected;
}

function names(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return [];
    throw error;
  }
}
