/**
 * Answers a registry's 401: basic credentials, or a token from the realm that it names (distribution's token
 * specification, GET and OAuth2 POST). Tokens are kept by registry, scope and credentials until they expire; a
 * hundred requests that need the same token fetch it once.
 */
import { createHash } from 'node:crypto';
import { describeError, NodeletError } from '../../base/index.ts';
import { quote } from '../digest.ts';
import type { PullAuth } from '../types.ts';
import type { Challenge } from './challenge.ts';
import { drain, type Http, type HttpResponse, readBody } from './http.ts';
import { isLoopback } from './names.ts';
import { authoritiesOnly, type TlsProfile } from './tls.ts';

/** Most bytes of a token answer, and of any error body. */
export const maxErrorBody = 1024 * 1024;

export interface AuthTarget {
  /** `host[:port]` as the reference (or the configuration, for a mirror) has it. */
  readonly registry: string;
  /** The origin whose challenges are answered, and how it is spoken to. */
  readonly origin: string;
  readonly tls: TlsProfile | undefined;
  /** True where `origin` may be spoken to in plain HTTP, its token server on the same host too. */
  readonly plain: boolean;
  /** `repository:library/busybox:pull`. */
  readonly scope: string;
  readonly auth: PullAuth | undefined;
}

interface Token {
  readonly header: string;
  /** Milliseconds since 1970; Infinity for credentials that do not expire. */
  readonly expires: number;
}

const clientId = 'nodelet';
/** Lifetime of a token that does not say (token specification), and the least that is believed. Seconds. */
const minLifetime = 60;

export class Authenticator {
  readonly #http: Http;
  readonly #plainAllowed: (host: string) => boolean;
  readonly #now: () => number;
  readonly #tokens = new Map<string, Token>();
  readonly #fetching = new Map<string, Promise<Token>>();
  /** Refresh tokens that token servers gave with a token: they stand for the credentials afterwards. */
  readonly #refresh = new Map<string, string>();

  constructor(http: Http, plainAllowed: (host: string) => boolean, now: () => number = Date.now) {
    this.#http = http;
    this.#plainAllowed = plainAllowed;
    this.#now = now;
  }

  /** The Authorization header to send unasked, or undefined. */
  known(target: AuthTarget): string | undefined {
    if (target.auth?.registryToken !== undefined) return `Bearer ${target.auth.registryToken}`;
    const token = this.#tokens.get(keyOf(target));
    return token !== undefined && token.expires > this.#now() ? token.header : undefined;
  }

  /** Forgets a header that was refused. */
  forget(target: AuthTarget, header: string): void {
    const key = keyOf(target);
    if (this.#tokens.get(key)?.header === header) this.#tokens.delete(key);
  }

  /** The header that answers `challenges`. Throws UNAUTHORIZED. */
  async answer(target: AuthTarget, challenges: readonly Challenge[]): Promise<string> {
    const key = keyOf(target);
    const known = this.known(target);
    if (known !== undefined) return known;
    let fetching = this.#fetching.get(key);
    if (fetching === undefined) {
      fetching = this.#obtain(target, challenges).finally(() => this.#fetching.delete(key));
      this.#fetching.set(key, fetching);
    }
    const token = await fetching;
    this.#tokens.set(key, token);
    return token.header;
  }

  async #obtain(target: AuthTarget, challenges: readonly Challenge[]): Promise<Token> {
    const bearer = challenges.find(
      (challenge) => challenge.scheme === 'bearer' && challenge.params.has('realm'),
    );
    if (bearer !== undefined) return await this.#token(target, bearer);
    if (challenges.some((challenge) => challenge.scheme === 'basic')) {
      const basic = basicHeader(target.auth);
      if (basic !== undefined) return { header: basic, expires: Number.POSITIVE_INFINITY };
      throw unauthorized(
        target,
        'it asks for a user name and password, and none are configured',
        loginHint(target),
      );
    }
    const offered = challenges.map((challenge) => challenge.scheme).join(', ');
    throw unauthorized(
      target,
      offered === '' ? 'it named no way to log in' : `it only offers ${quote(offered)}`,
    );
  }

  async #token(target: AuthTarget, challenge: Challenge): Promise<Token> {
    const realmText = challenge.params.get('realm') ?? '';
    let realm: URL;
    try {
      realm = new URL(realmText);
    } catch {
      throw unauthorized(target, `its token realm ${quote(realmText)} is no URL`);
    }
    if (realm.username !== '' || realm.password !== '') {
      throw unauthorized(target, `its token realm ${quote(realm.origin)} carries credentials of its own`);
    }
    const sameHost = realm.hostname === new URL(target.origin).hostname;
    const plain =
      realm.protocol === 'http:' &&
      (this.#plainAllowed(realm.host) || isLoopback(realm.host) || (target.plain && sameHost));
    if (realm.protocol !== 'https:' && !plain) {
      throw unauthorized(target, `its token realm ${quote(realmText)} is not https`);
    }
    const service = challenge.params.get('service');
    const scope = challenge.params.get('scope') ?? target.scope;
    const ask: TokenRequest = { target, realm, service, scope };
    const response = (await this.#renew(ask)) ?? (await this.#post(ask)) ?? (await this.#get(ask));
    if (response.status !== 200) {
      const status = response.status;
      await drain(response);
      throw unauthorized(target, `its token server "${realm.origin}" answered ${status}`, loginHint(target));
    }
    return this.#read(target, realm, await readBody(response, maxErrorBody, 'a token'));
  }

  /** By the refresh token of an earlier answer. Undefined where there is none, or it is not taken any more. */
  async #renew(ask: TokenRequest): Promise<HttpResponse | undefined> {
    const key = ownerOf(ask.target);
    const refresh = this.#refresh.get(key);
    if (refresh === undefined) return undefined;
    const form = formOf(ask, { grant_type: 'refresh_token', refresh_token: refresh });
    const response = await this.#send(ask, postForm(ask.realm, form));
    if (response.status === 200) return response;
    this.#refresh.delete(key);
    await drain(response);
    return undefined;
  }

