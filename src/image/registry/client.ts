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
import {
  defaultHostDirectories,
  type Endpoint,
  type EndpointOptions,
  type EndpointOverride,
  findEndpoints,
} from './endpoints.ts';
import type { Capability } from './hosts-file.ts';
import { drain, Http, type HttpRequest, type HttpResponse, header, readBody } from './http.ts';
import { apiHost, isLoopback } from './names.ts';
import { proxyEnvironment } from './proxy.ts';
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
  /** Directories with `HOST/hosts.toml`; default those of nodelet, containerd and docker below /etc. */
  readonly hostDirectories?: readonly string[];
  /** Credentials for a mirror, by its own `host[:port]`: those of an image are for its registry only. */
  readonly mirrorCredentials?: (host: string, path: string) => Promise<PullAuth | undefined>;
  /** Default the process's. */
  readonly env?: NodeJS.ProcessEnv;
  readonly retry?: RetryPolicy;
  /** Milliseconds without a byte after which a request is given up. */
  readonly idleTimeout?: number;
  readonly connectTimeout?: number;
}

/** How one pull or push differs from what is configured. */
export interface RepositoryOptions extends EndpointOverride {
  /** Default `pull`. */
  readonly actions?: 'pull' | 'pull,push';
}

export interface ManifestAnswer {
  readonly bytes: Buffer;
  readonly mediaType: string | undefined;
  /** Of the bytes, computed here. */
  readonly digest: string;
}

export interface BlobRequest {
  /** First byte. */
  readonly from: number;
  /** The byte after the last that is wanted; undefined for the blob's end. */
  readonly to?: number;
  /** How often this was asked already: with several hosts, the next one comes first. */
  readonly attempt?: number;
  readonly signal?: AbortSignal;
}

export interface BlobAnswer {
  /** Where in the blob the body begins: the asked offset, or 0 where the registry ignores ranges. */
  readonly start: number;
  /** Bytes of the whole blob, where the registry says. */
  readonly total: number | undefined;
  /** True where it is the range that was asked for: others can be asked for side by side. */
  readonly ranged: boolean;
  readonly body: HttpResponse['body'];
  /** Who sends it. */
  readonly endpoint: Endpoint;
}

/** Of hosts that are not the last in line: who waits behind a dead mirror wants its image soon. */
const impatient: RetryPolicy = { tries: 2, base: 200, max: 2_000, longestRetryAfter: 2_000 };

export class RegistryClient {
  readonly #log: Log;
  readonly #retry: RetryPolicy;
  readonly #http: Http;
  readonly #auth: Authenticator;
  readonly #endpoints: EndpointOptions;
  readonly #mirrorCredentials: NonNullable<RegistryOptions['mirrorCredentials']>;
  /** Origins of https that turned out to speak plain HTTP, or not to. */
  readonly #schemes = new Map<string, 'http:' | 'https:'>();

