import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { NodeletError } from '../../../src/base/index.ts';
import { candidates } from '../../../src/image/registry/endpoints.ts';
import { parseHosts, readHosts } from '../../../src/image/registry/hosts-file.ts';

const read = async (text: string) => await parseHosts(text, 'hosts.toml');

async function refusal(text: string): Promise<string> {
  try {
    await read(text);
  } catch (error) {
    if (error instanceof NodeletError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'taken';
}

describe('hosts.toml', () => {
  test('hosts in the order of the file, the server last', async () => {
    const { hosts, server } = await read(`
      server = "registry.example.com/team"
      [host."https://b.example:5000"]
        capabilities = ["pull"]
      [host."http://a.example/cache/v2"]
      [host."c.example/root/"]
        override_path = true
    `);
    expect(hosts.map(({ url, path }) => url.origin + path)).toEqual([
      'https://b.example:5000/v2',
      'http://a.example/cache/v2',
      'https://c.example/root',
    ]);
    expect(hosts.map(({ capabilities }) => [...capabilities])).toEqual([
      ['pull'],
      ['pull', 'resolve', 'push'],
      ['pull', 'resolve', 'push'],
    ]);
    expect(server?.url.origin).toBe('https://registry.example.com');
    expect(server?.path).toBe('/team/v2');
  });

  test('settings of a host and of the server are told apart', async () => {
    const { hosts, server, defaults } = await read(`
      ca = "root.pem"
      skip_verify = true
      [header]
        X-Site = ["a", "b"]
      [host."https://m"]
        client = [["c.pem", "k.pem"], "both.pem"]
        dial_timeout = "1m30s"
    `);
    expect(server).toBeUndefined();
    expect(defaults).toMatchObject({
      authorities: ['root.pem'],
      skipVerify: true,
      headers: { 'x-site': 'a, b' },
      overridePath: false,
    });
    expect(hosts[0]).toMatchObject({
      authorities: [],
      skipVerify: false,
      headers: {},
      dialTimeout: 90_000,
      clients: [
        { certificate: 'c.pem', key: 'k.pem' },
        { certificate: 'both.pem', key: 'both.pem' },
      ],
    });
  });

  test.each([
    ['no TOML', 'server = ', /it is no TOML/],
    ['an unknown key', 'skip_verfy = true', /unknown key "skip_verfy"/],
    ['an unknown key of a host', '[host."https://m"]\ncapability = ["pull"]', /unknown key .*capability/],
    ['an unknown capability', '[host."https://m"]\ncapabilities = ["pul"]', /"pul".*none of pull/],
    ['another scheme', '[host."ftp://m"]', /"ftp:\/\/m" is not http or https/],
    ['no URL', '[host."https://"]', /is no URL/],
    ['a password in the URL', '[host."https://u:secret@m"]', /"m" has a user or password/],
    ['a query', 'server = "https://m/?x=1"', /has a query/],
    ['a text for a truth', 'skip_verify = "yes"', /"skip_verify" is not true or false/],
    ['a header that breaks out', '[header]\nX = "a\\r\\nEvil: 1"', /has characters that no header has/],
    ['a header of the client’s own', '[header]\nHost = "x"', /may not set "Host"/],
    ['a header without a possible name', '[header]\n"a b" = "x"', /impossible name "a b"/],
    [
      'three files for a client',
      'client = [["a", "b", "c"]]',
      /not a certificate, or a certificate and its key/,
    ],
    ['no duration', 'dial_timeout = "soon"', /is no duration/],
    ['a duration of nothing', 'dial_timeout = "0s"', /is not between/],
    ['a table of another kind', 'host = 1', /"host" is not a table/],
    ['a server that is none', 'server = 1', /"server" is not a string/],
  ])('%s is refused', async (_, text, message) => {
    const found = await refusal(text);
    expect(found).toMatch(/^REGISTRY_CONFIG_INVALID: cannot use "hosts.toml": /);
    expect(found).toMatch(message);
    expect(found).not.toContain('secret');
  });

  test('any document is read or refused with a code', () => {
    const scalar = fc.oneof(
      fc.string(),
      fc.integer(),
      fc.boolean(),
      fc.constantFrom('https://m', 'pull', '5s', '__proto__', 'http://[::1]:5000/x'),
    );
    const key = fc.constantFrom(
      'server',
      'host',
      'ca',
      'client',
      'header',
      'capabilities',
      'skip_verify',
      'x',
    );
    const value = fc.letrec((tie) => ({
      any: fc.oneof(
        { maxDepth: 3 },
        scalar,
        fc.array(tie('any'), { maxLength: 3 }),
        fc.dictionary(fc.oneof(key, fc.string()), tie('any'), { maxKeys: 4 }),
      ),
    })).any;
    fc.assert(
      fc.property(fc.oneof(value, fc.dictionary(key, value, { maxKeys: 5 })), (document) => {
        try {
          const { hosts } = readHosts(document, 'f');
          for (const { url } of hosts) expect(url.protocol).toMatch(/^https?:$/);
        } catch (error) {
          expect((error as NodeletError).code).toBe('REGISTRY_CONFIG_INVALID');
        }
      }),
      { numRuns: 2000 },
    );
  });

  test('any text is read or refused with a code', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.string({
          unit: fc.constantFrom(...Array.from('[]{}="\'\n\\#.,:host"server/ca\u0000é')),
          maxLength: 80,
        }),
        async (text) => {
          const found = await refusal(text);
          expect(found).toMatch(/^(taken$|REGISTRY_CONFIG_INVALID: )/);
        },
      ),
      { numRuns: 1000 },
    );
  });
});

test('the directory of a registry has containerd’s names', () => {
  expect(candidates('/c', 'r.example')).toEqual(['/c/r.example', '/c/_default']);
  expect(candidates('/c', 'r.example:5000')).toEqual([
    '/c/r.example_5000_',
    '/c/r.example:5000',
    '/c/_default',
  ]);
  expect(candidates('/c', '[::1]:5000')).toEqual(['/c/[::1]_5000_', '/c/[::1]:5000', '/c/_default']);
});