  /** OAuth2. Undefined where the server does not know it and a plain GET has to be tried. */
  async #post(ask: TokenRequest): Promise<HttpResponse | undefined> {
    const { username, password, identityToken } = ask.target.auth ?? {};
    const form = formOf(ask, {});
    if (identityToken !== undefined) {
      form.set('grant_type', 'refresh_token');
      form.set('refresh_token', identityToken);
    } else if (username !== undefined && password !== undefined) {
      form.set('grant_type', 'password');
      form.set('username', username);
      form.set('password', password);
    } else {
      return undefined;
    }
    const response = await this.#send(ask, postForm(ask.realm, form));
    if (identityToken === undefined && [400, 401, 404, 405].includes(response.status)) {
      await drain(response);
      return undefined;
    }
    return response;
  }

  async #get(ask: TokenRequest): Promise<HttpResponse> {
    const { target, realm, service, scope } = ask;
    const url = new URL(realm);
    if (service !== undefined) url.searchParams.set('service', service);
    for (const one of scope.split(' ')) if (one !== '') url.searchParams.append('scope', one);
    const basic = basicHeader(target.auth);
    return await this.#send(ask, {
      method: 'GET',
      url,
      headers: basic === undefined ? {} : { authorization: basic },
    });
  }

  async #send(
    { target }: TokenRequest,
    request: { method: 'GET' | 'POST'; url: URL; headers: Record<string, string>; body?: string },
  ): Promise<HttpResponse> {
    const { url } = request;
    // A token server on another host is trusted by the same authorities; what else is said is said of the registry.
    const sameHost = url.hostname === new URL(target.origin).hostname;
    try {
      return await this.#http.send({
        ...request,
        headers: { ...request.headers, accept: 'application/json' },
        tls: sameHost ? target.tls : authoritiesOnly(target.tls),
        plain: sameHost && target.plain,
      });
    } catch (error) {
      if (error instanceof NodeletError) throw error;
      throw new NodeletError(
        'REGISTRY_UNREACHABLE',
        `cannot reach the token server "${url.origin}" of registry "${target.registry}": ${describeError(error)}`,
        { cause: error },
      );
    }
  }

  #read(target: AuthTarget, realm: URL, body: Buffer): Token {
    const fail = (reason: string): NodeletError =>
      unauthorized(target, `its token server "${realm.origin}" answered ${reason}`);
    let parsed: unknown;
    try {
      parsed = JSON.parse(body.toString('utf8'));
    } catch {
      throw fail('what is not JSON');
    }
    const answer = (typeof parsed === 'object' && parsed !== null ? parsed : {}) as Record<string, unknown>;
    const token = answer.token ?? answer.access_token;
    // A token becomes a header: visible ASCII only.
    if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token)) throw fail('without a token');
    const refresh = answer.refresh_token;
    if (target.auth !== undefined && typeof refresh === 'string' && refresh !== '')
      this.#refresh.set(ownerOf(target), refresh);
    const said = typeof answer.expires_in === 'number' ? answer.expires_in : minLifetime;
    const lifetime = Math.min(Math.max(said, minLifetime), 86_400);
    // A tenth early, so that it does not expire on the way.
    return { header: `Bearer ${token}`, expires: this.#now() + lifetime * 900 };
  }
}

interface TokenRequest {
  readonly target: AuthTarget;
  readonly realm: URL;
  readonly service: string | undefined;
  readonly scope: string;
}

function formOf({ service, scope }: TokenRequest, more: Readonly<Record<string, string>>): URLSearchParams {
  const form = new URLSearchParams({ client_id: clientId, scope, ...more });
  if (service !== undefined) form.set('service', service);
  return form;
}

function postForm(url: URL, form: URLSearchParams) {
  return {
    method: 'POST',
    url,
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: form.toString(),
  } as const;
}

/** Who asks: registry and credentials. */
function ownerOf(target: AuthTarget): string {
  const secret = createHash('sha256')
    .update(JSON.stringify(target.auth ?? null))
    .digest('hex');
  return `${target.origin}\n${secret}`;
}

function keyOf(target: AuthTarget): string {
  return `${target.scope}\n${ownerOf(target)}`;
}

function basicHeader(auth: PullAuth | undefined): string | undefined {
  if (auth?.username === undefined || auth.password === undefined) return undefined;
  return `Basic ${Buffer.from(`${auth.username}:${auth.password}`, 'utf8').toString('base64')}`;
}

export function unauthorized(target: AuthTarget, reason: string, hint?: string): NodeletError {
  const repository = target.scope.split(':')[1] ?? '';
  return new NodeletError(
    'UNAUTHORIZED',
    `cannot log in to registry "${target.registry}" for "${repository}": ${reason}`,
    hint === undefined ? {} : { hint },
  );
}

export function loginHint(target: AuthTarget): string {
  return target.auth === undefined
    ? `log in with: docker login ${target.registry} (or podman login), or pass credentials`
    : 'check the user name and password, and that the account may read this repository';
}
