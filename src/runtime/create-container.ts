/** CreateContainer: everything but a process. What the request says is checked here, so that a start can only fail at the kernel. */
import { mkdirSync, rmSync } from 'node:fs';
import { dirname, posix } from 'node:path';
import { CleanupStack, failpoint, NodeletError, SpanList } from '../base/index.ts';
import { ContainerEventType, type LocalContainerConfig } from '../cri/index.ts';
import { makeDirectoryBeneath } from '../linux/beneath.ts';
import { AT_FDCWD, AT_SYMLINK_NOFOLLOW } from '../linux/constants.ts';
import { native } from '../linux/native.ts';
import { check } from '../linux/syscall-error.ts';
import { commandOf } from './build-spec.ts';
import { containerEdits } from './cdi-edits.ts';
import type { RuntimeContext } from './context.ts';
import { newId } from './ids.ts';
import { prepareImageMounts, removeImageMounts } from './image-mounts.ts';
import { makeVolumes, volumeDirectory } from './image-volumes.ts';
import { hostId } from './launch/spec.ts';
import { Container, type Sandbox } from './model.ts';
import { checkMounts } from './mount-sources.ts';
import { containerNamespaces } from './namespaces.ts';
import { type ContainerRecord, RECORD_VERSION } from './records.ts';
import { checkSelinux } from './security-modules.ts';
import { specOf } from './spec-of.ts';
import { checkSandbox } from './state.ts';
import { stopSignalOf } from './stop-signal.ts';
import { targetOf } from './target-namespaces.ts';
import { resolveUser } from './users.ts';

function checkConfig(config: LocalContainerConfig): void {
  const name = config.metadata?.name ?? '';
  if (name === '') throw new NodeletError('INVALID_ARGUMENT', 'config.metadata.name is empty');
  if (name.length > 253 || /[/\0\n]/.test(name))
    throw new NodeletError(
      'INVALID_ARGUMENT',
      `config.metadata.name ${JSON.stringify(name.slice(0, 100))} is no valid name`,
    );
  const log = config.logPath ?? '';
  if (log !== '' && (log.startsWith('/') || posix.normalize(log).startsWith('..'))) {
    throw new NodeletError(
      'INVALID_ARGUMENT',
      `config.logPath ${JSON.stringify(log)} leads out of the pod's log directory`,
    );
  }
}

