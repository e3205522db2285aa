/** StartContainer: compile, run, record. A start that fails ends the container: it is made anew, never started twice. */
import { deferred, failpoint, NodeletError, SpanList } from '../base/index.ts';
import { ContainerEventType } from '../cri/index.ts';
import type { Fd } from '../linux/fd.ts';
import { containerExited } from './attach-shim.ts';
import type { RuntimeContext } from './context.ts';
import { deviceProgram } from './device-program.ts';
import { prepareImageMounts } from './image-mounts.ts';
import { logWarnings } from './launch-warnings.ts';
import type { Container, PreparedContainer } from './model.ts';
import { LaunchError } from './shim/client.ts';
import { imageOf, planOf, specOf } from './spec-of.ts';
import { checkContainer } from './state.ts';
import { openTargetNamespaces } from './target-namespaces.ts';

export async function startContainer(context: RuntimeContext, container: Container): Promise<void> {
  const { record, sandbox } = container;
  checkContainer(record.id, record.state, 'start');
  const { shim } = sandbox;
  if (shim === undefined || sandbox.phase !== 'ready') {
    throw new NodeletError(
      'INVALID_STATE',
      `cannot start container "${record.id.slice(0, 12)}": its sandbox is not ready`,
    );
  }
  const spans = new SpanList();
  const mounts = context.emptyMounts.of(sandbox);
  let program: { readonly fd: number; close(): void } | undefined;
  let targets: readonly Fd[] = [];
  try {
    const plan = await spans.measure('compile launch plan', 'agent', async () => {
      program = deviceProgram(context, record);
      targets = await openTargetNamespaces(context, sandbox, container.namespaceModes);
      const { spec, snapshot } = container.prepared ?? prepare(context, container);
      return planOf(context, container, spec, snapshot, mounts !== undefined);
    });
    failpoint('start:before-run');
    container.ended = deferred<void>();
    container.starting = true;
    const started = await spans.measure('run launch plan', 'agent', () =>
      shim.run(
        plan,
        [program?.fd, mounts?.number, ...targets.map((fd) => fd.number)].filter((fd) => fd !== undefined),
        { deadline: context.startDeadline },
      ),
    );
    context.spares.refillSoon();
    failpoint('start:after-run');
    for (const span of started.spans) spans.add(span);
    logWarnings(context, record.id, started.warnings);
    for (const fd of started.fds) fd.close();
    record.pid = started.pid;
    record.startedAt = Number(started.startedAt);
    record.state = 'running';
    record.spans = [...record.spans, ...spans.spans];
    context.store.saveSoon(record);
    failpoint('start:after-record');
  } catch (error) {
    await startFailed(context, container, error);
    throw startError(container, error);
  } finally {
    container.prepared = undefined;
    container.starting = false;
    program?.close();
    for (const fd of targets) fd.close();
  }
  context.emit(ContainerEventType.CONTAINER_STARTED_EVENT, sandbox, container);
  const early = container.earlyExit;
  container.earlyExit = undefined;
  if (early !== undefined) containerExited(context, container, early);
}

/** What a create has done already, where it was another agent's. */
function prepare(context: RuntimeContext, container: Container): PreparedContainer {
  const image = imageOf(context, container);
  return {
    spec: specOf(
      context,
      container,
      image,
      prepareImageMounts(context.images, container.id, container.record.config),
    ),
    snapshot: context.images.prepare(container.id, image),
  };
}

/** 127 and 126 as a shell gives them; 128 for anything before the program, as containerd. */
function exitCodeOf(error: unknown): number {
  if (
    !(error instanceof LaunchError) ||
    (error.operation !== 'execute' && error.operation !== 'find-program')
  )
    return 128;
  return error.errno === 2 ? 127 : 126;
}

function startError(container: Container, error: unknown): NodeletError {
  const name = container.record.config.metadata?.name ?? container.id.slice(0, 12);
  const details = { exitCode: container.record.exitCode };
  if (!(error instanceof LaunchError)) {
    return error instanceof NodeletError
      ? error
      : new NodeletError('START_FAILED', `cannot start container "${name}"`, { cause: error, details });
  }
  return new NodeletError('START_FAILED', `cannot start container "${name}": ${explain(container, error)}`, {
    cause: error,
    details,
  });
}

/** What a launch failure means to the person who wrote the pod. */
function explain(container: Container, error: LaunchError): string {
  const file = error.detail.replace(/: not found in PATH$/, '');
  const quoted = JSON.stringify(file);
  if (error.operation === 'find-program' || (error.operation === 'execute' && error.errno === 2)) {
    if (error.errno === 13) return `exec: ${quoted}: permission denied`;
    return file.includes('/')
      ? `exec: ${quoted}: no such file or directory`
      : `exec: ${quoted}: executable file not found in $PATH`;
  }
  if (error.operation === 'execute') {
    if (error.errno === 8) return `exec: ${quoted}: exec format error`;
    if (error.errno === 13) return `exec: ${quoted}: permission denied`;
  }
  if ((error.operation === 'working-directory' || error.operation === 'directory-in') && error.errno === 20) {
    return `working directory ${JSON.stringify(container.record.config.workingDir ?? error.detail)} is not a directory`;
  }
  const limit = container.record.config.linux?.resources?.memoryLimitInBytes ?? 0;
  if (error.errno === 12 && limit > 0)
    return `its memory limit of ${limit} bytes may be too small to start anything (operation "${error.operation}": ENOMEM); raise resources.limits.memory`;
  if (error.signal === 9) {
    const because =
      limit > 0 ? `; its memory limit of ${limit} bytes may be too small to start anything` : '';
    return `killed while it was set up (operation "${error.operation}")${because}`;
  }
  return error.message.replace(/^cannot start "[^"]*": /, '');
}

async function startFailed(context: RuntimeContext, container: Container, error: unknown): Promise<void> {
  const { record } = container;
  record.state = 'exited';
  record.exitCode = exitCodeOf(error);
  record.reason = 'StartError';
  record.finishedAt = Date.now() * 1e6;
  record.startedAt = record.finishedAt;
  record.message = startError(container, error).message;
  container.ended.resolve();
  const parent = container.sandbox.record.config.linux?.cgroupParent ?? '';
  // Where the answer was lost, and not the start, it runs: nobody would look for it in a container that has ended.
  await context.cgroups
    .kill(parent, record.id)
    .then(() => context.cgroups.remove(parent, record.id))
    .catch((cause: unknown) => {
      context.log.warn(
        { container: record.id, error: String(cause) },
        'cannot remove the cgroup of a container that did not start',
      );
    });
  context.store.saveContainer(record);
  context.emit(ContainerEventType.CONTAINER_STOPPED_EVENT, container.sandbox, container);
}
