import { execFile, execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { sha256 } from '../../../src/image/digest.ts';
import type { ImageService, PullEvent } from '../../../src/image/index.ts';
import { Authority } from '../../fixtures/certificates.ts';
import { startRegistry, type TestRegistry } from '../../fixtures/registry.ts';
import {
  dir,
  file,
  hardlink,
  makeImage,
  symlink,
  tarOf,
  writeLayout,
} from '../../fixtures/registry-images.ts';
import { describeTree, failure, run, TestStore } from '../../fixtures/registry-store.ts';
import { startTokenServer, type TokenServer } from '../../fixtures/registry-token.ts';

let store: TestStore;
let images: ImageService;

beforeEach(() => {
  store = new TestStore();
  images = store.open();
});
afterEach(async () => {
  await store.close();
});

/** Not synchronous: the token server is in this process. */
async function push(layout: string, target: string, ...more: readonly string[]): Promise<void> {
  const args = ['copy', '-q', '--dest-tls-verify=false', ...more, `oci:${layout}`, `docker://${target}`];
  await promisify(execFile)('skopeo', args);
}

const base = tarOf(
  dir('.'),
  dir('etc'),
  file('etc/passwd', 'root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001:Web:/srv:/bin/false\n'),
  file('etc/group', 'root:x:0:\nweb:x:1001:root,web\n'),
  dir('data'),
  file('data/old'),
  file('data/hidden'),
  dir('opaque'),
  file('opaque/below'),
);
const top = tarOf(
  dir('data'),
  file('data/.wh.hidden', ''),
  file('data/new'),
  dir('opaque'),
  file('opaque/.wh..wh..opq', ''),
  file('opaque/above'),
  symlink('link', '/etc'),
  hardlink('data/same', 'data/new'),
);
const config = {
  User: 'web',
  Env: ['A=1'],
  Entrypoint: ['/bin/x'],
  WorkingDir: '/srv',
  Volumes: { '/data': {} },
  StopSignal: 'SIGINT',
};
const image = makeImage({ layers: [base, top], config });

describe('from docker-registry', () => {
  let registry: TestRegistry;
  let shared: TestStore;
  let reference: string;

  beforeAll(async () => {
    registry = await startRegistry();
    shared = new TestStore();
    writeLayout(join(shared.folder, 'layout'), { app: image });
    reference = `${registry.host}/team/app:1`;
    await push(`${join(shared.folder, 'layout')}:app`, reference);
  });
  afterAll(async () => {
    await registry.stop();
    await shared.close();
  });

  test('an image is pulled, unpacked, named by tag and digest, and its config counts', async () => {
    const events: PullEvent[] = [];
    const record = await images.pull(reference, { onEvent: (event) => events.push(event) });
    expect(record).toMatchObject({
      id: image.id,
      manifestDigest: image.manifestDigest,
      repoTags: [reference],
      repoDigests: [`${registry.host}/team/app@${image.manifestDigest}`],
      config: { os: 'linux', config },
      pinned: false,
    });
    expect(record.size).toBe([...image.blobs.values()].reduce((sum, blob) => sum + blob.length, 0));
    expect(record.chainIds).toEqual([sha256(base), sha256(`${sha256(base)} ${sha256(top)}`)]);
    expect(events.map((event) => event.kind)).toEqual(
      expect.arrayContaining(['resolving', 'manifest', 'layer', 'done']),
    );
    expect(events.at(-1)).toEqual({ kind: 'done', id: image.id, reference });
    store.expectClean({ blobs: 4, layers: 2 });
    expect(images.users(record)).toEqual({
      passwd: [
        { name: 'root', uid: 0, gid: 0, home: '/root' },
        { name: 'web', uid: 1000, gid: 1001, home: '/srv' },
      ],
      group: [
        { name: 'root', gid: 0, members: [] },
        { name: 'web', gid: 1001, members: ['root', 'web'] },
      ],
    });
  });

  test('overlayfs shows whiteouts and opaque directories as image-spec means them', async () => {
    const record = await images.pull(reference);
    const { lower, upper, work } = images.prepare('c1', record);
    const shown = run(
      'unshare',
      '-m',
      'sh',
      '-c',
      `mount -t overlay o -o lowerdir=${lower.join(':')},upperdir=${upper},workdir=${work} /mnt && cd /mnt && find . | sort && readlink link && stat -c %i data/new data/same`,
    );
    expect(shown.split('\n')).toEqual(
      expect.arrayContaining(['./data/new', './data/old', './data/same', './opaque/above', '/etc']),
    );
    expect(shown).not.toMatch(/hidden|below|\.wh\./);
    const [a, b] = shown.trim().split('\n').slice(-2);
    expect(a).toBe(b);
  });

  test('skopeo and umoci read the store as it lies there', async () => {
    await images.pull(reference);
    const inspected = JSON.parse(run('skopeo', 'inspect', `oci:${store.path('images')}:${reference}`)) as {
      Digest: string;
    };
    expect(inspected.Digest).toBe(image.manifestDigest);
    run(
      'skopeo',
      'copy',
      '-q',
      `oci:${store.path('images')}:${reference}`,
      `dir:${join(store.folder, 'copied')}`,
    );
    expect(readFileSync(join(store.folder, 'copied', 'manifest.json'))).toEqual(image.manifest);
    run(
      'skopeo',
      'copy',
      '-q',
      `oci:${store.path('images')}:${reference}`,
      `oci:${join(store.folder, 'again')}:x`,
    );
    run('umoci', 'unpack', '--image', `${join(store.folder, 'again')}:x`, join(store.folder, 'bundle'));
    expect(readFileSync(join(store.folder, 'bundle', 'rootfs', 'data', 'new'), 'utf8')).toBe('data/new');
  });

  test('a second pull asks once and brings nothing', async () => {
    await images.pull(reference);
    const events: PullEvent[] = [];
    const stamp = readFileSync(store.path('images', 'index.json'), 'utf8');
    const start = performance.now();
    await images.pull(reference, { onEvent: (event) => events.push(event) });
    expect(performance.now() - start).toBeLessThan(200);
    expect(
      events.filter((event) => event.kind === 'layer').map((event) => event.kind === 'layer' && event.phase),
    ).toEqual(['exists', 'exists']);
    expect(readFileSync(store.path('images', 'index.json'), 'utf8')).toBe(stamp);
  });

  test('by digest', async () => {
    const name = `${registry.host}/team/app@${image.manifestDigest}`;
    const record = await images.pull(name);
    expect(record).toMatchObject({ repoTags: [], repoDigests: [name] });
    expect(images.resolve(name)?.id).toBe(image.id);
    expect(images.resolve(`${registry.host}/team/app:whatever@${image.manifestDigest}`)?.id).toBe(image.id);
    expect(images.resolve(reference)).toBeUndefined();
  });

  test('an image is found by ID, short ID, tag and digest, and not by others', async () => {
    await images.pull(reference);
    for (const name of [
      image.id,
      image.id.slice(7),
      image.id.slice(7, 19),
      reference,
      `${registry.host}/team/app@${image.manifestDigest}`,
    ]) {
      expect(images.resolve(name)?.id, name).toBe(image.id);
    }
    for (const name of [
      '0000',
      'app',
      `${registry.host}/team/app`,
      `other/app@${image.manifestDigest}`,
      'UPPER',
      '',
    ]) {
      expect(images.resolve(name), name).toBeUndefined();
    }
  });

  test('ten pulls at once, also from another process’ point of view, cost one', async () => {
    const other = store.open();
    const events: PullEvent[] = [];
    const pulls = Array.from(
      { length: 5 },
      async () => await images.pull(reference, { onEvent: (event) => events.push(event) }),
    );
    const more = Array.from({ length: 5 }, async () => await other.pull(reference));
    const records = await Promise.all([...pulls, ...more]);
    expect(new Set(records.map((record) => record.id))).toEqual(new Set([image.id]));
    store.expectClean({ blobs: 4, layers: 2 });
    expect(other.list()).toEqual(images.list());
  });

  test('the platform is chosen from an index, and the index is what the tag stands for', async () => {
    const arm = makeImage({ layers: [base], architecture: 'arm64' });
    const own = makeImage({ layers: [base, top] });
    const manifests = [arm, own].map((one, i) => ({
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      digest: one.manifestDigest,
      size: one.manifest.length,
      platform: { os: 'linux', architecture: i === 0 ? 'arm64' : 'amd64' },
    }));
    const layout = join(store.folder, 'multi');
    writeLayout(layout, { a: arm, b: own });
    const index = Buffer.from(
      JSON.stringify({ schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json', manifests }),
    );
    writeFileSync(join(layout, 'blobs', 'sha256', sha256(index).slice(7)), index);
    const top1 = {
      mediaType: 'application/vnd.oci.image.index.v1+json',
      digest: sha256(index),
      size: index.length,
      annotations: { 'org.opencontainers.image.ref.name': 'multi' },
    };
    writeFileSync(join(layout, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [top1] }));
    const name = `${registry.host}/multi:1`;
    await push(`${layout}:multi`, name, '--all');

    const record = await images.pull(name, { platform: 'linux/amd64' });
    expect(record).toMatchObject({
      id: own.id,
      manifestDigest: own.manifestDigest,
      repoDigests: [`${registry.host}/multi@${sha256(index)}`],
    });
    const [entry] = (
      JSON.parse(readFileSync(store.path('images', 'index.json'), 'utf8')) as {
        manifests: { digest: string }[];
      }
    ).manifests;
    expect(entry?.digest).toBe(sha256(index));
    expect(images.resolve(`${registry.host}/multi@${own.manifestDigest}`)?.id).toBe(own.id);
    expect(
      JSON.parse(
        run(
          'skopeo',
          'inspect',
          '--override-arch',
          'amd64',
          '--config',
          `oci:${store.path('images')}:${name}`,
        ),
      ),
    ).toMatchObject({ architecture: 'amd64' });

    expect((await images.pull(name, { platform: 'linux/arm64' })).id).toBe(arm.id);
    expect(images.list().map((one) => [one.id, one.repoTags])).toEqual([[arm.id, [name]]]);
    expect(await failure(images.pull(name, { platform: 'linux/riscv64' }))).toBe(
      `PLATFORM_NOT_FOUND: cannot pull "${name}": it has no image for linux/riscv64`,
    );
    expect(await failure(images.pull(`${registry.host}/team/app:1`, { platform: 'linux/arm64' }))).toMatch(
      /^PLATFORM_NOT_FOUND: .* it is an image for linux\/amd64, not for linux\/arm64$/,
    );
    store.expectClean();
  });

  test('docker schema 2, as skopeo converts it', async () => {
    const name = `${registry.host}/docker:1`;
    await push(`${join(shared.folder, 'layout')}:app`, name, '--format', 'v2s2');
    const record = await images.pull(name);
    expect(record.config.config).toMatchObject({ User: 'web', StopSignal: 'SIGINT' });
    // skopeo 1.9 looks for OCI types only in a layout: the export has them
    await images.export([name], join(store.folder, 'out'), 'oci-dir');
    const exported = JSON.parse(
      run('skopeo', 'inspect', '--raw', `oci:${join(store.folder, 'out')}:${name}`),
    ) as { layers: unknown };
    expect(exported.layers).toEqual(image.layers);
    run(
      'skopeo',
      'copy',
      '-q',
      `oci:${join(store.folder, 'out')}:${name}`,
      `dir:${join(store.folder, 'copied')}`,
    );
  });

  test('zstd layers', async () => {
    const zstd = makeImage({
      layers: [base, top],
      compress: (tar) => execFileSync('zstd', ['-qc'], { input: tar }),
    });
    const layout = join(store.folder, 'z');
    writeLayout(layout, { z: zstd });
    const name = `${registry.host}/zstd:1`;
    await push(`${layout}:z`, name);
    const record = await images.pull(name);
    expect(record.chainIds).toEqual([sha256(base), sha256(`${sha256(base)} ${sha256(top)}`)]);
    expect(images.users(record).passwd).toHaveLength(2);
  });

  test('an image that does not exist', async () => {
    expect(await failure(images.pull(`${registry.host}/no/such:1`))).toMatch(
      new RegExp(
        `^IMAGE_NOT_FOUND: cannot find image "${registry.host}/no/such:1" in registry "${registry.host}" \\("[A-Z_]+: `,
      ),
    );
    expect(await failure(images.pull(`${registry.host}/team/app@sha256:${'0'.repeat(64)}`))).toMatch(
      /^IMAGE_NOT_FOUND/,
    );
    store.expectClean({ blobs: 0, layers: 0 });
  });

  test('an image made by umoci, with whiteouts of its own making, unpacks to the same tree', async () => {
    const layout = join(store.folder, 'umoci');
    const bundle = join(store.folder, 'bundle');
    const root = join(bundle, 'rootfs');
    run('umoci', 'init', '--layout', layout);
    run('umoci', 'new', '--image', `${layout}:u`);
    run('umoci', 'unpack', '--image', `${layout}:u`, bundle);
    for (const name of ['a', 'b', 'keep/deep']) mkdirSync(join(root, name), { recursive: true });
    for (const name of ['a/1', 'a/2', 'b/3', 'keep/deep/4']) writeFileSync(join(root, name), name);
    run('umoci', 'repack', '--refresh-bundle', '--image', `${layout}:u`, bundle);
    run(
      'sh',
      '-c',
      `cd ${root} && rm -r b a/1 && mkdir b && echo x >b/new && ln a/2 a/hard && ln -s ../keep a/soft && chmod 4755 a/2 && chown 7:8 keep && mkfifo pipe && mknod dev c 1 3 && setfattr -n user.test -v value a/2 2>/dev/null; truncate -s 1M sparse; touch -d @1000000000.5 keep/deep/4`,
    );
    run('umoci', 'repack', '--image', `${layout}:u`, bundle);
    const name = `${registry.host}/umoci:1`;
    await push(`${layout}:u`, name);
    const record = await images.pull(name);
    run('umoci', 'unpack', '--image', `${layout}:u`, join(store.folder, 'expected'));
    const { lower, upper, work } = images.prepare('c', record);
    const copy = join(store.folder, 'shown');
    mkdirSync(copy);
    run(
      'unshare',
      '-m',
      'sh',
      '-c',
      `mount -t overlay o -o lowerdir=${lower.join(':')},upperdir=${upper},workdir=${work} /mnt && cp -a /mnt/. ${copy}`,
    );
    expect(describeTree(copy, { directoryTimes: false })).toEqual(
      describeTree(join(store.folder, 'expected', 'rootfs'), { directoryTimes: false }),
    );
  });

  test('an image made by buildah', async () => {
    const storage = join(store.folder, 'buildah');
    const buildah = (...args: readonly string[]): string =>
      run(
        'buildah',
        '--root',
        storage,
        '--runroot',
        join(store.folder, 'run'),
        '--storage-driver',
        'vfs',
        ...args,
      );
    const from = join(store.folder, 'content');
    mkdirSync(join(from, 'srv'), { recursive: true });
    writeFileSync(join(from, 'srv', 'index'), 'hello');
    const container = buildah('from', 'scratch').trim();
    buildah('copy', container, from, '/');
    buildah(
      'config',
      '--user',
      '1000:1000',
      '--cmd',
      'serve',
      '--env',
      'X=y',
      '--port',
      '80',
      '--workingdir',
      '/srv',
      container,
    );
    const id = buildah('commit', '-q', container, 'made').trim();
    const name = `${registry.host}/buildah:1`;
    buildah('push', '-q', '--tls-verify=false', id, `docker://${name}`);
    const record = await images.pull(name);
    expect(record.config.config).toMatchObject({
      User: '1000:1000',
      Cmd: ['serve'],
      WorkingDir: '/srv',
      ExposedPorts: { '80': {} },
    });
    expect(record.config.config?.Env).toContain('X=y');
    expect(readFileSync(join(images.prepare('b', record).lower[0] ?? '', 'srv', 'index'), 'utf8')).toBe(
      'hello',
    );
  });
});

describe('with credentials', () => {
  const user = 'ann';
  const password = 'se:cret';
  const creds = `${user}:${password}`;
  let layout: string;
  let shared: TestStore;

  beforeAll(() => {
    shared = new TestStore();
    layout = join(shared.folder, 'layout');
    writeLayout(layout, { app: image });
  });
  afterAll(async () => {
    await shared.close();
  });

  describe('basic', () => {
    let registry: TestRegistry;
    let reference: string;
    beforeAll(async () => {
      registry = await startRegistry({ basic: { user, password } });
      reference = `${registry.host}/private/app:1`;
      await push(`${layout}:app`, reference, '--dest-creds', creds);
    });
    afterAll(async () => {
      await registry.stop();
    });

    test('given ones', async () => {
      expect((await images.pull(reference, { auth: { username: user, password } })).id).toBe(image.id);
    });

    test('from docker’s config.json', async () => {
      const path = join(store.folder, 'config.json');
      writeFileSync(
        path,
        JSON.stringify({ auths: { [registry.host]: { auth: Buffer.from(creds).toString('base64') } } }),
      );
      expect((await store.open({ credentialFile: path }).pull(reference)).id).toBe(image.id);
    });

    test('none', async () => {
      expect(await failure(images.pull(reference))).toBe(
        `UNAUTHORIZED: cannot log in to registry "${registry.host}" for "private/app": it asks for a user name and password, and none are configured`,
      );
      store.expectClean({ blobs: 0, layers: 0 });
    });

    test('wrong ones', async () => {
      expect(await failure(images.pull(reference, { auth: { username: user, password: 'x' } }))).toMatch(
        new RegExp(
          `^UNAUTHORIZED: cannot log in to registry "${registry.host}" for "private/app": it does not accept the credentials`,
        ),
      );
    });
  });

  describe('tokens', () => {
    let tokens: TokenServer;
    let registry: TestRegistry;
    let reference: string;
    beforeAll(async () => {
      tokens = await startTokenServer({ user, password, identityToken: 'refresh me', open: ['public/app'] });
      registry = await startRegistry({ token: tokens });
      reference = `${registry.host}/private/app:1`;
      await push(`${layout}:app`, reference, '--dest-creds', creds);
      await push(`${layout}:app`, `${registry.host}/public/app:1`, '--dest-creds', creds);
    });
    afterAll(async () => {
      await registry.stop();
      await tokens.stop();
    });
    beforeEach(() => {
      tokens.log.length = 0;
    });

    test('anonymous, for a public repository: one token for the whole pull', async () => {
      expect((await images.pull(`${registry.host}/public/app:1`)).id).toBe(image.id);
      expect(tokens.log).toEqual([{ method: 'GET', by: 'anonymous', scope: 'repository:public/app:pull' }]);
    });

    test('a password, by OAuth2', async () => {
      expect((await images.pull(reference, { auth: { username: user, password } })).id).toBe(image.id);
      expect(tokens.log).toEqual([{ method: 'POST', by: 'password', scope: 'repository:private/app:pull' }]);
    });

    test('an identity token', async () => {
      expect((await images.pull(reference, { auth: { identityToken: 'refresh me' } })).id).toBe(image.id);
      expect(tokens.log).toEqual([
        { method: 'POST', by: 'refresh_token', scope: 'repository:private/app:pull' },
      ]);
    });

    test('one pod’s credentials are not another’s', async () => {
      await images.pull(reference, { auth: { username: user, password } });
      expect(await failure(images.pull(reference))).toMatch(
        /^UNAUTHORIZED: .* it does not accept the credentials/,
      );
      expect(await failure(images.pull(reference, { auth: { username: user, password: 'no' } }))).toMatch(
        /^UNAUTHORIZED: .* its token server ".*" answered 401/,
      );
    });

    test('behind TLS, with an authority of its own by hosts.toml', async () => {
      const authority = new Authority(store.folder);
      const { certificateFile, keyFile } = authority.issue('server');
      const strict = await startRegistry({
        token: tokens,
        tls: { certificate: certificateFile, key: keyFile },
      });
      try {
        const name = `${strict.host}/private/app:1`;
        await push(`${layout}:app`, name, '--dest-creds', creds);
        const certs = join(store.folder, 'certs.d');
        mkdirSync(join(certs, strict.host), { recursive: true });
        writeFileSync(join(certs, strict.host, 'hosts.toml'), `ca = "${authority.own.certificateFile}"`);
        const auth = { username: user, password };
        expect(await failure(images.pull(name, { auth }))).toMatch(/^REGISTRY_TLS: /);
        const trusting = store.open({ hostDirectories: [certs] });
        expect((await trusting.pull(name, { auth })).id).toBe(image.id);
      } finally {
        await strict.stop();
      }
    });

    test('a refresh token that came with a token is used for the next', async () => {
      const short = await startTokenServer({
        user,
        password,
        lifetime: 1,
        refresh: 'fresh',
        identityToken: 'fresh',
      });
      const strict = await startRegistry({ token: short });
      try {
        const [one, two] = ['one', 'two'].map((repository) => `${strict.host}/${repository}/app:1`);
        for (const name of [one, two]) await push(`${layout}:app`, name ?? '', '--dest-creds', creds);
        short.log.length = 0;
        const auth = { username: user, password };
        for (const name of [one, two]) await images.pull(name ?? '', { auth });
        expect(short.log.map(({ by, scope }) => [by, scope])).toEqual([
          ['password', 'repository:one/app:pull'],
          ['refresh_token', 'repository:two/app:pull'],
        ]);
      } finally {
        await strict.stop();
        await short.stop();
      }
    });

    test('a server that does not know OAuth2 is asked by GET', async () => {
      const old = await startTokenServer({ user, password, oauth: false });
      const strict = await startRegistry({ token: old });
      try {
        const name = `${strict.host}/private/app:1`;
        await push(`${layout}:app`, name, '--dest-creds', creds);
        old.log.length = 0;
        expect((await images.pull(name, { auth: { username: user, password } })).id).toBe(image.id);
        expect(old.log.map(({ method, by }) => [method, by])).toEqual([
          ['POST', 'password'],
          ['GET', 'basic'],
        ]);
      } finally {
        await strict.stop();
        await old.stop();
      }
    });
  });
});

test('layers of a pulled image are out of reach of other users', async () => {
  const registry = await startRegistry();
  try {
    const layout = join(store.folder, 'layout');
    writeLayout(layout, { app: image });
    await push(`${layout}:app`, `${registry.host}/app:1`);
    const record = await images.pull(`${registry.host}/app:1`);
    const path = join(images.prepare('x', record).lower[1] ?? '', 'etc', 'passwd');
    expect(existsSync(path)).toBe(true);
    run('chmod', '755', store.folder);
    expect(() => run('setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', 'cat', path)).toThrow(
      /Permission denied/,
    );
  } finally {
    await registry.stop();
  }
});
