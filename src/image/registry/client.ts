/**
 * A client of the OCI distribution API (distribution-spec 1.1), reading half: manifests and blobs of one repository.
 * Each answer that is no success becomes an error with a code, the registry and the image by name.
 */
import { abortReason, codeOf, describeError, type Log, NodeletError, sleep } from '../../base/index.ts';
import { isContentDigest, parseContentDigest, quote, sha256 } from '../digest.ts';
import { maxDocument } from '../documents.ts';
import { manifestAccept } from '../media-types.ts';
import { formatReference, type Reference } from '../reference.ts';
import type { PullAuth } from '../types.ts';
import { Authenticator, type AuthTarget, loginHint, maxErrorBody, unauthorized } from './auth.ts';
import { parseChallenges } from './challenge.ts';
import { drain, Http, type HttpResponse, header, isLoopback, readBody } from './http.ts';
import {
  classify,
  defaultRetry,
  type Failure,
  parseRetryAfter,
  type RetryPolicy,
  retryDelay,
} from './retry.ts';

export interface RegistryOptions {
  readonly log: Log;
  /** `host[:port]` to speak plain HTTP with. */
  readonly insecureRegistries: readonly string[];
  readonly retry?: RetryPolicy;
  /** Milliseconds without a byte after which a request is given up. */
  readonly idleTimeout?: number;
  readonly connectTimeout?: number;
}

export interface ManifestAnswer {
  readonly bytes: Buffer;
  readonly mediaType: string | undefined;
  /** Of the bytes, computed here. */
  readonly digest: string;
}

export interface BlobAnswer {
  /** Where in the blob the body begins: the asked offset, or 0 where the registry ignores ranges. */
  readonly start: number;
  /** Bytes of the whole blob, where the registry says. */
  readonly total: number | undefined;
  readonly body: HttpResponse['body'];
}

export class RegistryClient {
  readonly #log: Log;
  readonly #insecure: ReadonlySet<string>;
  readonly #retry: RetryPolicy;
  readonly #http: Http;
  readonly #auth: Authenticator;
  /** Loopback registries that turned out to speak plain HTTP, or not to. */
  readonly #schemes = new Map<string, 'http:' | 'https:'>();

  constructor(options: RegistryOptions) {
    this.#log = options.log;
    this.#insecure = new Set(options.insecureRegistries);
    this.#retry = options.retry ?? defaultRetry;
    const plainAllowed = (host: string): boolean => this.#insecure.has(host) || isLoopback(host);
    const idle = options.idleTimeout ?? 60_000;
    this.#http = new Http({
      connectTimeout: options.connectTimeout ?? 15_000,
      headersTimeout: idle,
      bodyTimeout: idle,
      plainAllowed,
    });
    this.#auth = new Authenticator(this.#http, plainAllowed);
  }

  repository(reference: Reference, auth: PullAuth | undefined): Repository {
    return new Repository(this, reference, auth);
  }

  async close(): Promise<void> {
    await this.#http.close();
  }

  /** One request with its retries and its log-in. Answers 2xx, 404 and 416 only; the rest is thrown. */
  async request(ask: Ask): Promise<HttpResponse> {
    for (let next = 2, pause = 0; ; next += 1) {
      let failure: Failure | undefined;
      let cause: unknown;
      let response: HttpResponse | undefined;
      try {
        response = await this.#authorised(ask);
        if (response.status < 300 || response.status === 404 || response.status === 416) return response;
        const retryAfter = parseRetryAfter(header(response, 'retry-after'), Date.now());
        failure = { kind: 'status', status: response.status, retryAfter };
      } catch (error) {
        if (ask.signal?.aborted) throw abortReason(ask.signal);
        if (error instanceof NodeletError) throw error;
        failure = classify(error);
        if (failure === undefined) throw error;
        cause = error;
      }
      const delay = retryDelay(failure, next, pause, this.#retry);
      if (delay === undefined) throw await failed(ask, failure, response, cause);
      if (response !== undefined) await drain(response);
      this.#log.debug(
        { registry: ask.target.registry, path: ask.path, failure, delay },
        'registry request is repeated',
      );
      pause = delay;
      await sleep(delay, ask.signal);
    }
  }

  async #authorised(ask: Ask): Promise<HttpResponse> {
    let sent = this.#auth.known(ask.target);
    let response = await this.#send(ask, sent);
    // A header from the cache may have expired; a fresh one that is refused as well ends it. The challenge of a host
    // that a redirect led to is nobody's to answer: it would name a realm of its own, for our credentials.
    for (
      let fresh = false;
      response.status === 401 && !fresh && response.url.host === apiHost(ask.target.registry);
    ) {
      const challenges = parseChallenges(response.headers['www-authenticate']);
      await drain(response);
      if (sent !== undefined) this.#auth.forget(ask.target, sent);
      const answer = await this.#auth.answer(ask.target, challenges);
      if (answer === sent) break;
      fresh = true;
      sent = answer;
      response = await this.#send(ask, sent);
    }
    if (response.status === 401 || response.status === 403) {
      const detail = await errorText(response);
      if (response.url.host !== apiHost(ask.target.registry)) {
        throw unauthorized(
          ask.target,
          `it redirects to "${response.url.origin}", which denies access${detail}`,
        );
      }
      const verb = response.status === 401 ? 'does not accept the credentials' : 'denies access';
      throw unauthorized(ask.target, `it ${verb}${detail}`, loginHint(ask.target));
    }
    return response;
  }

  async #send(ask: Ask, authorization: string | undefined): Promise<HttpResponse> {
    const { registry } = ask.target;
    const headers = {
      ...ask.headers,
      'user-agent': 'nodelet',
      // A transfer encoding would make ranges and digests speak of different bytes.
      'accept-encoding': 'identity',
      ...(authorization === undefined ? {} : { authorization }),
    };
    const known = this.#schemes.get(registry);
    const scheme = known ?? (this.#insecure.has(registry) ? 'http:' : 'https:');
    const send = async (protocol: string): Promise<HttpResponse> =>
      await this.#http.send({
        method: ask.method,
        url: new URL(`${protocol}//${apiHost(registry)}${ask.path}`),
        headers,
        ...(ask.signal === undefined ? {} : { signal: ask.signal }),
      });
    try {
      const response = await send(scheme);
      if (known === undefined) this.#schemes.set(registry, scheme);
      return response;
    } catch (error) {
      if (known !== undefined || scheme === 'http:' || !isLoopback(registry) || !speaksNoTls(error))
        throw error;
      const response = await send('http:');
      this.#schemes.set(registry, 'http:');
      return response;
    }
  }
}

