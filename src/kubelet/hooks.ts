/** Lifecycle hooks: postStart and preStop. */
import { describeError, hasCode, NodeletError, sleep } from '../base/index.ts';
import type { LocalRuntime } from '../cri/index.ts';
import { type BoundPod, type CheckedContainer, formatPod, type LifecycleHandler } from '../kube/index.ts';
import type { EventRecorder } from './events.ts';
import { httpGet, httpTarget } from './probe/http.ts';

const AGENT = 'kube-lifecycle/1.36';

export interface HookContext {
  readonly runtime: LocalRuntime;
  readonly events: EventRecorder;
  readonly pod: BoundPod;
  readonly container: CheckedContainer;
  readonly containerId: string;
  /** The preferred address of the pod. */
  readonly podIp: string;
}

/** Runs a hook to its end. Throws HOOK_FAILED with upstream's message. */
export async function runHook(
  handler: LifecycleHandler,
  context: HookContext,
  signal: AbortSignal,
): Promise<void> {
  const { container, pod } = context;
  const where = `for Container ${JSON.stringify(container.name)} in Pod ${JSON.stringify(formatPod(pod))} failed`;
  if (handler.exec) {
    const cmd = handler.exec.command ?? [];
    const result = await attempt(`Exec lifecycle hook ([${cmd.join(' ')}]) ${where}`, () =>
      context.runtime.execSync({ containerId: context.containerId, cmd, timeout: 0 }, signal),
    );
    if ((result.exitCode ?? 0) === 0) return;
    const output = Buffer.concat([
      result.stdout ?? new Uint8Array(),
      result.stderr ?? new Uint8Array(),
    ]).toString();
    throw new NodeletError(
      'HOOK_FAILED',
      `Exec lifecycle hook ([${cmd.join(' ')}]) ${where} - error: command '${cmd.join(' ')}' exited with ${result.exitCode}: ${output.trim()}, message: ${JSON.stringify(output)}`,
    );
  }
  if (handler.httpGet) {
    const { httpGet: action } = handler;
    await attempt(`HTTP lifecycle hook (${action.path ?? '/'}) ${where}`, () =>
      runHttp(handler, context, signal),
    );
  } else if (handler.sleep) {
    await attempt(`Sleep lifecycle hook (${handler.sleep.seconds}) ${where}`, () =>
      sleep((handler.sleep?.seconds ?? 0) * 1000, signal),
    );
  }
}

async function attempt<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw new NodeletError('HOOK_FAILED', `${what} - error: ${describeError(error)}`, { cause: error });
  }
}

async function runHttp(handler: LifecycleHandler, context: HookContext, signal: AbortSignal): Promise<void> {
  const action = handler.httpGet;
  if (action === undefined) return;
  const target = httpTarget(action, context.container, context.podIp, AGENT);
  try {
    await httpGet(target, signal);
  } catch (error) {
    // A server that speaks plain HTTP where TLS was expected is asked again in its own language.
    if (target.url.protocol !== 'https:' || !hasCode(error, 'EPROTO', 'ERR_SSL_WRONG_VERSION_NUMBER'))
      throw error;
    const url = new URL(target.url);
    url.protocol = 'http:';
    const headers = target.headers.filter(([name]) => name.toLowerCase() !== 'authorization');
    await httpGet({ url, headers }, signal);
    context.events.record(
      context.pod,
      'Warning',
      'LifecycleHTTPFallback',
      `request to HTTPS lifecycle hook ${url.host} got HTTP response, retry with HTTP succeeded`,
    );
  }
}
