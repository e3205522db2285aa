/** Private registries for pods, by Debian's docker-registry: Secrets, certificates, plugins, and who may use what is here. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { sleep } from '../../../src/base/index.ts';
import { podOf, World } from '../../fixtures/agent.ts';
import { Authority } from '../../fixtures/certificates.ts';
import { startRegistry, type TestRegistry } from '../../fixtures/registry.ts';
import { EvilRegistry } from '../../fixtures/registry-evil.ts';
import { dir, file, makeImage, symlink, tarOf, writeLayout } from '../../fixtures/registry-images.ts';

const packageRoot = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');
const busybox = file('bin/busybox', readFileSync('/bin/busybox'), { mode: 0o755 });
const image = makeImage({
  layers: [tarOf(dir('bin'), busybox, symlink('bin/sh', 'busybox'))],
  config: { Entrypoint: ['/bin/sh', '-c', 'echo it ran'] },
});

let world: World;
let registry: TestRegistry;
let reference: string;
let hosts: string;
/** A path of the test's own. */
const own = (...parts: readonly string[]): string => join(world.base, 'user', ...parts);

beforeAll(async () => {
  world = await World.open();
  const folder = own('registry');
  mkdirSync(folder, { recursive: true });
  const { certificateFile, keyFile } = new Authority(folder).issue('server');
  registry = await startRegistry({
    basic: { user: 'ann', password: 'secret' },
    tls: { certificate: certificateFile, key: keyFile },
  });
  writeLayout(join(folder, 'layout'), { app: image });
  reference = `${registry.host}/team/app:1`;
  const options = '--insecure-policy copy -q --dest-tls-verify=false --dest-creds ann:secret'.split(' ');
  execFileSync('skopeo', [...options, `oci:${join(folder, 'layout')}:app`, `docker://${reference}`]);
  hosts = own('certs.d');
  mkdirSync(join(hosts, registry.host), { recursive: true });
  const ca = join(folder, 'authority.pem');
  writeFileSync(join(hosts, registry.host, 'hosts.toml'), `ca = "${ca}"\n`);
});
afterAll(async () => {
  await registry?.stop();
  await world?.close();
});
afterEach(async () => {
  expect(world.leftovers()).toEqual([]);
  await world.cli(['image', 'prune', '--all', '--root', world.root]);
});

const secret = (name: string, password: string): object => ({
  apiVersion: 'v1',
  kind: 'Secret',
  metadata: { name },
  type: 'kubernetes.io/dockerconfigjson',
  stringData: {
    '.dockerconfigjson': JSON.stringify({ auths: { [registry.host]: { username: 'ann', password } } }),
  },
});
const manifest = (secrets: readonly object[], names: readonly string[], container: object = {}): string =>
  [
    ...secrets,
    podOf('private', [{ name: 'app', image: reference, ...container }], {
      restartPolicy: 'Never',
      imagePullSecrets: names.map((name) => ({ name })),
    }),
  ]
    .map((document) => JSON.stringify(document))
    .join('\n---\n');
const words = (): string[] => ['--registry-hosts', hosts];

