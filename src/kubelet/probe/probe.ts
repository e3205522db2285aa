/** One probe, once. */
import { connect } from 'node:net';
import { describeError, hasCode, LinkedSignal, messageOf } from '../../base/index.ts';
import type { LocalRuntime } from '../../cri/index.ts';
import type { CheckedContainer, Probe } from '../../kube/index.ts';
import { expand } from '../translate/expand.ts';
import { httpGet, httpTarget, resolvePort } from './http.ts';

const AGENT = 'kube-probe/1.36';
const MAX_OUTPUT = 10 * 1024;

export interface ProbeTarget {
  readonly runtime: LocalRuntime;
  readonly container: CheckedContainer;
  readonly containerId: string;
  readonly podIp: string;
}

export interface ProbeAnswer {
  /** A warning counts as a success. */
  readonly result: 'success' | 'warning' | 'failure';
  readonly output: string;
}

/** Rejects where the probe itself could not be made: that says nothing about the container. */
export async function probeOnce(
  probe: Probe,
  target: ProbeTarget,
  signal: AbortSignal,
): Promise<ProbeAnswer> {
  const seconds = probe.timeoutSeconds ?? 1;
  if (probe.exec) return probeExec(probe.exec.command ?? [], target, seconds, signal);
  using linked = new LinkedSignal([signal], seconds * 1000);
  const until = linked.signal;
  if (probe.httpGet) return await probeHttp(probe, target, until, signal);
  if (probe.tcpSocket) {
    const port = resolvePort(probe.tcpSocket.port, target.container);
    return await probeTcp(probe.tcpSocket.host || target.podIp, port, until, signal);
  }
  return { result: 'success', output: '' };
}

async function probeExec(
  command: readonly string[],
  target: ProbeTarget,
  timeout: number,
  signal: AbortSignal,
): Promise<ProbeAnswer> {
  // A probe knows the variables that the manifest sets to a text, and no others.
  const env = new Map((target.container.env ?? []).map(({ name, value }) => [name, value ?? '']));
  const cmd = command.map((word) => expand(word, (name) => env.get(name)));
  try {
    const answer = await target.runtime.execSync({ containerId: target.containerId, cmd, timeout }, signal);
    const output = Buffer.concat([answer.stdout ?? new Uint8Array(), answer.stderr ?? new Uint8Array()]);
    const text = output.subarray(0, MAX_OUTPUT).toString();
    return { result: (answer.exitCode ?? 0) === 0 ? 'success' : 'failure', output: text };
  } catch (error) {
    if (!hasCode(error, 'DEADLINE_EXCEEDED')) throw error;
    return {
      result: 'failure',
      output: `command timed out: ${JSON.stringify(cmd.join(' '))} timed out after ${timeout}s`,
    };
  }
}

async function probeHttp(
  probe: Probe,
  target: ProbeTarget,
  until: AbortSignal,
  cancelled: AbortSignal,
): Promise<ProbeAnswer> {
  if (probe.httpGet === undefined) return { result: 'success', output: '' };
  const request = httpTarget(probe.httpGet, target.container, target.podIp, AGENT);
  try {
    const { status, body, redirectedTo } = await httpGet(request, until);
    if (redirectedTo !== undefined) {
      return { result: 'warning', output: `Probe terminated redirects, Response body: ${body}` };
    }
    if (status >= 200 && status < 400) return { result: 'success', output: body };
    return { result: 'failure', output: `HTTP probe failed with statuscode: ${status}` };
  } catch (error) {
    if (cancelled.aborted) throw error;
    const why = until.aborted ? 'context deadline exceeded' : describeError(error);
    return { result: 'failure', output: `Get "${request.url.href}": ${why}` };
  }
}

function probeTcp(
  host: string,
  port: number,
  until: AbortSignal,
  cancelled: AbortSignal,
): Promise<ProbeAnswer> {
  return new Promise((resolve, reject) => {
    const address = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
    const socket = connect({ host, port });
    const end = (settle: () => void) => {
      until.removeEventListener('abort', abort);
      socket.destroy();
      settle();
    };
    const fail = (why: string) =>
      end(() => resolve({ result: 'failure', output: `dial tcp ${address}: ${why}` }));
    const abort = () => {
      if (cancelled.aborted) end(() => reject(new Error('the probe was cancelled')));
      else fail('i/o timeout');
    };
    until.addEventListener('abort', abort, { once: true });
    socket.once('connect', () => end(() => resolve({ result: 'success', output: '' })));
    socket.once('error', (error) => fail(messageOf(error)));
    if (until.aborted) abort();
  });
}
