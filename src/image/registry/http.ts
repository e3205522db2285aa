/**
 * The transport: one function over undici, loaded at the first request (it costs 100 ms and 20 MiB). Redirects are
 * followed here, so that nothing that is meant for one origin (credentials, a configured header, a client certificate,
 * the leave not to check) ever reaches another.
 */
import type { Readable } from 'node:stream';
import type { Agent, Dispatcher, ProxyAgent, request as sendRequest } from 'undici';
import { hasCode, NodeletError } from '../../base/index.ts';
import { quote } from '../digest.ts';
import { type ProxyEnvironment, proxyFor } from './proxy.ts';
import { secureContext, type TlsProfile } from './tls.ts';

export interface HttpOptions {
  readonly connectTimeout: number;
  /** Until the response's headers; milliseconds. */
  readonly headersTimeout: number;
  /** Between two pieces of a body; milliseconds. */
  readonly bodyTimeout: number;
  /** True for `host[:port]` where plain HTTP is allowed. */
  readonly plainAllowed: (host: string) => boolean;
  readonly proxies: ProxyEnvironment;
}

export interface HttpRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  /** For the origin of `url` alone, as is `tls`. */
  readonly ownHeaders?: Readonly<Record<string, string>>;
  readonly tls?: TlsProfile | undefined;
  /** True where the configuration names this origin with plain HTTP: then credentials may go there. */
  readonly plain?: boolean | undefined;
  /** Milliseconds, in place of the default. */
  readonly connectTimeout?: number | undefined;
  /** What can be sent once only (a stream) is not sent again to where a redirect leads. */
  readonly body?: string | Uint8Array | Readable;
  readonly signal?: AbortSignal;
}

export interface HttpResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Readable;
  /** After redirects. */
  readonly url: URL;
}

const maxRedirects = 5;
/** Bytes of a response's headers. */
const maxHeaders = 64 * 1024;
/** Pools of connections with settings of their own; configuration that changes would otherwise pile them up. */
const maxDispatchers = 32;

interface Undici {
  readonly Agent: typeof Agent;
  readonly ProxyAgent: typeof ProxyAgent;
  readonly request: typeof sendRequest;
}

export class Http {
  readonly #options: HttpOptions;
  /** By proxy, profile and time-out; the latest used last. */
  readonly #dispatchers = new Map<string, Dispatcher>();
  #undici: Promise<Undici> | undefined;

  constructor(options: HttpOptions) {
    this.#options = options;
  }

  /** One request and its redirects. Rejects with the transport's own errors, and with REDIRECT_REFUSED. */
  async send(request: HttpRequest): Promise<HttpResponse> {
    let at: HttpRequest = { ...request, headers: { ...request.headers, ...request.ownHeaders } };
    for (let hops = 0; ; hops += 1) {
      const response = await this.#once(at);
      const location = header(response, 'location');
      if (![301, 302, 303, 307, 308].includes(response.status) || location === undefined) return response;
      await drain(response);
      if (hops >= maxRedirects)
        throw refused(at.url, location, `there were more than ${maxRedirects} redirects`);
      at = redirected(at, this.#target(at.url, location), response.status, request);
    }
  }

  #target(from: URL, location: string): URL {
    let next: URL;
    try {
      next = new URL(location, from);
    } catch {
      throw refused(from, location, 'it is no URL');
    }
    if (next.protocol !== 'https:' && next.protocol !== 'http:')
      throw refused(from, location, 'it is not HTTP');
    if (next.username !== '' || next.password !== '') throw refused(from, location, 'it carries credentials');
    if (next.protocol === 'http:' && from.protocol === 'https:') {
      throw refused(from, location, 'it leads from https to plain http');
    }
    return next;
  }

  async #once(request: HttpRequest): Promise<HttpResponse> {
    if (
      request.url.protocol === 'http:' &&
      request.plain !== true &&
      !this.#options.plainAllowed(request.url.host)
    ) {
      // reached only by a redirect from one plain registry to another host: content is checked by its digest, and
      // credentials were taken off
      if (hasCredentials(request.headers)) {
        throw new NodeletError(
          'UNAUTHORIZED',
          `cannot send credentials to "${request.url.origin}" over plain http`,
        );
      }
    }
    const undici = await (this.#undici ??= load());
    let response: Awaited<ReturnType<Undici['request']>>;
    try {
      response = await undici.request(request.url, {
        dispatcher: this.#dispatcher(undici, request),
        method: request.method,
        headers: request.headers,
        ...(request.body === undefined ? {} : { body: request.body }),
        ...(request.signal === undefined ? {} : { signal: request.signal }),
      });
    } catch (error) {
      if (!hasCode(error, 'UND_ERR_HEADERS_OVERFLOW')) throw error;
      throw new NodeletError(
        'RESPONSE_TOO_LARGE',
        `cannot read the headers of a response from "${request.url.host}": they have more than ${maxHeaders} bytes`,
      );
    }
    return { status: response.statusCode, headers: response.headers, body: response.body, url: request.url };
  }

