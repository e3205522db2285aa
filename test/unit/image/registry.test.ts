import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseReference } from '../../../src/image/reference.ts';
import { parseChallenges } from '../../../src/image/registry/challenge.ts';
import { credentialFile, findCredentials, helpersFor } from '../../../src/image/registry/credentials.ts';
import { isLoopback } from '../../../src/image/registry/names.ts';
import {
  classify,
  defaultRetry,
  type Failure,
  parseRetryAfter,
  retryDelay,
} from '../../../src/image/registry/retry.ts';

const plain = (header: string): unknown =>
  parseChallenges(header).map(({ scheme, params }) => [scheme, Object.fromEntries(params)]);

describe('parseChallenges', () => {
  test.each<[string, string, unknown]>([
    [
      'Docker Hub',
      'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a:pull"',
      [
        [
          'bearer',
          {
            realm: 'https://auth.docker.io/token',
            service: 'registry.docker.io',
            scope: 'repository:a:pull',
          },
        ],
      ],
    ],
    ['basic', 'Basic realm="x y, z"', [['basic', { realm: 'x y, z' }]]],
    [
      'two in one header',
      'Bearer realm="r", service=s, Basic realm="b"',
      [
        ['bearer', { realm: 'r', service: 's' }],
        ['basic', { realm: 'b' }],
      ],
    ],
    ['blanks around =', 'Basic realm = "x"', [['basic', { realm: 'x' }]]],
    ['escapes', 'Basic realm="a\\"b\\\\c"', [['basic', { realm: 'a"b\\c' }]]],
    [
      'an opaque value',
      'Negotiate YII==, Basic realm=x',
      [
        ['negotiate', {}],
        ['basic', { realm: 'x' }],
      ],
    ],
    ['a scheme alone', 'Negotiate', [['negotiate', {}]]],
    ['the first of two values', 'Basic realm=a, realm=b', [['basic', { realm: 'a' }]]],
    ['upper case', 'BEARER REALM=r', [['bearer', { realm: 'r' }]]],
    ['a string that never ends', 'Bearer realm="abc', [['bearer', {}]]],
    ['nothing', '', []],
    ['commas', ',,,', []],
    ['a parameter without a scheme', 'realm="x"', []],
  ])('%s', (_name, header, expected) => {
    expect(plain(header)).toEqual(expected);
  });

  test('several headers', () => {
    expect(parseChallenges(['Bearer realm=a', 'Basic realm=b']).map((c) => c.scheme)).toEqual([
      'bearer',
      'basic',
    ]);
    expect(parseChallenges(undefined)).toEqual([]);
  });

  test('quoted values come back as they were', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (realm, scope) => {
        const quoted = (text: string): string => `"${text.replace(/[\\"]/g, '\\$&')}"`;
        const [challenge] = parseChallenges(`Bearer realm=${quoted(realm)}, scope=${quoted(scope)}`);
        expect(challenge?.params.get('realm')).toBe(realm);
        expect(challenge?.params.get('scope')).toBe(scope);
      }),
    );
  });

  test('never throws and never takes long', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('a', '=', '"', ',', ' ', '\\', 'B') }),
        (text) => void parseChallenges(text),
      ),
    );
    const start = performance.now();
    parseChallenges('a="'.repeat(1_000_000));
    parseChallenges(`a ${'b'.repeat(1_000_000)}`);
    expect(performance.now() - start).toBeLessThan(500);
  });
});

describe('findCredentials', () => {
  const basic = (text: string): object => ({ auth: Buffer.from(text).toString('base64') });
  const file = JSON.stringify({
    auths: {
      'https://index.docker.io/v1/': basic('hub:h'),
      'quay.io': basic('quay:q'),
      'quay.io/team': basic('team:t'),
      'https://reg.example:5000/v2/': { username: 'u', password: 'p' },
      'token.example': { identitytoken: 'idt' },
      'empty.example': {},
    },
    credsStore: 'desktop',
  });
  test.each([
    ['busybox', { username: 'hub', password: 'h' }],
    ['quay.io/other/app', { username: 'quay', password: 'q' }],
    ['quay.io/team/app', { username: 'team', password: 't' }],
    ['reg.example:5000/a', { username: 'u', password: 'p' }],
    ['token.example/a', { identityToken: 'idt' }],
    ['empty.example/a', undefined],
    ['other.example/a', undefined],
  ])('%s', (image, expected) => {
    expect(findCredentials(file, parseReference(image))).toEqual(expected);
  });

  test('a password may have colons', () => {
    const text = JSON.stringify({ auths: { 'a.b': basic('user:p:w') } });
    expect(findCredentials(text, parseReference('a.b/c'))).toEqual({ username: 'user', password: 'p:w' });
  });

  test.each([
    ['{', /it is not JSON/],
    ['{"auths": 1}', /"auths" is not an object/],
    [
      '{"auths": {"a.b": {"auth": "eA=="}}}',
      /the entry for "a.b" has an "auth" that is not base64 of USER:PASSWORD/,
    ],
    ['{"auths": {"a.b": {"username": 1}}}', /"username" that is not a string/],
  ])('refuses %s', (text, reason) => {
    expect(() => findCredentials(text, parseReference('a.b/c'))).toThrow(reason);
  });

  test('the environment names the file', () => {
    expect(credentialFile({ REGISTRY_AUTH_FILE: '/x' })).toBe('/x');
    expect(credentialFile({ DOCKER_CONFIG: '/d' })).toBe('/d/config.json');
  });
});

