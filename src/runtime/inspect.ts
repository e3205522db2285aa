/** The verbose half of CRI's status calls, shaped as containerd's where crictl's users look for it. */
import type { RuntimeContext } from './context.ts';
import { prepareImageMounts } from './image-mounts.ts';
import type { OciNamespaceType, OciSpec } from './launch/spec.ts';
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

/** Names below /proc/<pid>/ns. */
const NS_FILES: Readonly<Record<OciNamespaceType, string>> = {
  pid: 'pid',
  network: 'net',
  ipc: 'ipc',
  uts: 'uts',
  mount: 'mnt',
  user: 'user',
  cgroup: 'cgroup',
  time: 'time',
};

/** Where a running container's namespaces can be entered, in the place of how they were asked for. */
function withPaths(spec: OciSpec, pid: number): OciSpec {
  if (pid === 0) return spec;
  const namespaces = spec.linux.namespaces.map((one) => ({
    ...one,
    path: `/proc/${pid}/ns/${NS_FILES[one.type]}`,
  }));
  return { ...spec, linux: { ...spec.linux, namespaces } };
}

export function inspectContainer(context: RuntimeContext, container: Container): object {
  const { record } = container;
  let runtimeSpec: object | string;
  try {
    const layers = prepareImageMounts(context.images, record.id, record.config);
    runtimeSpec = withPaths(
      specOf(context, container, imageOf(context, container), layers),
      record.state === 'running' ? record.pid : 0,
    );
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