interface Ask {
  readonly method: 'GET' | 'HEAD';
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly target: AuthTarget;
  readonly reference: Reference;
  readonly signal: AbortSignal | undefined;
}

/** Docker Hub's registry does not answer under the name that its images have. */
function apiHost(registry: string): string {
  return registry === 'docker.io' ? 'registry-1.docker.io' : registry;
}

/** The handshake met a server that speaks something else, or hung up on it. */
function speaksNoTls(error: unknown): boolean {
  const failure = classify(error);
  if (failure?.kind === 'tls')
    return !/^(CERT_|UNABLE_TO_|DEPTH_|SELF_SIGNED|ERR_TLS_CERT)/.test(failure.code);
  return failure?.kind === 'network' && failure.established;
}

/** One repository of one registry, with one set of credentials. */
export class Repository {
  readonly #client: RegistryClient;
  readonly reference: Reference;
  readonly #target: AuthTarget;

  constructor(client: RegistryClient, reference: Reference, auth: PullAuth | undefined) {
    this.#client = client;
    this.reference = reference;
    this.#target = { registry: reference.domain, scope: `repository:${reference.path}:pull`, auth };
  }

  /**
   * What the tag stands for now, by a HEAD request: undefined where the registry does not say (then ask for the
   * manifest itself). Throws IMAGE_NOT_FOUND.
   */
  async head(tag: string, signal?: AbortSignal): Promise<string | undefined> {
    const ask = this.#ask('HEAD', `/manifests/${tag}`, { accept: manifestAccept }, signal);
    const response = await this.#client.request(ask);
    await drain(response);
    if (response.status === 404) return undefined;
    const digest = header(response, 'docker-content-digest');
    return digest !== undefined && isContentDigest(digest) ? digest : undefined;
  }

  /** A manifest or index by tag or digest, its bytes checked against the digest. */
  async manifest(name: string, signal?: AbortSignal): Promise<ManifestAnswer> {
    const wanted = name.includes(':') ? parseContentDigest(name) : undefined;
    const ask = this.#ask('GET', `/manifests/${name}`, { accept: manifestAccept }, signal);
    const response = await this.#client.request(ask);
    if (response.status !== 200) throw await notFound(ask, response);
    const bytes = await this.#read(response, maxDocument, 'the manifest');
    const digest = sha256(bytes);
    const said = wanted ?? header(response, 'docker-content-digest');
    if (said !== undefined && isContentDigest(said) && said !== digest) {
      throw new NodeletError(
        'DIGEST_MISMATCH',
        `cannot use the manifest of "${formatReference(this.reference)}" from registry "${this.reference.domain}": ` +
          `its digest is ${digest}, not ${said}`,
      );
    }
    return { bytes, digest, mediaType: header(response, 'content-type') };
  }