export async function createContainer(
  context: RuntimeContext,
  sandbox: Sandbox,
  config: LocalContainerConfig,
  signal?: AbortSignal,
): Promise<Container> {
  checkConfig(config);
  checkSandbox(sandbox.id, sandbox.phase, 'create-container');
  const existing = [...sandbox.containers.values()].find(
    (one) =>
      one.record.config.metadata?.name === config.metadata?.name &&
      (one.record.config.metadata?.attempt ?? 0) === (config.metadata?.attempt ?? 0),
  );
  // A create that was given up by its caller and is tried again.
  if (existing !== undefined) return existing;

  const { images, store, model, log } = context;
  const reference = config.image?.image ?? '';
  const image = images.resolve(reference);
  if (image === undefined) {
    throw new NodeletError(
      'IMAGE_NOT_FOUND',
      `cannot create a container from image ${JSON.stringify(reference)}: it is not on this machine`,
      {
        hint: `pull it first: nodelet image pull ${reference}`,
      },
    );
  }
  const security = config.linux?.securityContext ?? {};
  const user = resolveUser(security, image.config.config?.User ?? '', images.users(image));
  commandOf(config, image.config);
  checkSecurity(context, sandbox, config);
  checkMounts(config.mounts ?? []);
  context.cgroups.check(config.linux?.resources ?? {});
  const edits = await containerEdits(config, user, context.cdiDirectories);
  const apparmorProfile = await context.apparmor.profile(security);
  const id = newId();
  const record: ContainerRecord = {
    version: RECORD_VERSION,
    bootId: context.host.bootId,
    id,
    sandboxId: sandbox.id,
    config,
    imageId: image.id,
    imageRef: image.repoDigests[0] ?? image.id,
    user,
    edits,
    apparmorProfile,
    stopSignal: stopSignalOf(config, image),
    createdAt: Date.now() * 1e6,
    state: 'created',
    pid: 0,
    startedAt: 0,
    finishedAt: 0,
    exitCode: 0,
    oomKilled: false,
    reason: '',
    message: '',
    spans: [],
  };
  const container = new Container(record, sandbox);
  container.ended.resolve();
  const spans = new SpanList();
  const undo = new CleanupStack((step, error) =>
    log.warn({ container: id, step, error: error.message }, 'cannot undo'),
  );
  try {
    // Snapshot and volumes carry the container's id: without a record, which comes last, they are nobody's and collected.
    undo.push('snapshot', () => images.removeSnapshot(id));
    const snapshot = await spans.measure('prepare snapshot', 'image', async () => images.prepare(id, image));
    mapOwner(sandbox, snapshot.upper);
    failpoint('container:after-snapshot');
    undo.push('image volumes', () => removeImageMounts(images, id, config));
    const imageLayers = prepareImageMounts(images, id, config);
    failpoint('container:after-image-volumes');
    undo.push('volumes', () => rmSync(volumeDirectory(context, id), { recursive: true, force: true }));
    await makeVolumes(context, config, id, image);
    failpoint('container:after-volumes');
    if (config.logPath && sandbox.record.config.logDirectory)
      makeLogDirectory(sandbox.record.config.logDirectory, dirname(config.logPath));
    const spec = specOf(context, container, image, imageLayers);
    container.prepared = { spec, snapshot };
    context.seccomp.of(security, spec.process.capabilities?.bounding ?? []);
    if (signal?.aborted) throw new NodeletError('ABORTED', 'the request was cancelled');
    // It may have been stopped or removed meanwhile: a record in it would belong to nobody.
    checkSandbox(sandbox.id, sandbox.phase, 'create-container');
    record.spans = spans.spans;
    undo.push('record', () => store.removeContainer(sandbox.id, id));
    store.saveContainer(record);
    failpoint('container:after-created');
    model.addContainer(container);
    undo.disarm();
  } catch (error) {
    await undo.run();
    throw error;
  }
  context.emit(ContainerEventType.CONTAINER_CREATED_EVENT, sandbox, container);
  return container;
}

/** Through no link: a pod that mounts all logs could have put one there. */
function makeLogDirectory(base: string, path: string): void {
  mkdirSync(base, { recursive: true, mode: 0o755 });
  makeDirectoryBeneath(base, path, 0o755);
}

/** What the security context asks for against what the pod and this machine have. */
function checkSecurity(context: RuntimeContext, sandbox: Sandbox, config: LocalContainerConfig): void {
  const security = config.linux?.securityContext ?? {};
  if (security.privileged === true && sandbox.record.config.linux?.securityContext?.privileged !== true)
    throw new NodeletError(
      'INVALID_ARGUMENT',
      'config.linux.securityContext.privileged: the sandbox is not privileged, so no container in it may be',
      { hint: 'make the sandbox with linux.securityContext.privileged' },
    );
  targetOf(context.model, sandbox, containerNamespaces(security.namespaceOptions, sandbox.namespaceModes));
  checkSelinux(
    security.selinuxOptions,
    'config.linux.securityContext.selinuxOptions',
    context.host.securityModules,
  );
}

/**
 * Files that the container makes belong to the ids that the host sees, so the writable layer's own directory must belong
 * to the pod's root.
 */
function mapOwner(sandbox: Sandbox, upper: string): void {
  const { uidMap, gidMap } = sandbox.record;
  if (uidMap.length === 0) return;
  const st = native().statx(AT_FDCWD, upper, AT_SYMLINK_NOFOLLOW);
  if (typeof st === 'number') check(st, 'statx', upper);
  else
    check(
      native().fchownat(AT_FDCWD, upper, hostId(uidMap, st.uid), hostId(gidMap, st.gid), AT_SYMLINK_NOFOLLOW),
      'chown',
      upper,
    );
}