describe('retryDelay', () => {
  const policy = { tries: 5, base: 100, max: 1000 };
  const delay = (failure: Failure, next: number): number | undefined =>
    retryDelay(failure, next, 100, policy, () => 0.5);
  const status = (code: number, retryAfter?: number): Failure => ({
    kind: 'status',
    status: code,
    retryAfter,
  });
  test.each<[string, Failure, number, number | undefined]>([
    ['a broken connection', { kind: 'network', code: 'ECONNRESET', established: true }, 2, 200],
    ['the fifth time', { kind: 'network', code: 'ECONNRESET', established: true }, 5, 200],
    ['the sixth time', { kind: 'network', code: 'ECONNRESET', established: true }, 6, undefined],
    ['no connection', { kind: 'network', code: 'ECONNREFUSED', established: false }, 3, 200],
    [
      'no connection for the third time',
      { kind: 'network', code: 'ECONNREFUSED', established: false },
      4,
      undefined,
    ],
    ['no trust', { kind: 'tls', code: 'CERT_HAS_EXPIRED' }, 2, undefined],
    ['a time-out', { kind: 'timeout', code: 'X' }, 3, 200],
    ['429 that says when', status(429, 7000), 2, 7000],
    ['429 that does not', status(429), 2, 1000],
    ['429 that asks for an hour', status(429, 3_600_000), 2, undefined],
    ['500', status(500), 2, 200],
    ['500 four times', status(500), 5, undefined],
    ['501', status(501), 2, undefined],
    ['404', status(404), 2, undefined],
  ])('%s', (_name, failure, next, expected) => {
    expect(delay(failure, next)).toBe(expected);
  });

  test('pauses stay within the policy', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.integer({ min: 0, max: 1e6 }),
        (dice, previous) => {
          const pause = retryDelay(status(500), 2, previous, defaultRetry, () => dice) ?? 0;
          expect(pause).toBeGreaterThanOrEqual(defaultRetry.base);
          expect(pause).toBeLessThanOrEqual(defaultRetry.max);
        },
      ),
    );
  });
});

test('classify finds the code below wrappers', () => {
  const coded = (code: string): Error => Object.assign(new Error(code), { code });
  expect(classify(coded('ECONNREFUSED'))).toEqual({
    kind: 'network',
    code: 'ECONNREFUSED',
    established: false,
  });
  expect(classify(new AggregateError([coded('ECONNREFUSED'), coded('EHOSTUNREACH')]))).toMatchObject({
    code: 'ECONNREFUSED',
  });
  expect(classify(new TypeError('fetch failed', { cause: coded('ECONNRESET') }))).toMatchObject({
    established: true,
  });
  expect(
    classify(Object.assign(new Error('x', { cause: coded('EPIPE') }), { code: 'UND_ERR_SOCKET' })),
  ).toMatchObject({ code: 'EPIPE' });
  expect(classify(coded('ERR_SSL_WRONG_VERSION_NUMBER'))).toMatchObject({ kind: 'tls' });
  expect(classify(coded('UND_ERR_HEADERS_TIMEOUT'))).toMatchObject({ kind: 'timeout' });
  expect(classify(new TypeError('a bug'))).toBeUndefined();
});

test('parseRetryAfter takes seconds and dates', () => {
  const now = Date.parse('2026-01-01T00:00:00Z');
  expect(parseRetryAfter('120', now)).toBe(120_000);
  expect(parseRetryAfter('Thu, 01 Jan 2026 00:00:30 GMT', now)).toBe(30_000);
  expect(parseRetryAfter('Thu, 01 Jan 2025 00:00:30 GMT', now)).toBe(0);
  expect(parseRetryAfter('soon', now)).toBeUndefined();
  expect(parseRetryAfter(undefined, now)).toBeUndefined();
});

test.each([
  ['localhost', true],
  ['localhost:5000', true],
  ['a.localhost:1', true],
  ['127.0.0.1:5000', true],
  ['127.1.2.3', true],
  ['[::1]:5000', true],
  ['localhost.example', false],
  ['127.0.0.1.example', false],
  ['10.0.0.1', false],
])('isLoopback(%s) is %s', (host, expected) => {
  expect(isLoopback(host)).toBe(expected);
});

describe('credential helpers', () => {
  const scope = { domain: 'r.example:5000', path: 'a/b' };
  test.each([
    ['none', {}, []],
    [
      'the one for the registry, then the one for all',
      { credHelpers: { 'r.example:5000': 'one', other: 'x' }, credsStore: 'all' },
      ['one', 'all'],
    ],
    ['a name with scheme', { credHelpers: { 'https://r.example:5000/v2/': 'one' } }, ['one']],
    ['the same twice', { credHelpers: { 'r.example:5000': 'all' }, credsStore: 'all' }, ['all']],
    ['empty names', { credHelpers: { 'r.example:5000': '' }, credsStore: '' }, []],
  ])('%s', (_, document, names) => {
    expect(helpersFor(document, scope, 'f').map(({ name }) => name)).toEqual(names);
  });

  test('Docker Hub has its old name there', () => {
    const document = { credHelpers: { 'https://index.docker.io/v1/': 'hub' } };
    expect(helpersFor(document, { domain: 'docker.io', path: 'library/x' }, 'f')).toEqual([
      { name: 'hub', server: 'https://index.docker.io/v1/' },
    ]);
  });

  test.each([
    [{ credHelpers: 1 }, '"credHelpers" is not an object'],
    [{ credHelpers: { 'r.example:5000': 1 } }, 'not a string'],
    [{ credsStore: [] }, '"credsStore" is not a string'],
  ])('%j is refused', (document, message) => {
    expect(() => helpersFor(document, scope, 'f')).toThrow(message);
  });
});
