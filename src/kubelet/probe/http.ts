/** HTTP requests of probes and hooks: no proxy, no kept connection, certificates not checked, short bodies. */
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { NodeletError } from '../../base/index.ts';
import { type CheckedContainer, type HTTPGetAction } from '../../kube/index.ts';

export interface HttpAnswer {
  readonly status: number;
  readonly body: string;
  /** Set where the last answer sends us to another host, to which we do not go. */
  readonly redirectedTo?: string;
}

export interface HttpTarget {
  readonly url: URL;
  readonly headers: readonly (readonly [name: string, value: string])[];
}

const MAX_BODY = 10 * 1024;
const MAX_REDIRECTS = 10;

/** A port by number, or by the name that a container gives it. Throws INVALID_PORT. */
export function resolvePort(port: number | string, container: CheckedContainer): number {
  if (typeof port === 'number') return port;
  const named = (container.ports ?? []).find((each) => each.name === port)?.containerPort;
  const number = named ?? Number(port);
  if (Number.isInteger(number) && number > 0 && number < 65_536) return number;
  throw new NodeletError(
    'INVALID_PORT',
    `cannot find port ${JSON.stringify(port)} of container "${container.name}"`,
  );
}

export function httpTarget(
  action: HTTPGetAction,
  container: CheckedContainer,
  podIp: string,
  agent: string,
): HttpTarget {
  const host = action.host || podIp;
  const port = resolvePort(action.port, container);
  const scheme = (action.scheme ?? 'HTTP').toLowerCase();
  const path = action.path ?? '/';
  const authority = host.includes(':') ? `[${host}]` : host;
  const url = new URL(`${scheme}://${authority}:${port}${path.startsWith('/') ? path : `/${path}`}`);
  const own = (action.httpHeaders ?? []).map(({ name, value }) => [name, value ?? ''] as const);
  const given = (name: string) => own.some(([each]) => each.toLowerCase() === name);
  const headers = [
    ...own,
    ...(given('user-agent') ? [] : [['User-Agent', agent] as const]),
    ...(given('accept') ? [] : [['Accept', '*/*'] as const]),
  ].filter(
    ([name, value]) =>
      value !== '' || (name.toLowerCase() !== 'user-agent' && name.toLowerCase() !== 'accept'),
  );
  return { url, headers };
}

/** GET, following redirects on the same host. Rejects where no answer comes, or the signal fires. */
export async function httpGet(target: HttpTarget, signal: AbortSignal): Promise<HttpAnswer> {
  let url = target.url;
  for (let hop = 0; ; hop++) {
    const response = await send(url, target.headers, signal);
    const status = response.statusCode ?? 0;
    const { location } = response.headers;
    const body = await readBody(response);
    if (status < 300 || status >= 400 || location === undefined || status === 304) return { status, body };
    const next = new URL(location, url);
    if (next.hostname !== target.url.hostname) return { status, body, redirectedTo: next.href };
    if (hop + 1 >= MAX_REDIRECTS) {
      throw new NodeletError('TOO_MANY_REDIRECTS', `stopped after ${MAX_REDIRECTS} redirects`);
    }
    url = next;
  }
}

function send(url: URL, headers: HttpTarget['headers'], signal: AbortSignal): Promise<IncomingMessage> {
  const lines: Record<string, string | string[]> = {};
  for (const [name, value] of headers) {
    const before = lines[name];
    // There is one host only: the first that is named.
    if (name.toLowerCase() === 'host') lines.host ??= value;
    else lines[name] = before === undefined ? value : [before, value].flat();
  }
  const request = url.protocol === 'https:' ? httpsRequest : httpRequest;
  return new Promise((resolve, reject) => {
    const sent = request(url, { headers: lines, agent: false, signal, rejectUnauthorized: false }, resolve);
    sent.on('error', reject);
    sent.end();
  });
}

async function readBody(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    size += chunk.length;
    if (size >= MAX_BODY) break;
  }
  response.destroy();
  return Buffer.concat(chunks).subarray(0, MAX_BODY).toString();
}