describe('a private image', () => {
  it('of the example in docs/images.md', async () => {
    const text = readFileSync(join(packageRoot, 'docs/images.md'), 'utf8');
    const example = /^```yaml file=private-pod\.yaml\n([\s\S]*?)^```$/m.exec(text)?.[1] ?? '';
    const local = example.replaceAll('registry.example.com', registry.host);
    const outcome = await world.run(local, words());
    expect(outcome.stdout).toContain('it ran');
    expect(outcome.code).toBe(0);
  });

  it('that is here is not for a pod without the credential', async () => {
    const first = await world.run(manifest([secret('good', 'secret')], ['good']), words());
    expect(first.code).toBe(0);
    for (const [what, secrets, names] of [
      ['none', [], []],
      ['a wrong one', [secret('bad', 'wrong')], ['bad']],
    ] as const) {
      const outcome = await world.run(manifest(secrets, names), words());
      expect(outcome.stderr, what).toMatch(/cannot start: ErrImagePull: cannot log in to registry /);
      expect(outcome.stdout, what).not.toContain('it ran');
    }
    const never = await world.run(manifest([], [], { imagePullPolicy: 'Never' }), words());
    expect(never.stderr).toMatch(/cannot start: ErrImageNeverPull: Container image ".*" is not present/);
    // the same credential in another Secret is known: nobody is asked
    const same = await world.run(manifest([secret('same', 'secret')], ['same']), words());
    expect(same.code).toBe(0);
    expect(same.stderr).not.toContain('Pulling');
  });

  it('by a credential-provider plugin', async () => {
    const programs = own('plugins');
    mkdirSync(programs);
    const response = {
      kind: 'CredentialProviderResponse',
      apiVersion: 'credentialprovider.kubelet.k8s.io/v1',
      cacheKeyType: 'Registry',
      auth: { [registry.host]: { username: 'ann', password: 'secret' } },
    };
    writeFileSync(
      join(programs, 'plugin'),
      `#!/bin/sh\ncat > ${join(programs, 'asked')}\necho '${JSON.stringify(response)}'\n`,
    );
    chmodSync(join(programs, 'plugin'), 0o755);
    const provider = {
      name: 'plugin',
      apiVersion: 'credentialprovider.kubelet.k8s.io/v1',
      matchImages: [registry.host],
      defaultCacheDuration: '10m',
    };
    const config = own('providers.yaml');
    const document = (more: object) =>
      JSON.stringify({
        apiVersion: 'kubelet.config.k8s.io/v1',
        kind: 'CredentialProviderConfig',
        providers: [{ ...provider, ...more }],
      });
    const flags = [
      '--image-credential-provider-config',
      config,
      '--image-credential-provider-bin-dir',
      programs,
    ];
    writeFileSync(config, document({}));
    const outcome = await world.run(manifest([], []), [...words(), ...flags]);
    expect(outcome.stdout).toContain('it ran');
    expect(JSON.parse(readFileSync(join(programs, 'asked'), 'utf8'))).toMatchObject({
      image: `${registry.host}/team/app`,
    });
    writeFileSync(config, document({ name: 'absent' }));
    const refused = await world.run(manifest([], []), [...words(), ...flags]);
    expect(refused.stderr).toMatch(
      /imageCredentialProviderBinDir: ".*\/absent" is no program that can be run/,
    );
  });

  it('by nodelet image pull: bars, JSON, and refusals', async () => {
    const pull = async (...more: string[]) =>
      await world.cli(['image', 'pull', '--root', world.root, ...words(), ...more, reference]);
    const none = await pull();
    expect(none.stderr).toMatch(/UNAUTHORIZED|cannot log in to registry/);
    const json = await pull('--creds', 'ann:secret', '--progress', 'json');
    const events = json.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(events[0]).toMatchObject({ image: reference, kind: 'resolving' });
    expect(events.at(-1)).toMatchObject({ kind: 'done', id: image.id });
    expect(events.some(({ kind, phase }) => kind === 'layer' && phase === 'done')).toBe(true);
    await world.cli(['image', 'prune', '--all', '--root', world.root]);
    const quiet = await pull('--creds', 'ann:secret', '--quiet', '--limit-rate', '50M');
    expect(quiet.stdout.trim()).toBe(image.id);
    expect(quiet.stderr).toBe('');
    for (const bad of [['--progress', 'loud'], ['--tls-verify=perhaps'], ['--limit-rate', 'fast']]) {
      const refused = await pull(...bad);
      expect(refused.code).not.toBe(0);
      expect(refused.stderr).toContain(`for ${bad[0]?.split('=')[0]}`);
    }
    // without the directory of its certificate the registry is not trusted, unless that is said
    const command = [
      'image',
      'pull',
      '--root',
      world.root,
      '--creds',
      'ann:secret',
      '--registry-hosts',
      '/none',
    ];
    expect((await world.cli([...command, reference])).stderr).toMatch(/no trust in registry/);
    const trusting = await world.cli([...command, '--tls-verify=false', '--quiet', reference]);
    expect(trusting.stdout.trim()).toBe(image.id);
    const certs = own('certs');
    mkdirSync(certs);
    writeFileSync(join(certs, 'ca.crt'), readFileSync(own('registry', 'authority.pem')));
    const byDirectory = await world.cli([...command, '--cert-dir', certs, '--quiet', reference]);
    expect(byDirectory.stdout.trim()).toBe(image.id);
  });
});

it('a pull that is interrupted keeps what arrived, and the next goes on', async () => {
  const evil = await EvilRegistry.start();
  try {
    const large = makeImage({ layers: [tarOf(file('noise', randomBytes(3 << 20)))], compress: 'none' });
    const name = evil.add('large', large);
    const layer = large.layers[0]?.digest ?? '';
    let begun: () => void = () => {};
    const started = new Promise<void>((resolve) => {
      begun = resolve;
    });
    evil.rule = (request, response, self) => {
      if (!request.path.endsWith(layer)) return false;
      response.writeHead(200, { 'content-length': self.data(layer).length });
      response.write(self.data(layer).subarray(0, 2 << 20), () => begun());
      return true;
    };
    const words = ['image', 'pull', '--root', world.root, name];
    const program = world.start(words);
    await started;
    const path = join(world.root, 'images', 'ingest', layer.slice('sha256:'.length));
    while ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) < 1 << 20) await sleep(20);
    program.signal('SIGINT');
    const outcome = await program.exit;
    expect(outcome.code).not.toBe(0);
    expect(outcome.stderr).toContain('the pull was cancelled');
    expect(readdirSync(join(world.root, 'images', 'ingest'))).toEqual([layer.slice('sha256:'.length)]);
    expect(readdirSync(join(world.root, 'images', 'leases'))).toEqual([]);
    evil.rule = () => false;
    evil.sent = 0;
    expect((await world.cli([...words, '--quiet'])).stdout.trim()).toBe(large.id);
    expect(evil.sent).toBeLessThan(2.2 * (1 << 20));
  } finally {
    await evil.stop();
  }
});