  constructor(options: RegistryOptions) {
    this.#log = options.log;
    const insecure = new Set(options.insecureRegistries);
    this.#endpoints = {
      directories: options.hostDirectories ?? defaultHostDirectories,
      plain: (host) => insecure.has(host),
    };
    this.#mirrorCredentials = options.mirrorCredentials ?? (async () => await Promise.resolve(undefined));
    this.#retry = options.retry ?? defaultRetry;
    const plainAllowed = (host: string): boolean => insecure.has(host) || isLoopback(host);
    const idle = options.idleTimeout ?? 60_000;
    this.#http = new Http({
      connectTimeout: options.connectTimeout ?? 15_000,
      headersTimeout: idle,
      bodyTimeout: idle,
      plainAllowed,
      proxies: proxyEnvironment(options.env ?? process.env),
    });
    this.#auth = new Authenticator(this.#http, plainAllowed);
  }

  /** The repository of a reference. Its hosts are looked up at the first request, and stay the same for this object. */
  repository(reference: Reference, auth: PullAuth | undefined, options: RepositoryOptions = {}): Repository {
    return new Repository(this, reference, auth, options);
  }

  /** Throws REGISTRY_CONFIG_INVALID. */
  async endpoints(registry: string, override: EndpointOverride): Promise<readonly Endpoint[]> {
    return await findEndpoints(registry, this.#endpoints, override);
  }

  async mirrorCredentials(host: string, path: string): Promise<PullAuth | undefined> {
    return await this.#mirrorCredentials(host, path);
  }

  async close(): Promise<void> {
    await this.#http.close();
  }

  /**
   * One request, of each host in turn until one has an answer, with retries and log-in at each. Answers 2xx, 404 and
   * 416 only; the rest is thrown: the last host's, which is the registry itself.
   */
  async request(ask: Ask): Promise<Answer> {
    const passed: string[] = [];
    for (const [i, target] of ask.targets.entries()) {
      const last = i === ask.targets.length - 1;
      try {
        const response = await this.#withRetries(ask, target, last ? this.#retry : impatient);
        if (last || response.status !== 404) return { response, endpoint: target.endpoint };
        await drain(response);
        passed.push(`${target.endpoint.url.host}: it does not have it`);
      } catch (error) {
        if (ask.signal?.aborted) throw abortReason(ask.signal);
        if (last) throw afterMirrors(error, passed);
        if (!(error instanceof NodeletError)) throw error;
        passed.push(`${target.endpoint.url.host}: ${error.message}`);
      }
      this.#log.debug({ registry: ask.reference.domain, path: ask.path, passed }, 'next host of a registry');
    }
    throw new NodeletError(
      'REGISTRY_CONFIG_INVALID',
      `cannot pull "${formatReference(ask.reference)}": no host that is configured for "${ask.reference.domain}" ` +
        `has the capability "${ask.needs}"`,
      { hint: 'see its hosts.toml' },
    );
  }

  async #withRetries(ask: Ask, target: HostTarget, policy: RetryPolicy): Promise<HttpResponse> {
    for (let next = 2, pause = 0; ; next += 1) {
      let failure: Failure | undefined;
      let cause: unknown;
      let response: HttpResponse | undefined;
      try {
        response = await this.#authorised(ask, target);
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
      const delay = ask.once === true ? undefined : retryDelay(failure, next, pause, policy);
      if (delay === undefined) throw await failed(ask, target, failure, response, cause);
      if (response !== undefined) await drain(response);
      this.#log.debug(
        { registry: target.registry, path: ask.path, failure, delay },
        'registry request is repeated',
      );
      pause = delay;
      await sleep(delay, ask.signal);
    }
  }

  async #authorised(ask: Ask, target: HostTarget): Promise<HttpResponse> {
    const { host } = target.endpoint.url;
    let sent = this.#auth.known(target);
    let response = await this.#send(ask, target, sent);
    // A header from the cache may have expired; a fresh one that is refused as well ends it. The challenge of a host
    // that a redirect led to is nobody's to answer: it would name a realm of its own, for our credentials.
    for (let fresh = false; response.status === 401 && !fresh && response.url.host === host; ) {
      const challenges = parseChallenges(response.headers['www-authenticate']);
      await drain(response);
      if (sent !== undefined) this.#auth.forget(target, sent);
      const answer = await this.#auth.answer(target, challenges);
      if (answer === sent) break;
      fresh = true;
      sent = answer;
      response = await this.#send(ask, target, sent);
    }
    if (response.status === 401 || response.status === 403) {
      const detail = await errorText(response);
      if (response.url.host !== host) {
        throw unauthorized(target, `it redirects to "${response.url.origin}", which denies access${detail}`);
      }
      const verb = response.status === 401 ? 'does not accept the credentials' : 'denies access';
      throw unauthorized(target, `it ${verb}${detail}`, loginHint(target));
    }
    return response;
  }

  async #send(ask: Ask, target: HostTarget, authorization: string | undefined): Promise<HttpResponse> {
    const { endpoint } = target;
    const headers = {
      ...ask.headers,
      'user-agent': 'nodelet',
      // A transfer encoding would make ranges and digests speak of different bytes.
      'accept-encoding': 'identity',
      ...(authorization === undefined ? {} : { authorization }),
    };
    const { origin, protocol: configured, host } = endpoint.url;
    const known = this.#schemes.get(origin);
    const send = async (protocol: string): Promise<HttpResponse> =>
      await this.#http.send({
        method: ask.method,
        url: new URL(`${protocol}//${host}${endpoint.path}${ask.path}${ask.query?.(endpoint) ?? ''}`),
        headers,
        ownHeaders: endpoint.headers,
        tls: endpoint.tls,
        plain: configured === 'http:' || endpoint.plainFallback,
        connectTimeout: endpoint.dialTimeout,
        ...(ask.body === undefined ? {} : { body: ask.body() }),
        ...(ask.signal === undefined ? {} : { signal: ask.signal }),
      });
    const scheme = (endpoint.plainFallback ? known : undefined) ?? configured;
    try {
      const response = await send(scheme);
      if (known === undefined) this.#schemes.set(origin, scheme as 'http:' | 'https:');
      return response;
    } catch (error) {
      if (known !== undefined || scheme === 'http:' || !endpoint.plainFallback || !speaksNoTls(error))
        throw error;
      const response = await send('http:');
      this.#schemes.set(origin, 'http:');
      return response;
    }
  }
}

