/** A container up to the moment before its program runs. What fails on the way is undone. */
import { readFileSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { CleanupStack, failpoint, hasCode, NodeletError } from '../../base/index.ts';
import { removeCgroup } from '../../linux/cgroups/index.ts';
import { loadDeviceProgram } from '../../linux/devices/index.ts';
import type { Fd } from '../../linux/fd.ts';
import { bootId, processIdentity } from '../../linux/procfs.ts';
import { compileContainer } from '../launch/compile-container.ts';
import type { ShimClient, Started } from '../shim/client.ts';
import { cgroupPath, prepareParents } from './cgroup.ts';
import { type OciConfig, readConfig } from './config/index.ts';
import { checkConsole, connectConsole, sendConsole } from './console.ts';
import type { OciContext } from './context.ts';
import { runHooks, runLateHooks } from './hooks.ts';
import {
  CallShim,
  launchError,
  preservedDescriptors,
  reportWarnings,
  socketActivation,
  takeTerminal,
  writePidFile,
} from './launch.ts';
import { type Prepared, prepare, rootOf } from './prepare.ts';
import { checkId, type OciRecord, START_SOCKET, stateOf } from './state.ts';

export interface CreateOptions {
  readonly id: string;
  readonly bundle: string;
  readonly pidFile: string | undefined;
  readonly consoleSocket: string | undefined;
  readonly preserve: number;
  readonly keyring: boolean;
  /** Whoever calls does not stay for the container's terminal. */
  readonly detached: boolean;
}

export interface Created {
  readonly record: OciRecord;
  readonly config: OciConfig;
  readonly shim: CallShim;
  /** Where nobody else has taken it. */
  readonly terminal: Fd | undefined;
}

export async function createContainer(context: OciContext, options: CreateOptions): Promise<Created> {
  const id = checkId(options.id);
  const { bundle, config, text } = readBundle(options.bundle);
  for (const field of config.unknown)
    context.log.warn(`config.json: ${field}: unknown field of the top level, passed over`);
  checkConsole(config.process.terminal === true, options.detached, options.consoleSocket);
  const activation = socketActivation();
  const preserved = preservedDescriptors(options.preserve + activation.count);
  const cgroup = cgroupPath(config.linux.cgroupsPath, id);
  const rootfs = rootOf(bundle, config);
  const undo = new CleanupStack((name, error) => context.log.warn(`undoing: ${name}: ${error.message}`));
  const directory = context.store.claim(id);
  undo.push('the container directory', () => context.store.remove(id));
  try {
    using _lock = context.store.lock(id);
    const blank: OciRecord = {
      version: 1,
      ociVersion: config.ociVersion,
      id,
      bundle,
      rootfs,
      pid: 0,
      startTime: 0,
      bootId: bootId(),
      created: new Date().toISOString(),
      annotations: config.annotations,
      cgroup,
    };
    context.store.writeConfig(id, text);
    context.store.write(blank);
    failpoint('oci.create.recorded');
    prepareParents(context.host, cgroup);
    undo.push('the cgroup', () => removeCgroup(context.host, cgroup));
    const prepared = prepare(
      {
        id,
        bundle,
        config: withEnvironment(config, activation.env),
        host: context.host,
        cgroup,
        front: {
          socket: { directory, name: START_SOCKET },
          preserve: preserved.length,
          keyring: options.keyring,
        },
      },
      context.log,
    );
    using console = options.consoleSocket === undefined ? undefined : connectConsole(options.consoleSocket);
    const shim = new CallShim(id);
    // Whatever it has started ends with the connection, unless it is told to leave.
    undo.push('the processes', () => shim.end());
    failpoint('oci.create.shim');
    const started = await launch(context, shim.client, prepared, preserved, blank, config, undo);
    reportWarnings(started, context.log);
    const record = recordOf(blank, started.pid);
    context.store.write(record);
    failpoint('oci.create.started');
    const terminal = takeTerminal(started);
    if (console !== undefined && terminal !== undefined) {
      sendConsole(console, terminal);
      terminal.close();
    }
    writePidFile(options.pidFile, record.pid);
    undo.disarm();
    return { record, config, shim, terminal: terminal?.closed === true ? undefined : terminal };
  } catch (error) {
    await undo.run();
    throw launchError(error);
  }
}

function readBundle(path: string): { bundle: string; config: OciConfig; text: string } {
  let bundle = path;
  try {
    bundle = realpathSync(path);
    const text = readFileSync(join(bundle, 'config.json'), 'utf8');
    return { bundle, config: readConfig(text), text };
  } catch (error) {
    if (!hasCode(error, 'ENOENT', 'ENOTDIR', 'EISDIR')) throw error;
    throw new NodeletError('OCI_BUNDLE', `cannot read ${JSON.stringify(join(bundle, 'config.json'))}`, {
      hint: 'a bundle is a directory with a config.json: name it with --bundle, or make one with "spec"',
      cause: error,
    });
  }
}

function withEnvironment(config: OciConfig, env: readonly string[]): OciConfig {
  if (env.length === 0) return config;
  return { ...config, process: { ...config.process, env: [...config.process.env, ...env] } };
}

function recordOf(blank: OciRecord, pid: number): OciRecord {
  const identity = processIdentity(pid);
  if (identity === undefined)
    throw new NodeletError('OCI_START_FAILED', "the container's first process has ended at once");
  return { ...blank, pid, startTime: identity.startTime };
}

async function launch(
  context: OciContext,
  shim: ShimClient,
  prepared: Prepared,
  preserved: readonly number[],
  blank: OciRecord,
  config: OciConfig,
  undo: CleanupStack,
): Promise<Started> {
  for (const plan of prepared.plans) {
    const { fds } = await shim.run(plan);
    for (const fd of fds) fd.close();
  }
  using program = loadDeviceProgram(prepared.deviceRules);
  const plan = compileContainer(prepared.spec, prepared.context);
  let failed: unknown;
  const off = shim.reached.on((pid) => {
    const state = stateOf({ ...blank, pid }, 'creating');
    // From here on hooks may have made something that poststop takes away.
    undo.push('hooks', () =>
      runLateHooks(config.hooks, 'poststop', { ...state, status: 'stopped' }, context.log),
    );
    void runHooks(config.hooks, 'prestart', state)
      .then(() => runHooks(config.hooks, 'createRuntime', state))
      .then(() => shim.proceed(plan.name, JSON.stringify(state)))
      .catch((error: unknown) => {
        failed = error;
        shim.close();
      });
  });
  try {
    return await shim.run(plan, [program.number, 0, 1, 2, ...preserved]);
  } catch (error) {
    throw failed ?? error;
  } finally {
    off();
  }
}
