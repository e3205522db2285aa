/**
 * The transport: one function over undici, loaded at the first request (it costs 100 ms and 20 MiB). Redirects are
 * followed here, so that a credential never leaves the origin that it was meant for.
 */
import { existsSync, readFileSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { createSecureContext, rootCertificates } from 'node:tls';
import type { Agent, request as sendRequest } from 'undici';
import { NodeletError } from '../../base/index.ts';
import { quote } from '../digest.ts';

export interface HttpOptions {
  readonly connectTimeout: number;
  /** Until the response's headers; milliseconds. */
  readonly headersTimeout: number;
  /** Between two pieces of a body; milliseconds. */
  readonly bodyTimeout: number;
  /** True for `host[:port]` where plain HTTP is allowed. */
  readonly plainAllowed: (host: string) => boolean;
}

export interface HttpRequest {
  readonly method: 'GET' | 'HEAD' | 'POST';
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
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

/** True for names and addresses that never leave this machine. */
export function isLoopback(host: string): boolean {
  const name = host
    .replace(/:\d+$/, '')
    .replace(/^\[|\]$/g, '')
    .toLowerCase();
  return (
    name === 'localhost' || name.endsWith('.localhost') || name === '::1' || /^127(\.\d{1,3}){3}$/.test(name)
  );
}

export class Http {
  readonly #options: HttpOptions;
  #agent: Promise<{ agent: Agent; request: typeof sendRequest }> | undefined;

  constructor(options: HttpOptions) {
    this.#options = options;
  }

  /** One request and its redirects. Rejects with the transport's own errors, and with REDIRECT_REFUSED. */
  async send(request: HttpRequest): Promise<HttpResponse> {
    let { url, headers, method } = request;
    let body = request.body;
    for (let hops = 0; ; hops += 1) {
      const response = await this.#once({
        ...request,
        url,
        headers,
        method,
        ...(body === undefined ? {} : { body }),
      });
      const location = header(response, 'location');
      if (![301, 302, 303, 307, 308].includes(response.status) || location === undefined) return response;
      await drain(response);
      if (hops >= maxRedirects)
        throw refused(url, location, `there were more than ${maxRedirects} redirects`);
      const next = this.#target(url, location);
      if (next.origin !== url.origin) headers = withoutCredentials(headers);
      // fetch's rule: what is not GET or HEAD is asked again only by 307 and 308, and never at another origin.
      if (method === 'POST') {
        if (next.origin !== url.origin)
          throw refused(url, location, 'credentials are not sent to another host');
        if (response.status < 307) {
          method = 'GET';
          body = undefined;
        }
      }
      url = next;
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
    if (request.url.protocol === 'http:' && !this.#options.plainAllowed(request.url.host)) {
      // reached only by a redirect from one plain registry to another host: content is checked by its digest, and
      // credentials were taken off
      if (hasCredentials(request.headers)) {
        throw new NodeletError(
          'UNAUTHORIZED',
          `cannot send credentials to "${request.url.origin}" over plain http`,
        );
      }
    }
    const { agent, request: send } = await (this.#agent ??= this.#load());
    const response = await send(request.url, {
      dispatcher: agent,
      method: request.method,
      headers: request.headers,
      ...(request.body === undefined ? {} : { body: request.body }),
      ...(request.signal === undefined ? {} : { signal: request.signal }),
    });
    return { status: response.statusCode, headers: response.headers, body: response.body, url: request.url };
  }

  async #load(): Promise<{ agent: Agent; request: typeof sendRequest }> {
    // CommonJS: the bundler puts everything under `default`, Node also beside it.
    const undici = (await import('undici')).default;
    const agent = new undici.Agent({
      headersTimeout: this.#options.headersTimeout,
      bodyTimeout: this.#options.bodyTimeout,
      keepAliveTimeout: 10_000,
      maxHeaderSize: 64 * 1024,
      connect: {
        timeout: this.#options.connectTimeout,
        autoSelectFamily: true,
        secureContext: createSecureContext({ ca: trustedCertificates() }),
      },
    });
    return { agent, request: undici.request };
  }

  /** Closes idle connections and breaks those in use. */
  async close(): Promise<void> {
    const loading = this.#agent;
    this.#agent = undefined;
    if (loading !== undefined) await (await loading).agent.destroy();
  }
}

/** Node's own roots, the distribution's, and $NODE_EXTRA_CA_CERTS (which `ca` would otherwise switch off). */
function trustedCertificates(): string[] {
  const bundles = ['/etc/ssl/certs/ca-certificates.crt', '/etc/pki/tls/certs/ca-bundle.crt'];
  const files = [bundles.find((path) => existsSync(path)), process.env.NODE_EXTRA_CA_CERTS];
  const extra = files.filter((path) => path !== undefined && path !== '' && existsSync(path));
  return [...rootCertificates, ...extra.map((path) => readFileSync(path ?? '', 'utf8'))];
}

function hasCredentials(headers: Readonly<Record<string, string>>): boolean {
  return Object.keys(headers).some((name) => name.toLowerCase() === 'authorization');
}

function withoutCredentials(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).filter(([name]) => !['authorization', 'cookie'].includes(name.toLowerCase())),
  );
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