  /** The start of one transfer of a blob, from byte `offset` where the registry can. */
  async blob(digest: string, offset: number, signal?: AbortSignal): Promise<BlobAnswer> {
    const headers: Record<string, string> = offset > 0 ? { range: `bytes=${offset}-` } : {};
    const ask = this.#ask('GET', `/blobs/${parseContentDigest(digest)}`, headers, signal);
    const response = await this.#client.request(ask);
    if (response.status === 416 && offset > 0) {
      await drain(response);
      return await this.blob(digest, 0, signal);
    }
    if (response.status === 206) {
      const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(header(response, 'content-range') ?? '');
      if (range === null || Number(range[1]) !== offset) {
        response.body.on('error', () => {}).destroy();
        throw new NodeletError(
          'REGISTRY_ERROR',
          `cannot fetch blob ${digest} from registry "${this.reference.domain}": ` +
            `it answered another range than the one from byte ${offset}`,
        );
      }
      return { start: offset, total: range[2] === '*' ? undefined : Number(range[2]), body: response.body };
    }
    if (response.status !== 200) throw await notFound(ask, response, digest);
    const length = header(response, 'content-length');
    return { start: 0, total: length === undefined ? undefined : Number(length), body: response.body };
  }

  async #read(response: HttpResponse, limit: number, what: string): Promise<Buffer> {
    try {
      return await readBody(response, limit, `${what} of "${formatReference(this.reference)}"`);
    } catch (error) {
      const failure = error instanceof NodeletError ? undefined : classify(error);
      if (failure === undefined) throw error;
      throw unreachable(this.reference, failure, error);
    }
  }

  #ask(
    method: 'GET' | 'HEAD',
    tail: string,
    headers: Record<string, string>,
    signal: AbortSignal | undefined,
  ): Ask {
    const { reference } = this;
    return { method, path: `/v2/${reference.path}${tail}`, headers, target: this.#target, reference, signal };
  }
}

async function failed(
  ask: Ask,
  failure: Failure,
  response: HttpResponse | undefined,
  cause: unknown,
): Promise<NodeletError> {
  if (failure.kind !== 'status' || response === undefined) return unreachable(ask.reference, failure, cause);
  const { domain } = ask.reference;
  const image = formatReference(ask.reference);
  const detail = await errorText(response);
  if (failure.status === 429) {
    const after =
      failure.retryAfter === undefined ? '' : ` for the next ${Math.ceil(failure.retryAfter / 1000)} s`;
    return new NodeletError(
      'REGISTRY_RATE_LIMITED',
      `cannot pull "${image}": registry "${domain}" refuses more requests${after}${detail}`,
      { hint: 'wait, or log in: most registries allow more to known users', details: { status: 429 } },
    );
  }
  return new NodeletError(
    'REGISTRY_ERROR',
    `cannot pull "${image}": registry "${domain}" answered ${failure.status}${detail}`,
    { details: { status: failure.status } },
  );
}

export function unreachable(reference: Reference, failure: Failure, cause: unknown): NodeletError {
  const { domain } = reference;
  const image = formatReference(reference);
  const reason = describeError(cause) || codeOf(cause) || 'no answer';
  if (failure.kind === 'timeout') {
    return new NodeletError(
      'REGISTRY_TIMEOUT',
      `cannot pull "${image}": registry "${domain}" does not answer: ${reason}`,
      {
        cause,
      },
    );
  }
  if (failure.kind === 'tls') {
    return new NodeletError(
      'REGISTRY_TLS',
      `cannot pull "${image}": no trust in registry "${domain}": ${reason}`,
      {
        cause,
        hint: 'add the authority of its certificate to the system, or name it in NODE_EXTRA_CA_CERTS',
      },
    );
  }
  return new NodeletError(
    'REGISTRY_UNREACHABLE',
    `cannot pull "${image}": cannot reach registry "${domain}": ${reason}`,
    {
      cause,
      hint: 'check that the registry runs and that this machine can reach it',
    },
  );
}

async function notFound(ask: Ask, response: HttpResponse, digest?: string): Promise<NodeletError> {
  const { domain } = ask.reference;
  const image = formatReference(ask.reference);
  const status = response.status;
  const detail = await errorText(response);
  if (status !== 404) {
    return new NodeletError(
      'REGISTRY_ERROR',
      `cannot pull "${image}": registry "${domain}" answered ${status}${detail}`,
    );
  }
  return digest === undefined
    ? new NodeletError('IMAGE_NOT_FOUND', `cannot find image "${image}" in registry "${domain}"${detail}`, {
        hint: 'check the name and the tag',
      })
    : new NodeletError(
        'BLOB_NOT_FOUND',
        `cannot find blob ${digest} of image "${image}" in registry "${domain}"${detail}`,
      );
}

/** `: CODE: message` of the first error in distribution's error body, quoted and cut; "" where there is none. */
async function errorText(response: HttpResponse): Promise<string> {
  try {
    const parsed: unknown = JSON.parse((await readBody(response, maxErrorBody, 'an error')).toString('utf8'));
    const errors =
      typeof parsed === 'object' && parsed !== null && 'errors' in parsed ? parsed.errors : undefined;
    const first: unknown = Array.isArray(errors) ? errors[0] : undefined;
    if (typeof first !== 'object' || first === null) return '';
    const { code, message } = first as { code?: unknown; message?: unknown };
    const parts = [code, message].filter((part) => typeof part === 'string' && part !== '');
    return parts.length === 0 ? '' : ` (${quote(parts.join(': '))})`;
  } catch {
    response.body.on('error', () => {}).destroy();
    return '';
  }
}
