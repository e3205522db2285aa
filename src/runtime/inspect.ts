/** The verbose half of CRI's status calls, shaped as containerd's where crictl's users look for it. */
import type { RuntimeContext } from './context.ts';
import type { Container, Sandbox } from './model.ts';
import { imageOf, specOf } from './spec-of.ts';

export function inspectSandbox(sandbox: Sandbox): object {
  const { record } = sandbox;
  return {
    pid: record.pausePid,
    shimPid: record.shimPid,
    config: record.config,
    cniResult: record.network,
    uidMappings: record.uidMap,
    gidMappings: record.gidMap,
  };
}

export function inspectContainer(context: RuntimeContext, container: Container): object {
  const { record } = container;
  let runtimeSpec: object | string;
  try {
    runtimeSpec = specOf(context, container, imageOf(context, container));
  } catch (error) {
    runtimeSpec = `cannot be computed now: ${String(error)}`;
  }
  return {
    sandboxID: record.sandboxId,
    pid: record.state === 'running' ? record.pid : 0,
    config: record.config,
    snapshotKey: record.id,
    runtimeSpec,
  };
}