/** One host, as whom it is asked, and for what. */
interface HostTarget extends AuthTarget {
  readonly endpoint: Endpoint;
}

export interface Answer {
  readonly response: HttpResponse;
  readonly endpoint: Endpoint;
}

interface Ask {
  readonly method: HttpRequest['method'];
  /** Below the API's root. */
  readonly path: string;
  readonly query?: (endpoint: Endpoint) => string;
  readonly headers: Readonly<Record<string, string>>;
  readonly needs: Capability;
  /** In the order in which they are asked. */
  readonly targets: readonly HostTarget[];
  readonly reference: Reference;
  /** Made anew for each try. */
  readonly body?: () => NonNullable<HttpRequest['body']>;
  /** True for what must not be said twice. */
  readonly once?: boolean;
  readonly signal: AbortSignal | undefined;
}

/** The registry's own failure, and what its mirrors said before. */
function afterMirrors(error: unknown, passed: readonly string[]): unknown {
  if (!(error instanceof NodeletError) || passed.length === 0) return error;
  const before = `before it, ${passed.join('; ')}`;
  return new NodeletError(error.code, error.message, {
    cause: error.cause,
    details: error.details,
    hint: error.hint === undefined ? before : `${error.hint}; ${before}`,
  });
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
  readonly #auth: PullAuth | undefined;
  readonly #options: RepositoryOptions;
  #targets: Promise<readonly HostTarget[]> | undefined;
  /** Mirrors that served something else than they were asked for. */
  readonly #distrusted = new Set<Endpoint>();

  constructor(
    client: RegistryClient,
    reference: Reference,
    auth: PullAuth | undefined,
    options: RepositoryOptions,
  ) {
    this.#client = client;
    this.reference = reference;
    this.#auth = auth;
    this.#options = options;
  }

  /**
   * What the tag (or digest) stands for now, by a HEAD request: undefined where the registry does not say, or has it no
   * more; then the manifest itself has to be asked for.
   */
  async head(name: string, signal?: AbortSignal): Promise<string | undefined> {
    const wanted = name.includes(':') ? parseContentDigest(name) : undefined;
    let response: HttpResponse;
    try {
      ({ response } = await this.send('HEAD', `/manifests/${name}`, {
        needs: wanted === undefined ? 'resolve' : 'pull',
        headers: { accept: manifestAccept },
        ...(signal === undefined ? {} : { signal }),
      }));
    } catch (error) {
      // Some registries know no HEAD here.
      const status = error instanceof NodeletError ? error.details.status : undefined;
      if (status === 405 || status === 501) return undefined;
      throw error;
    }
    await drain(response);
    if (response.status === 404) return undefined;
    const digest = header(response, 'docker-content-digest');
    if (digest === undefined) return wanted;
    return isContentDigest(digest) ? digest : undefined;
  }

  /**
   * A manifest or index by tag or digest, its bytes checked against the digest. A mirror whose bytes are others is not
   * asked again; the next host is.
   */
  async manifest(name: string, signal?: AbortSignal): Promise<ManifestAnswer> {
    for (;;) {
      const { answer, endpoint, mismatch } = await this.#manifest(name, signal);
      if (mismatch === undefined) return answer;
      if (!this.distrust(endpoint)) throw mismatch;
    }
  }

  async #manifest(
    name: string,
    signal: AbortSignal | undefined,
  ): Promise<{ answer: ManifestAnswer; endpoint: Endpoint; mismatch: NodeletError | undefined }> {
    const wanted = name.includes(':') ? parseContentDigest(name) : undefined;
    const { response, endpoint } = await this.send('GET', `/manifests/${name}`, {
      needs: wanted === undefined ? 'resolve' : 'pull',
      headers: { accept: manifestAccept },
      ...(signal === undefined ? {} : { signal }),
    });
    if (response.status !== 200) throw await notFound(this.reference, endpoint, response);
    const bytes = await this.#read(response, endpoint, maxDocument, 'the manifest');
    const digest = sha256(bytes);
    const said = wanted ?? header(response, 'docker-content-digest');
    const mismatch =
      said === undefined || !isContentDigest(said) || said === digest
        ? undefined
        : new NodeletError(
            'DIGEST_MISMATCH',
            `cannot use the manifest of "${formatReference(this.reference)}" from registry "${endpoint.url.host}": ` +
              `its digest is ${digest}, not ${said}`,
          );
    return { answer: { bytes, digest, mediaType: header(response, 'content-type') }, endpoint, mismatch };
  }

  /** No more of this mirror for this repository. False where it is the registry itself: there is no other then. */
  distrust(endpoint: Endpoint): boolean {
    if (endpoint.upstream || this.#distrusted.has(endpoint)) return false;
    this.#distrusted.add(endpoint);
    return true;
  }

  /** The start of one transfer of a blob, or of a part of it where the registry can. */
  async blob(digest: string, request: BlobRequest): Promise<BlobAnswer> {
    const { from, to, signal } = request;
    const whole = from === 0 && to === undefined;
    const headers: Record<string, string> = whole
      ? {}
      : { range: `bytes=${from}-${to === undefined ? '' : to - 1}` };
    const { response, endpoint } = await this.send('GET', `/blobs/${parseContentDigest(digest)}`, {
      needs: 'pull',
      headers,
      rotate: request.attempt ?? 0,
      ...(signal === undefined ? {} : { signal }),
    });
    const { body } = response;
    if (response.status === 416 && !whole) {
      await drain(response);
      return await this.blob(digest, {
        from: 0,
        ...(request.attempt === undefined ? {} : { attempt: request.attempt }),
        ...(signal === undefined ? {} : { signal }),
      });
    }
    if (response.status === 206) {
      const range = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(header(response, 'content-range') ?? '');
      if (range === null || Number(range[1]) !== from || (to !== undefined && Number(range[2]) >= to)) {
        body.on('error', () => {}).destroy();
        throw new NodeletError(
          'REGISTRY_ERROR',
          `cannot fetch blob ${digest} from registry "${endpoint.url.host}": ` +
            `it answered another range than the one from byte ${from}`,
        );
      }
      const total = range[3] === '*' ? undefined : Number(range[3]);
      return { start: from, total, ranged: true, body, endpoint };
    }
    if (response.status !== 200) throw await notFound(this.reference, endpoint, response, digest);
    const length = header(response, 'content-length');
    const total = length === undefined ? undefined : Number(length);
    return { start: 0, total, ranged: false, body, endpoint };
  }

  /** A request below `/v2/<repository>`, of whichever host has what it needs. See RegistryClient.request. */
  async send(
    method: HttpRequest['method'],
    path: string,
    options: {
      readonly needs: Capability;
      readonly headers?: Readonly<Record<string, string>>;
      readonly query?: Readonly<Record<string, string>>;
      readonly body?: () => NonNullable<HttpRequest['body']>;
      readonly once?: boolean;
      /** Hosts that step back in the line, the last one (the registry itself) among the others. */
      readonly rotate?: number;
      readonly signal?: AbortSignal;
    },
  ): Promise<Answer> {
    const { reference } = this;
    const { needs, headers = {}, query = {}, body, once } = options;
    const all = await (this.#targets ??= this.#findTargets());
    const able = all.filter(
      ({ endpoint }) => endpoint.capabilities.has(needs) && !this.#distrusted.has(endpoint),
    );
    const by = able.length === 0 ? 0 : (options.rotate ?? 0) % able.length;
    return await this.#client.request({
      method,
      path: `/${reference.path}${path}`,
      // A mirror of several registries is told which one is meant (distribution-spec, `ns`).
      query: ({ upstream }) => {
        const params = new URLSearchParams({ ...query, ...(upstream ? {} : { ns: reference.domain }) });
        return params.size === 0 ? '' : `?${params.toString()}`;
      },
      headers,
      needs,
      targets: [...able.slice(by), ...able.slice(0, by)],
      reference,
      signal: options.signal,
      ...(body === undefined ? {} : { body }),
      ...(once === undefined ? {} : { once }),
    });
  }

  async #findTargets(): Promise<readonly HostTarget[]> {
    const { domain, path } = this.reference;
    const endpoints = await this.#client.endpoints(domain, this.#options);
    const scope = `repository:${path}:${this.#options.actions ?? 'pull'}`;
    return await Promise.all(
      endpoints.map(async (endpoint): Promise<HostTarget> => {
        const { url, tls, upstream, plainFallback } = endpoint;
        const auth = upstream ? this.#auth : await this.#client.mirrorCredentials(url.host, path);
        return {
          endpoint,
          // Docker Hub is shown by the name that people know.
          registry: url.host === apiHost(domain) ? domain : url.host,
          origin: url.origin + endpoint.path,
          scope,
          auth,
          tls,
          plain: url.protocol === 'http:' || plainFallback,
        };
      }),
    );
  }

  async #read(response: HttpResponse, endpoint: Endpoint, limit: number, what: string): Promise<Buffer> {
    try {
      return await readBody(response, limit, `${what} of "${formatReference(this.reference)}"`);
    } catch (error) {
      const failure = error instanceof NodeletError ? undefined : classify(error);
      if (failure === undefined) throw error;
      throw unreachable(this.reference, shown(this.reference, endpoint), failure, error);
    }
  }
}

/** A host as messages name it. */
function shown(reference: Reference, { url }: Endpoint): string {
  return url.host === apiHost(reference.domain) ? reference.domain : url.host;
}

async function failed(
  ask: Ask,
  target: HostTarget,
  failure: Failure,
  response: HttpResponse | undefined,
  cause: unknown,
): Promise<NodeletError> {
  const domain = target.registry;
  if (failure.kind !== 'status' || response === undefined)
    return unreachable(ask.reference, domain, failure, cause);
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

export function unreachable(
  reference: Reference,
  domain: string,
  failure: Failure,
  cause: unknown,
): NodeletError {
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
        hint: 'add the authority of its certificate to the system, or name it as "ca" in the hosts.toml of the registry',
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

async function notFound(
  reference: Reference,
  endpoint: Endpoint,
  response: HttpResponse,
  digest?: string,
): Promise<NodeletError> {
  const domain = shown(reference, endpoint);
  const image = formatReference(reference);
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
