/**
 * A runtime of another process as the kubelet sees its own: containerd, CRI-O, or `nodelet cri`. What it lacks is made up
 * for here (events of an old containerd, streams by URL) or said (subPath, spans).
 */
import { codeOf, hasCode, type Log, NodeletError, sleep } from '../../base/index.ts';
import * as cri from '../api.gen.ts';
import type { CriClient } from '../grpc/client.ts';
import type { LocalRuntime } from '../services.ts';
import { relisted } from './relist.ts';
import { followAttach, followExec, followPortForward } from './streams.ts';

/** Milliseconds in which a runtime that is just being started has to answer, and between two tries. */
const PATIENCE = 10_000;
const RETRY = 250;

/** Nothing is asked yet. */
export function remoteRuntime(client: CriClient, log: Log): LocalRuntime {
  const calls = client.runtime;
  return {
    ...calls,
    // CRI knows no subPath: the kubelet prepares it.
    wantsPreparedSubPaths: true,
    spans: () => [],
    async *getContainerEvents(request, signal) {
      try {
        yield* calls.getContainerEvents(request, signal);
      } catch (error) {
        if (!hasCode(error, 'UNIMPLEMENTED')) throw error;
        log.debug({ path: client.path }, 'the runtime sends no events: it is asked for its lists instead');
        yield* relisted(calls, signal);
      }
    },
    async openExec(options, signal) {
      const { containerId, command, terminal, stdin, env = [] } = options;
      const { url = '' } = await calls.exec(
        {
          containerId,
          // CRI's exec has no environment of its own.
          cmd: env.length === 0 ? [...command] : ['env', ...env, ...command],
          tty: terminal,
          stdin,
          stdout: true,
          stderr: !terminal,
        },
        signal,
      );
      return await followExec(url, options, signal);
    },
    async openAttach(options, signal) {
      const { containerId, terminal, stdin, stdout, stderr } = options;
      const request = { containerId, tty: terminal, stdin, stdout, stderr: stderr && !terminal };
      const { url = '' } = await calls.attach(request, signal);
      return await followAttach(url, options, signal);
    },
    async openPortForward(options, signal) {
      const { podSandboxId, port } = options;
      const { url = '' } = await calls.portForward({ podSandboxId, port: [port] }, signal);
      return await followPortForward(url, options, signal);
    },
  };
}

export interface RuntimeFacts {
  readonly name: string;
  readonly version: string;
}

/**
 * Waits for a runtime to answer, and looks whether the kubelet can work over it. Throws RUNTIME_UNREACHABLE,
 * RUNTIME_UNSUITABLE.
 */
export async function untilReady(client: CriClient, signal?: AbortSignal): Promise<RuntimeFacts> {
  const { runtimeName = '', runtimeVersion = '', runtimeApiVersion = '' } = await firstAnswer(client, signal);
  const shown = `the runtime at "${client.path}" (${runtimeName} ${runtimeVersion})`;
  if (runtimeApiVersion !== 'v1')
    throw new NodeletError(
      'RUNTIME_UNSUITABLE',
      `cannot use ${shown}: it speaks CRI ${JSON.stringify(runtimeApiVersion)}, not v1`,
    );
  if ((await cgroupDriver(client, signal)) === cri.CgroupDriver.SYSTEMD)
    throw new NodeletError('RUNTIME_UNSUITABLE', `cannot use ${shown}: it uses systemd for its cgroups`, {
      hint: 'set its cgroup driver to cgroupfs (containerd: SystemdCgroup = false; CRI-O: cgroup_manager = "cgroupfs")',
    });
  return { name: runtimeName, version: runtimeVersion };
}

async function firstAnswer(client: CriClient, signal: AbortSignal | undefined): Promise<cri.VersionResponse> {
  const deadline = performance.now() + PATIENCE;
  for (;;) {
    try {
      return await client.runtime.version({ version: 'v1' }, signal);
    } catch (error) {
      const code = codeOf(error);
      if (code === 'UNIMPLEMENTED')
        throw new NodeletError(
          'RUNTIME_UNSUITABLE',
          `cannot use the runtime at "${client.path}": it does not serve CRI v1`,
          {
            hint: 'is its CRI plugin switched off, or is this the socket of something else?',
            cause: error,
          },
        );
      if (code !== 'RUNTIME_UNREACHABLE' || performance.now() > deadline) {
        throw new NodeletError('RUNTIME_UNREACHABLE', `no container runtime answers at "${client.path}"`, {
          hint: 'start it, or name its socket by --container-runtime-endpoint',
          cause: error,
        });
      }
    }
    await sleep(RETRY, signal);
  }
}

/** A runtime of before CRI's RuntimeConfig does as it is told by its own configuration: cgroupfs is its default. */
async function cgroupDriver(
  client: CriClient,
  signal: AbortSignal | undefined,
): Promise<cri.CgroupDriver | undefined> {
  try {
    const { linux } = await client.runtime.runtimeConfig({}, signal);
    return linux === undefined ? undefined : (linux.cgroupDriver ?? cri.CgroupDriver.SYSTEMD);
  } catch (error) {
    if (hasCode(error, 'UNIMPLEMENTED')) return undefined;
    throw error;
  }
}