  #dispatcher(undici: Undici, request: HttpRequest): Dispatcher {
    const proxy = proxyFor(request.url, this.#options.proxies);
    const key = JSON.stringify([proxy, request.tls?.id, request.connectTimeout]);
    const known = this.#dispatchers.get(key);
    const dispatcher = known ?? this.#make(undici, request, proxy);
    this.#dispatchers.delete(key);
    this.#dispatchers.set(key, dispatcher);
    for (const [old, idle] of this.#dispatchers) {
      if (this.#dispatchers.size <= maxDispatchers) break;
      this.#dispatchers.delete(old);
      // What is under way ends well; nobody waits for it.
      idle.close().catch(() => {});
    }
    return dispatcher;
  }

  #make(undici: Undici, request: HttpRequest, proxy: string | undefined): Dispatcher {
    const connect = {
      timeout: request.connectTimeout ?? this.#options.connectTimeout,
      // RFC 8305: the other address family is tried 250 ms later
      autoSelectFamily: true,
      secureContext: secureContext(request.tls),
      ...(request.tls?.skipVerify === true ? { rejectUnauthorized: false } : {}),
    };
    const common = {
      headersTimeout: this.#options.headersTimeout,
      bodyTimeout: this.#options.bodyTimeout,
      keepAliveTimeout: 10_000,
      maxHeaderSize: maxHeaders,
    };
    if (proxy === undefined) return new undici.Agent({ ...common, connect });
    const own = { timeout: connect.timeout, autoSelectFamily: true, secureContext: secureContext(undefined) };
    return new undici.ProxyAgent({
      ...common,
      uri: proxyUrl(proxy),
      requestTls: connect,
      proxyTls: own,
      // Plain requests are asked of the proxy itself: most let nobody CONNECT to port 80.
      proxyTunnel: request.url.protocol === 'https:',
    });
  }

  /** Closes idle connections and breaks those in use. */
  async close(): Promise<void> {
    const all = [...this.#dispatchers.values()];
    this.#dispatchers.clear();
    await Promise.all(all.map(async (dispatcher) => await dispatcher.destroy()));
  }
}

async function load(): Promise<Undici> {
  // CommonJS: the bundler puts everything under `default`, Node also beside it.
  return (await import('undici')).default;
}

/** Throws REGISTRY_CONFIG_INVALID; the value may hold a password and is not shown. */
function proxyUrl(text: string): string {
  const hint = 'proxies are $HTTPS_PROXY and $HTTP_PROXY, as http://[USER:PASSWORD@]HOST:PORT';
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw new NodeletError(
      'REGISTRY_CONFIG_INVALID',
      'cannot use the HTTP proxy of the environment: it is no URL',
      {
        hint,
      },
    );
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw new NodeletError(
      'REGISTRY_CONFIG_INVALID',
      `cannot use the HTTP proxy of the environment: ${quote(url.protocol)} is not supported`,
      { hint },
    );
  }
  return url.href;
}

/** The request to where a redirect leads. */
function redirected(from: HttpRequest, next: URL, status: number, original: HttpRequest): HttpRequest {
  const { body, tls: _, connectTimeout: __, plain: ___, ...rest } = from;
  let at: HttpRequest = { ...rest, url: next };
  if (next.origin === original.url.origin) {
    at = { ...at, tls: original.tls, connectTimeout: original.connectTimeout, plain: original.plain };
  }
  if (next.origin !== from.url.origin) {
    at = { ...at, headers: withoutCredentials(from.headers, original.ownHeaders) };
  }
  if (from.method === 'GET' || from.method === 'HEAD') return at;
  // fetch's rule: what is not GET or HEAD is asked again only by 307 and 308, and here never at another origin.
  if (next.origin !== from.url.origin)
    throw refused(from.url, next.href, 'credentials and content are not sent to another host');
  if (status < 307) return { ...at, method: 'GET' };
  if (body === undefined || typeof body === 'string' || body instanceof Uint8Array)
    return body === undefined ? at : { ...at, body };
  throw refused(from.url, next.href, 'what was sent cannot be sent again');
}

function hasCredentials(headers: Readonly<Record<string, string>>): boolean {
  return Object.keys(headers).some((name) => name.toLowerCase() === 'authorization');
}

function withoutCredentials(
  headers: Readonly<Record<string, string>>,
  own: Readonly<Record<string, string>> = {},
): Record<string, string> {
  const secret = new Set(['authorization', 'cookie', ...Object.keys(own).map((name) => name.toLowerCase())]);
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !secret.has(name.toLowerCase())));
}

function refused(from: URL, location: string, reason: string): NodeletError {
  return new NodeletError(
    'REDIRECT_REFUSED',
    `cannot follow the redirect of "${from.origin}" to ${quote(location)}: ${reason}`,
  );
}

export function header(response: HttpResponse, name: string): string | undefined {
  const value = response.headers[name];
  return typeof value === 'string' ? value : value?.[0];
}

/** Throws the body away, so that the connection can be used again; a long one is cut off instead. */
export async function drain(response: HttpResponse): Promise<void> {
  try {
    await readBody(response, 64 * 1024, 'a response');
  } catch {
    response.body.destroy();
  }
}

/** The whole body. Throws RESPONSE_TOO_LARGE at the first byte above `limit`. */
export async function readBody(response: HttpResponse, limit: number, what: string): Promise<Buffer> {
  const tooLarge = (size: string): NodeletError => {
    // An abandoned body raises its own error later; nobody waits for it.
    response.body.on('error', () => {});
    response.body.destroy();
    return new NodeletError(
      'RESPONSE_TOO_LARGE',
      `cannot read ${what} from "${response.url.host}": it has ${size} bytes, more than ${limit}`,
    );
  };
  const announced = Number(header(response, 'content-length') ?? Number.NaN);
  if (announced > limit) throw tooLarge(String(announced));
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of response.body as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > limit) throw tooLarge(`at least ${size}`);
    parts.push(part);
  }
  return Buffer.concat(parts);
}
