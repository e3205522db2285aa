/** Where an image comes from: hosts.toml, certificates, proxies, credential helpers. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { ImageService, ImageServiceOptions } from '../../../src/image/index.ts';
import { Authority, type Pem } from '../../fixtures/certificates.ts';
import { freePort } from '../../fixtures/registry.ts';
import { EvilRegistry } from '../../fixtures/registry-evil.ts';
import { dir, file, makeImage, tarOf } from '../../fixtures/registry-images.ts';
import { failure, TestStore } from '../../fixtures/registry-store.ts';

const image = makeImage({ layers: [tarOf(dir('.'), file('a'))] });
const newer = makeImage({ layers: [tarOf(dir('.'), file('b'))] });

let upstream: EvilRegistry;
let mirror: EvilRegistry;
let store: TestStore;
let images: ImageService;
let certs: string;

/** Writes the hosts.toml of a registry, as the next pull finds it. */
function hosts(registry: string, text: string, directory = registry): void {
  mkdirSync(join(certs, directory), { recursive: true });
  writeFileSync(join(certs, directory, 'hosts.toml'), text);
}

const open = (options: Partial<ImageServiceOptions> = {}): ImageService =>
  store.open({ hostDirectories: [certs], ...options });
const asked = (registry: EvilRegistry, kind: string): string[] =>
  registry.log.filter(({ path }) => path.includes(`/${kind}/`)).map(({ path }) => path);

beforeAll(async () => {
  upstream = await EvilRegistry.start();
  mirror = await EvilRegistry.start();
});
afterAll(async () => {
  await upstream.stop();
  await mirror.stop();
});
beforeEach(() => {
  upstream.reset();
  mirror.reset();
  store = new TestStore();
  certs = join(store.folder, 'certs.d');
  mkdirSync(certs);
  images = open();
});
afterEach(async () => {
  await store.close();
});

describe('mirrors', () => {
  test('a mirror is asked first, told which registry is meant, and the registry is left alone', async () => {
    const name = upstream.add('team/app', image);
    mirror.add('team/app', image);
    hosts(upstream.host, `[host."http://${mirror.host}"]`);
    expect((await images.pull(name)).id).toBe(image.id);
    expect(upstream.log).toEqual([]);
    expect(mirror.log.every(({ path }) => path.endsWith(`?ns=${encodeURIComponent(upstream.host)}`))).toBe(
      true,
    );
    expect(images.resolve(name)?.repoTags).toEqual([name]);
  });

  test('what a mirror does not have comes from the registry', async () => {
    const name = upstream.add('team/app', image);
    hosts(upstream.host, `[host."http://${mirror.host}"]`);
    expect((await images.pull(name)).id).toBe(image.id);
    expect(asked(mirror, 'manifests')).toHaveLength(1);
  });

  test('a mirror that is down or broken costs little', async () => {
    const name = upstream.add('team/app', image);
    mirror.rule = (_, response) => {
      response.writeHead(500).end();
      return true;
    };
    const nobody = await freePort();
    hosts(upstream.host, `[host."http://127.0.0.1:${nobody}"]\n[host."http://${mirror.host}"]`);
    expect((await images.pull(name)).id).toBe(image.id);
  });

  test('a mirror without "resolve" never says what a tag stands for', async () => {
    const name = upstream.add('team/app', newer);
    mirror.add('team/app', image); // an old one under the same tag
    for (const [digest, data] of newer.blobs) mirror.addBlob(digest, data);
    hosts(upstream.host, `[host."http://${mirror.host}"]\ncapabilities = ["pull"]`);
    expect((await images.pull(name)).id).toBe(newer.id);
    expect(asked(mirror, 'manifests')).toEqual([]);
    expect(asked(upstream, 'manifests')).toHaveLength(1);
    expect(asked(upstream, 'blobs')).toEqual([]);
    // by digest the mirror is as good as the registry
    await images.prune({ all: true });
    upstream.log.length = 0;
    await images.pull(`${upstream.host}/team/app@${newer.manifestDigest}`);
    expect(upstream.log).toEqual([]);
  });

  test('a mirror that serves other bytes is not believed, and the registry is asked', async () => {
    const name = upstream.add('team/app', image);
    mirror.add('team/app', image);
    mirror.addBlob(image.layers[0]!.digest, Buffer.alloc(image.layers[0]!.size));
    mirror.addBlob(image.manifestDigest, Buffer.from('{}'));
    hosts(upstream.host, `[host."http://${mirror.host}"]`);
    expect((await images.pull(name)).id).toBe(image.id);
    expect(asked(upstream, 'blobs')).toEqual([`/v2/team/app/blobs/${image.layers[0]!.digest}`]);
    await images.prune({ all: true });
    expect((await images.pull(`${upstream.host}/team/app@${image.manifestDigest}`)).id).toBe(image.id);
    store.expectClean({ blobs: 3, layers: 1 });
  });

  test('credentials of the image are for the registry alone; a mirror has its own', async () => {
    const name = upstream.add('team/app', image);
    const basic = (text: string): string => `Basic ${Buffer.from(text).toString('base64')}`;
    const guard =
      (wanted: string) =>
      ({ headers }: { headers: IncomingMessage['headers'] }, response: ServerResponse) => {
        if (headers.authorization === basic(wanted)) return false;
        response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
        return true;
      };
    mirror.add('team/app', image);
    mirror.rule = guard('mirror:m');
    upstream.rule = guard('user:u');
    hosts(
      upstream.host,
      `[host."http://${mirror.host}"]\n[host."http://${mirror.host}".header]\nX-Site = "cellar"`,
    );
    const path = join(store.folder, 'config.json');
    const entry = (text: string) => ({ auth: Buffer.from(text).toString('base64') });
    writeFileSync(path, JSON.stringify({ auths: { [mirror.host]: entry('mirror:m') } }));
    const auth = { username: 'user', password: 'u' };
    expect((await open({ credentialFile: path }).pull(name, { auth })).id).toBe(image.id);
    expect(upstream.log).toEqual([]);
    expect(mirror.log.every(({ headers }) => headers['x-site'] === 'cellar')).toBe(true);
    // without credentials of its own the mirror never hears those of the image
    mirror.log.length = 0;
    await images.prune({ all: true });
    expect((await images.pull(name, { auth })).id).toBe(image.id);
    expect(mirror.log.every(({ headers }) => headers.authorization === undefined)).toBe(true);
  });

  test('the configuration is read again for each pull', async () => {
    const name = upstream.add('team/app', image);
    mirror.add('team/app', image);
    await images.pull(name);
    await images.prune({ all: true });
    mirror.log.length = 0;
    hosts(upstream.host, `[host."http://${mirror.host}"]`);
    await images.pull(name);
    expect(mirror.log.length).toBeGreaterThan(0);
    await images.prune({ all: true });
    mirror.log.length = 0;
    rmSync(join(certs, upstream.host), { recursive: true });
    await images.pull(name);
    expect(mirror.log).toEqual([]);
  });

  test('_default is for registries without a directory, and host_port_ comes before host:port', async () => {
    const name = upstream.add('team/app', image);
    mirror.add('team/app', image);
    hosts(upstream.host, `[host."http://${mirror.host}"]`, '_default');
    await images.pull(name);
    expect(upstream.log).toEqual([]);
    await images.prune({ all: true });
    hosts(upstream.host, '');
    mirror.log.length = 0;
    await images.pull(name);
    expect(mirror.log).toEqual([]);
    await images.prune({ all: true });
    hosts(upstream.host, `[host."http://${mirror.host}"]`, upstream.host.replace(/:(\d+)$/, '_$1_'));
    await images.pull(name);
    expect(mirror.log.length).toBeGreaterThan(0);
  });

  test('an API below another path, with and without override_path', async () => {
    const name = upstream.add('team/app', image);
    mirror.add('team/app', image);
    hosts(upstream.host, `[host."http://${mirror.host}/proxy/hub"]`);
    await images.pull(name);
    expect(asked(mirror, 'manifests')[0]).toMatch(/^\/proxy\/hub\/v2\/team\/app\/manifests\/latest\?ns=/);
    await images.prune({ all: true });
    mirror.log.length = 0;
    hosts(upstream.host, `[host."http://${mirror.host}/v2/proxy"]\noverride_path = true`);
    await images.pull(name);
    expect(asked(mirror, 'manifests')[0]).toMatch(/^\/v2\/proxy\/team\/app\/manifests\/latest\?ns=/);
  });

  test('offline: the server itself can be a mirror', async () => {
    mirror.add('team/app', image);
    hosts('registry.invalid', `server = "http://${mirror.host}"`);
    expect((await images.pull('registry.invalid/team/app')).id).toBe(image.id);
  });

  test('where every host fails, the registry’s own failure is told, and the mirrors’ beside it', async () => {
    hosts(upstream.host, `[host."http://${mirror.host}"]`);
    await expect(images.pull(`${upstream.host}/team/none`)).rejects.toMatchObject({
      code: 'IMAGE_NOT_FOUND',
    });
    mirror.rule = (_, response) => {
      response.writeHead(403).end();
      return true;
    };
    const dead = `127.0.0.1:${await freePort()}`;
    hosts(dead, `[host."http://${mirror.host}"]`);
    await expect(images.pull(`${dead}/team/none`)).rejects.toMatchObject({
      code: 'REGISTRY_UNREACHABLE',
      hint: expect.stringContaining(`${mirror.host}: cannot log in`) as string,
    });
  });

  test('a registry whose hosts may not resolve', async () => {
    hosts(upstream.host, 'capabilities = ["pull"]');
    expect(await failure(images.pull(`${upstream.host}/team/app`))).toBe(
      `REGISTRY_CONFIG_INVALID: cannot pull "${upstream.host}/team/app:latest": no host that is configured for ` +
        `"${upstream.host}" has the capability "resolve"`,
    );
  });

  test('a configuration that is wrong is told with its file, and nothing is asked', async () => {
    const name = upstream.add('team/app', image);
    hosts(upstream.host, 'skip_verfy = true');
    expect(await failure(images.pull(name))).toMatch(
      new RegExp(`^REGISTRY_CONFIG_INVALID: cannot use "${certs}/${upstream.host}/hosts.toml": unknown key`),
    );
    expect(upstream.log).toEqual([]);
    store.expectClean({ blobs: 0, layers: 0 });
  });

  test('a redirect takes neither the header nor the credentials of a mirror along', async () => {
    const name = upstream.add('team/app', image);
    const storage = await EvilRegistry.start();
    try {
      mirror.add('team/app', image);
      mirror.rule = ({ path }, response) => {
        if (!path.includes('/blobs/')) return false;
        response.writeHead(307, { location: `http://${storage.host}${path}` }).end();
        return true;
      };
      for (const [digest, data] of image.blobs) storage.addBlob(digest, data);
      hosts(upstream.host, `[host."http://${mirror.host}".header]\nX-Key = "secret"`);
      await images.pull(name);
      expect(mirror.log.every(({ headers }) => headers['x-key'] === 'secret')).toBe(true);
      expect(storage.log.length).toBeGreaterThan(0);
      expect(storage.log.some(({ headers }) => headers['x-key'] !== undefined)).toBe(false);
    } finally {
      await storage.stop();
    }
  });
});

describe('certificates', () => {
  let folder: string;
  let authority: Authority;
  let server: Pem;
  let client: Pem;
  let registry: EvilRegistry;
  let strict: EvilRegistry;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'nodelet-tls-'));
    authority = new Authority(folder);
    server = authority.issue('server');
    client = authority.issue('client');
    const { certificate: cert, key } = server;
    registry = await EvilRegistry.start({ cert, key });
    strict = await EvilRegistry.start({ cert, key, ca: authority.own.certificate });
  });
  afterAll(async () => {
    await registry.stop();
    await strict.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  beforeEach(() => {
    registry.reset();
    strict.reset();
  });

  test('an own authority, by hosts.toml and by docker’s directory', async () => {
    const name = registry.add('app', image);
    expect(await failure(images.pull(name))).toMatch(/^REGISTRY_TLS: /);
    hosts(registry.host, `ca = "${authority.own.certificateFile}"`);
    expect((await images.pull(name)).id).toBe(image.id);
    rmSync(join(certs, registry.host, 'hosts.toml'));
    writeFileSync(join(certs, registry.host, 'ca.crt'), authority.own.certificate);
    await images.pull(name);
    rmSync(join(certs, registry.host), { recursive: true });
    expect(await failure(images.pull(name))).toMatch(/^REGISTRY_TLS: /);
  });

  test('no check at all, where that is said of the host', async () => {
    const name = registry.add('app', image);
    hosts(registry.host, 'skip_verify = true');
    expect((await images.pull(name)).id).toBe(image.id);
  });

  test('for one pull: tlsVerify and a directory of certificates', async () => {
    const name = registry.add('app', image);
    expect((await images.pull(name, { tlsVerify: false })).id).toBe(image.id);
    expect(await failure(images.pull(name))).toMatch(/^REGISTRY_TLS: /);
    const own = join(store.folder, 'own');
    mkdirSync(own);
    writeFileSync(join(own, 'ca.crt'), authority.own.certificate);
    expect((await images.pull(name, { certDirectory: own })).id).toBe(image.id);
    // plain HTTP too, as podman's --tls-verify=false has it
    expect((await images.pull(upstream.add('app', newer), { tlsVerify: false })).id).toBe(newer.id);
  });

  test('a client certificate', async () => {
    const name = strict.add('app', image);
    const ca = `ca = "${authority.own.certificateFile}"\n`;
    hosts(strict.host, ca);
    expect(await failure(images.pull(name))).toMatch(/^REGISTRY_(TLS|UNREACHABLE): /);
    hosts(strict.host, `${ca}client = [["${client.certificateFile}", "${client.keyFile}"]]`);
    expect((await images.pull(name)).id).toBe(image.id);
    expect(strict.log.length).toBeGreaterThan(0);
  });

  test.each([
    ['a file that is absent', 'ca = "none.pem"', /"ca\.pem"|none\.pem" cannot be read/],
    ['a file that is no certificate', 'ca = "hosts.toml"', /hosts\.toml" holds no certificate in PEM/],
    ['a certificate without its key', 'client = "only.pem"', /only\.pem" holds no private key in PEM/],
  ])('%s', async (_, text, message) => {
    const name = registry.add('app', image);
    hosts(registry.host, text);
    writeFileSync(join(certs, registry.host, 'only.pem'), client.certificate);
    const found = await failure(images.pull(name));
    expect(found).toMatch(/^REGISTRY_CONFIG_INVALID: /);
    expect(found).toMatch(message);
  });

  test('a key of another certificate', async () => {
    const name = registry.add('app', image);
    hosts(registry.host, `client = [["${client.certificateFile}", "${server.keyFile}"]]`);
    expect(await failure(images.pull(name))).toMatch(/^REGISTRY_CONFIG_INVALID: .*certificates/);
  });

  test('leave not to check one host is no leave for where it redirects to', async () => {
    const name = upstream.add('app', image);
    upstream.rule = ({ path }, response) => {
      if (!path.includes('/blobs/')) return false;
      response.writeHead(307, { location: `https://${registry.host}${path}` }).end();
      return true;
    };
    registry.add('app', image);
    hosts(upstream.host, `server = "http://${upstream.host}"\nskip_verify = true`);
    expect(await failure(images.pull(name))).toMatch(/^REGISTRY_TLS: /);
    expect(registry.log).toEqual([]);
  });
});

describe('proxies', () => {
  /** Both kinds: CONNECT, and requests with a whole URL. Everything leads to `target`. */
  async function startProxy(target: () => string, password?: string) {
    const seen: string[] = [];
    const allowed = (request: IncomingMessage): boolean =>
      password === undefined ||
      request.headers['proxy-authorization'] === `Basic ${Buffer.from(password).toString('base64')}`;
    const server = createServer((request, response) => {
      seen.push(`${request.method} ${request.url}`);
      if (!allowed(request)) {
        response.writeHead(407).end();
        return;
      }
      const url = new URL(request.url ?? '');
      const [host = '', port = ''] = target().split(':');
      const { connection: _, 'proxy-authorization': __, ...headers } = request.headers;
      import('node:http')
        .then(({ request: ask }) => {
          const forward = ask({
            host,
            port,
            path: url.pathname + url.search,
            method: request.method,
            headers,
          });
          forward.on('response', (answer) => {
            response.writeHead(answer.statusCode ?? 500, answer.headers);
            answer.pipe(response);
          });
          forward.end();
        })
        .catch(() => response.destroy());
    });
    server.on('connect', (request: IncomingMessage, socket) => {
      seen.push(`CONNECT ${request.url}`);
      socket.on('error', () => {});
      if (!allowed(request)) {
        socket.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n');
        return;
      }
      const [host = '', port = ''] = target().split(':');
      const onward = connect(Number(port), host, () => {
        socket.write('HTTP/1.1 200 OK\r\n\r\n');
        onward.pipe(socket).pipe(onward);
      });
      onward.on('error', () => socket.destroy());
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    return {
      seen,
      host: `127.0.0.1:${typeof address === 'object' ? address?.port : ''}`,
      stop: () => {
        server.closeAllConnections();
        server.close();
      },
    };
  }

  test('plain requests are asked of the proxy, with its password; NO_PROXY is left out', async () => {
    upstream.add('app', image);
    const proxy = await startProxy(() => upstream.host, 'p:w');
    try {
      const env = { HTTP_PROXY: `http://p:w@${proxy.host}`, NO_PROXY: 'other.invalid' };
      const behind = open({ env, insecureRegistries: ['registry.invalid'] });
      expect((await behind.pull('registry.invalid/app')).id).toBe(image.id);
      expect(proxy.seen[0]).toBe('GET http://registry.invalid/v2/app/manifests/latest');
      const count = proxy.seen.length;
      expect(
        await failure(open({ env, insecureRegistries: ['other.invalid'] }).pull('other.invalid/app')),
      ).toMatch(/^REGISTRY_UNREACHABLE: /);
      expect(proxy.seen).toHaveLength(count);
    } finally {
      proxy.stop();
    }
  });

  test('TLS goes through a tunnel, and is checked behind it', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'nodelet-tls-'));
    const authority = new Authority(folder);
    const { certificate: cert, key } = authority.issue('server');
    const registry = await EvilRegistry.start({ cert, key });
    // A name that is no loopback address to the client, and that the certificate has not: it is asked by address.
    const proxy = await startProxy(() => registry.host);
    try {
      registry.add('app', image);
      const behind = open({ env: { HTTPS_PROXY: proxy.host } });
      hosts('registry.invalid', `ca = "${authority.own.certificateFile}"`);
      expect(await failure(behind.pull('registry.invalid/app'))).toMatch(/^REGISTRY_TLS: /);
      expect(proxy.seen).toContain('CONNECT registry.invalid:443');
      hosts('registry.invalid', 'skip_verify = true');
      expect((await behind.pull('registry.invalid/app')).id).toBe(image.id);
    } finally {
      proxy.stop();
      await registry.stop();
      rmSync(folder, { recursive: true, force: true });
    }
  });

  test('a proxy that does not let us through', async () => {
    const proxy = await startProxy(() => upstream.host, 'p:w');
    try {
      const env = { HTTP_PROXY: `http://p:wrong@${proxy.host}`, HTTPS_PROXY: `http://p:wrong@${proxy.host}` };
      for (const insecureRegistries of [['registry.invalid'], []]) {
        expect(await failure(open({ env, insecureRegistries }).pull('registry.invalid/app'))).toMatch(
          /^REGISTRY_(UNREACHABLE|ERROR): .*407/,
        );
      }
    } finally {
      proxy.stop();
    }
  });

  test.each([
    ['no URL', 'http://['],
    ['another kind', 'ftp://proxy'],
  ])('a proxy that is %s', async (_, proxy) => {
    const behind = open({ env: { HTTPS_PROXY: proxy } });
    expect(await failure(behind.pull('registry.invalid/app'))).toMatch(
      /^REGISTRY_CONFIG_INVALID: cannot use the HTTP proxy of the environment: /,
    );
  });
});

describe('credential helpers', () => {
  const before = process.env.PATH;
  const basic = `Basic ${Buffer.from('ann:secret').toString('base64')}`;
  let path: string;

  beforeEach(() => {
    process.env.PATH = `${store.folder}:${before}`;
    path = join(store.folder, 'config.json');
    writeFileSync(path, JSON.stringify({ credHelpers: { [upstream.host]: 'test' } }));
    upstream.rule = ({ headers }, response) => {
      if (headers.authorization === basic) return false;
      response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
      return true;
    };
  });
  afterEach(() => {
    process.env.PATH = before;
  });
  const helper = (body: string): void => {
    const program = join(store.folder, 'docker-credential-test');
    writeFileSync(program, `#!/bin/sh\n${body}\n`);
    chmodSync(program, 0o755);
  };

  test('is asked for the registry', async () => {
    helper(
      `[ "$1" = get ] || exit 3\nread -r server\n[ "$server" = "${upstream.host}" ] || exit 4\necho '{"Username":"ann","Secret":"secret"}'`,
    );
    expect((await open({ credentialFile: path }).pull(upstream.add('app', image))).id).toBe(image.id);
  });

  test('that has nothing is no failure', async () => {
    helper("echo 'credentials not found in native keychain'\nexit 1");
    expect(await failure(open({ credentialFile: path }).pull(upstream.add('app', image)))).toMatch(
      /^UNAUTHORIZED: .*none are configured$/,
    );
  });

  test.each([
    ['that fails', 'echo broken; exit 2', /it ended with code 2 \("broken"\)$/],
    ['that says no JSON', 'echo hello', /its answer is not JSON$/],
    ['that says something else', "echo '{}'", /has no "Username" and "Secret"$/],
    ['that never stops talking', 'yes', /it wrote more than 1048576 bytes$/],
  ])('%s', async (_, body, message) => {
    helper(body);
    const found = await failure(open({ credentialFile: path }).pull(upstream.add('app', image)));
    expect(found).toMatch(/^CREDENTIAL_HELPER_FAILED: cannot get credentials for /);
    expect(found).toMatch(message);
  });

  test('that is not there', async () => {
    expect(await failure(open({ credentialFile: path }).pull(upstream.add('app', image)))).toMatch(
      /^CREDENTIAL_HELPER_FAILED: .*there is no such program in \$PATH$/,
    );
  });

  test('whose name is a path', async () => {
    writeFileSync(path, JSON.stringify({ credsStore: '../../bin/sh' }));
    expect(await failure(open({ credentialFile: path }).pull(upstream.add('app', image)))).toMatch(
      /^CREDENTIAL_HELPER_FAILED: .*no name of a helper$/,
    );
  });
});
