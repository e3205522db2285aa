/** Which credentials fit which image, and which pods may use what is here: KEP-2535. */
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NodeletError, parseGoDuration, silentLog } from '../../../src/base/index.ts';
import { pullFailure } from '../../../src/kubelet/execute/image.ts';
import { CredentialProviders, readAnswer } from '../../../src/kubelet/images/credential-providers.ts';
import {
  allowlistProblem,
  lookup,
  needsVerification,
  PullRecords,
  readProviderConfig,
  repositoryOf,
} from '../../../src/kubelet/images/index.ts';
import { locationMatches } from '../../../src/kubelet/images/keyring.ts';
import { podOf, World } from './world.ts';

describe('a location and an image', () => {
  it.each([
    ['registry.test', 'registry.test/app', true],
    ['registry.test:5000', 'registry.test/app', false],
    ['registry.test', 'registry.test:5000/app', false],
    ['*.test', 'registry.test/app', true],
    ['*.test', 'a.registry.test/app', false],
    ['*.*.test:5000', 'a.registry.test:5000/app', true],
    ['reg*y.test', 'registry.test/app', true],
    ['registr?.test', 'registry.test/app', true],
    ['r[a-f]gistry.test', 'registry.test/app', true],
    ['r[^a-f]gistry.test', 'registry.test/app', false],
    ['r[egistry.test', 'registry.test/app', false],
    ['r[z-a]gistry.test', 'registry.test/app', false],
    ['registry.test/team', 'registry.test/team/app', true],
    ['registry.test/team', 'registry.test/other/app', false],
    ['registry.test/*', 'registry.test/team/app', false],
    ['123456789.dkr.ecr.*.amazonaws.com', '123456789.dkr.ecr.eu-west-1.amazonaws.com/app', true],
    ['[::1]:5000', '[::1]:5000/app', true],
    ['', 'registry.test/app', false],
    ['registry+test', 'registry+test/app', true],
  ])('%s and %s: %s', (glob, target, expected) => {
    expect(locationMatches(glob, target)).toBe(expected);
  });

  it('any pattern matches or does not', () => {
    const unit = fc.constantFrom(...Array.from('ab*?[]^-\\./:9'));
    fc.assert(
      fc.property(fc.string({ unit, maxLength: 20 }), fc.string({ unit, maxLength: 20 }), (glob, target) => {
        expect(typeof locationMatches(glob, target)).toBe('boolean');
      }),
    );
  });

  it.each([
    ['busybox', 'docker.io/library/busybox'],
    ['team/app:1', 'docker.io/team/app'],
    ['index.docker.io/app', 'docker.io/library/app'],
    ['docker.io/app@sha256:1', 'docker.io/library/app'],
    ['localhost/app:1', 'localhost/app'],
    ['r.test:5000/a/b:1@sha256:2', 'r.test:5000/a/b'],
  ])('%s is of %s', (image, repository) => {
    expect(repositoryOf(image)).toBe(repository);
  });

  it('Docker Hub’s old name is asked only where nothing else fits', () => {
    const auth = (username: string) => ({ username, password: '' });
    const hub = { location: 'https://index.docker.io/v1/', auth: auth('hub') };
    const own = { location: 'docker.io/team', auth: auth('team') };
    const users = (repository: string) => lookup([hub, own], repository).map((found) => found.auth.username);
    expect(users('docker.io/library/busybox')).toEqual(['hub']);
    expect(users('docker.io/team/app')).toEqual(['team']);
    expect(users('quay.test/team/app')).toEqual([]);
  });
});

describe('records of pulls', () => {
  let root: string;
  const records = () => new PullRecords(root, silentLog, () => Date.parse('2026-03-01T12:00:00Z'));
  const credential = (name: string, hash = name) => ({
    auth: {},
    hash,
    source: { uid: `uid-${name}`, namespace: 'default', name },
  });
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'nodelet-records-'));
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));

  it('are upstream’s files', () => {
    const first = records();
    first.begin('r.test/app:1');
    expect(readdirSync(join(root, 'image_manager', 'pulling'))).toHaveLength(1);
    first.end('r.test/app:1', { imageRef: 'sha256:1', credential: credential('b') });
    first.learn('r.test/app:1', 'sha256:1', credential('a'));
    first.learn('r.test/app:1', 'sha256:1', credential('b', 'changed'));
    expect(readdirSync(join(root, 'image_manager', 'pulling'))).toEqual([]);
    const [name = ''] = readdirSync(join(root, 'image_manager', 'pulled'));
    expect(JSON.parse(readFileSync(join(root, 'image_manager', 'pulled', name), 'utf8'))).toEqual({
      kind: 'ImagePulledRecord',
      apiVersion: 'kubelet.config.k8s.io/v1beta1',
      lastUpdatedTime: '2026-03-01T12:00:00Z',
      imageRef: 'sha256:1',
      credentialMapping: {
        'r.test/app': {
          kubernetesSecrets: [
            { uid: 'uid-a', namespace: 'default', name: 'a', credentialHash: 'a' },
            { uid: 'uid-b', namespace: 'default', name: 'b', credentialHash: 'changed' },
          ],
        },
      },
    });
  });

  it('a pull that was cut off leaves an image that nobody gets unasked', async () => {
    records().begin('app:1');
    const next = records();
    await next.recover({
      listImages: async () =>
        await Promise.resolve({ images: [{ id: 'sha256:1', repoTags: ['docker.io/library/app:1'] }] }),
    });
    expect(next.isPulled('app:1', 'sha256:1')).toBe(true);
    expect(next.get('sha256:1')?.credentialMapping).toEqual({});
    expect(readdirSync(join(root, 'image_manager', 'pulling'))).toEqual([]);
    // and the record goes with the image
    await next.recover({ listImages: async () => await Promise.resolve({}) });
    expect(next.get('sha256:1')).toBeUndefined();
  });

  it('a record that is damaged is no permission', () => {
    const first = records();
    first.learn('app:1', 'sha256:1', undefined);
    const folder = join(root, 'image_manager', 'pulled');
    const [name = ''] = readdirSync(folder);
    writeFileSync(join(folder, name), '{"credentialMapping":');
    const next = records();
    expect(next.isPulled('app:1', 'sha256:1')).toBe(true);
    expect(next.get('sha256:1')?.credentialMapping).toEqual({});
  });

  it.each([
    ['NeverVerify', true, false],
    ['NeverVerifyPreloadedImages', false, false],
    ['NeverVerifyPreloadedImages', true, true],
    ['AlwaysVerify', false, true],
  ] as const)('%s, pulled by the kubelet %s: %s', (policy, pulled, expected) => {
    expect(needsVerification({ policy, allowlist: [] }, 'r.test/a:1', pulled)).toBe(expected);
  });

  it('an allowlist has names and beginnings', () => {
    const rules = {
      policy: 'NeverVerifyAllowlistedImages',
      allowlist: ['r.test/a', 'r.test/team/*'],
    } as const;
    const needs = (image: string) => needsVerification(rules, image, false);
    expect([needs('r.test/a:1'), needs('r.test/team/b'), needs('r.test/ab'), needs('r.test/teams')]).toEqual([
      false,
      false,
      true,
      true,
    ]);
    expect(['r.test/a', 'r.test/*'].map(allowlistProblem)).toEqual([undefined, undefined]);
    for (const bad of [' r.test', '/*', 'r.*/a', 'r.test/a:1']) expect(allowlistProblem(bad)).toBeDefined();
  });
});

describe('a private image that is here', () => {
  const secretOf = (name: string, password: string) => ({
    metadata: { name, namespace: 'default', uid: `uid-${name}` },
    type: 'kubernetes.io/dockerconfigjson',
    data: {
      '.dockerconfigjson': Buffer.from(
        JSON.stringify({ auths: { 'r.test': { username: 'me', password } } }),
      ).toString('base64'),
    },
  });
  /** The registry lets in who has the right password, and nobody else. */
  function guard(world: World): void {
    const pull = world.images.pullImage.bind(world.images);
    world.images.pullImage = async (request, signal) => {
      if (request.auth?.password !== 'right') {
        world.images.pulls.push(request);
        throw new NodeletError('UNAUTHORIZED', 'no pull access');
      }
      return await pull(request, signal);
    };
    world.images.registry.set('r.test/app:1', { id: 'sha256:1' });
  }
  const pod = async (name: string, secrets: string[], policy = 'IfNotPresent') =>
    await podOf(
      {
        containers: [{ name: 'a', image: 'r.test/app:1', imagePullPolicy: policy }],
        imagePullSecrets: secrets.map((secret) => ({ name: secret })),
      },
      { name, uid: `uid-${name}` },
    );

  it('is for pods with a credential that the registry takes', async () => {
    await using world = new World();
    guard(world);
    for (const [name, password] of [
      ['good', 'right'],
      ['same', 'right'],
      ['bad', 'wrong'],
    ] as const)
      world.kubelet.objects.putSecret(secretOf(name, password));
    await world.start();
    await world.add(await pod('first', ['good']));
    expect(world.images.pulls).toHaveLength(1);
    // the same credential under another name: known without asking
    await world.add(await pod('second', ['same']));
    expect(world.images.pulls).toHaveLength(1);
    expect(world.status('uid-second').phase).toBe('Running');
    // none, and a wrong one: the registry is asked, and says no
    await world.add(await pod('third', []));
    await world.add(await pod('fourth', ['bad']));
    expect(world.images.pulls).toHaveLength(3);
    for (const name of ['third', 'fourth']) {
      expect(world.containerStatus('a', `uid-${name}`).state?.waiting).toMatchObject({
        reason: 'ErrImagePull',
        message: 'no pull access',
      });
    }
    // who may not pull is not told that it is here
    await world.add(await pod('fifth', [], 'Never'));
    expect(world.containerStatus('a', 'uid-fifth').state?.waiting).toEqual({
      reason: 'ErrImageNeverPull',
      message: 'Container image "r.test/app:1" is not present with pull policy of Never',
    });
    await world.add(await pod('sixth', ['good'], 'Never'));
    expect(world.status('uid-sixth').phase).toBe('Running');
  });

  it('the record outlives the agent', async () => {
    await using world = new World();
    guard(world);
    world.kubelet.objects.putSecret(secretOf('good', 'right'));
    await world.start();
    const first = await pod('first', ['good']);
    await world.add(first);
    await world.restartAgent([first]);
    await world.add(await pod('second', []));
    expect(world.containerStatus('a', 'uid-second').state?.waiting?.reason).toBe('ErrImagePull');
  });

  it('one that somebody else brought is for all, unless the node says otherwise', async () => {
    await using world = new World();
    guard(world);
    world.images.present.set('r.test/app:1', { id: 'sha256:1' });
    await world.start();
    await world.add(await pod('first', []));
    expect(world.images.pulls).toEqual([]);
    await using strict = new World({
      settings: { imagePullVerification: { policy: 'AlwaysVerify', allowlist: [] } },
    });
    guard(strict);
    strict.images.present.set('r.test/app:1', { id: 'sha256:1' });
    await strict.start();
    await strict.add(await pod('first', []));
    expect(strict.containerStatus('a', 'uid-first').state?.waiting?.reason).toBe('ErrImagePull');
  });
});

describe('reasons', () => {
  it.each([
    ['no such image', { reason: 'ErrImagePull', message: 'no such image' }],
    [
      'RegistryUnavailable: nobody listens',
      {
        reason: 'RegistryUnavailable',
        message: 'image pull failed for app:1 because the registry is unavailable: nobody listens',
      },
    ],
    [
      'SignatureValidationFailed: not signed',
      {
        reason: 'SignatureValidationFailed',
        message: 'image pull failed for app:1 because the signature validation failed: not signed',
      },
    ],
  ])('%s', (text, expected) => {
    expect(pullFailure('app:1', text)).toEqual(expected);
  });

  it('a registry that is unavailable, and the back-off after it', async () => {
    await using world = new World();
    world.images.present.clear();
    world.images.failures.push(
      new NodeletError('REGISTRY_UNREACHABLE', 'RegistryUnavailable: nobody listens'),
    );
    await world.start();
    await world.add(await podOf({}));
    expect(world.containerStatus('a').state?.waiting?.reason).toBe('RegistryUnavailable');
    await world.advance(2);
    expect(world.containerStatus('a').state?.waiting).toEqual({
      reason: 'ImagePullBackOff',
      message:
        'Back-off pulling image "app:1": RegistryUnavailable: image pull failed for app:1 because the registry is unavailable: nobody listens',
    });
  });
});

describe('credential provider plugins', () => {
  let folder: string;
  let now: number;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'nodelet-plugins-'));
    now = 1000;
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const config = (provider: object = {}) =>
    readProviderConfig([
      {
        path: 'config.yaml',
        value: {
          apiVersion: 'kubelet.config.k8s.io/v1',
          kind: 'CredentialProviderConfig',
          providers: [
            {
              name: 'plugin',
              apiVersion: 'credentialprovider.kubelet.k8s.io/v1',
              matchImages: ['*.test', 'r.test:5000/team'],
              defaultCacheDuration: '10m',
              args: ['--mode', 'x'],
              env: [{ name: 'PLUGIN_USER', value: 'ann' }],
              ...provider,
            },
          ],
        },
      },
    ]);
  /** A plugin that notes each of its runs, and its input. */
  function plugin(answer: object, more = ''): void {
    const path = join(folder, 'plugin');
    const value = {
      kind: 'CredentialProviderResponse',
      apiVersion: 'credentialprovider.kubelet.k8s.io/v1',
      cacheKeyType: 'Registry',
      auth: { 'r.test': { username: '$PLUGIN_USER', password: 'p$2' } },
      ...answer,
    };
    const body = `cat >> ${join(folder, 'log')}; echo >> ${join(folder, 'log')}\n${more}\ncat <<END\n${JSON.stringify(value)}\nEND\n`;
    writeFileSync(path, `#!/bin/sh\n${body}`);
    chmodSync(path, 0o755);
  }
  const runs = (): string[] =>
    existsSync(join(folder, 'log')) ? readFileSync(join(folder, 'log'), 'utf8').trim().split('\n') : [];
  const providers = (provider: object = {}) =>
    new CredentialProviders({
      directory: folder,
      providers: config(provider),
      log: silentLog,
      now: () => now,
    });

  it('are asked on their input, with arguments and environment', async () => {
    plugin({});
    expect(await providers().entries('r.test/app')).toEqual([
      { location: 'r.test', auth: { username: 'ann', password: 'px' } },
    ]);
    expect(runs().map((line) => JSON.parse(line) as unknown)).toEqual([
      {
        kind: 'CredentialProviderRequest',
        apiVersion: 'credentialprovider.kubelet.k8s.io/v1',
        image: 'r.test/app',
      },
    ]);
  });

  it('only for images that they know', async () => {
    plugin({});
    const all = providers();
    for (const image of ['other.example/app', 'r.test:5000/other', 'docker.io/library/x'])
      expect(await all.entries(image)).toEqual([]);
    expect(runs()).toEqual([]);
    expect(await all.entries('r.test:5000/team/app')).toHaveLength(1);
  });

  it.each([
    ['Image', ['r.test/a', 'r.test/a', 'r.test/b', 'q.test/a'], 3],
    ['Registry', ['r.test/a', 'r.test/b', 'q.test/a'], 2],
    ['Global', ['r.test/a', 'r.test/b', 'q.test/a'], 1],
  ])('an answer is kept by %s', async (cacheKeyType, images, count) => {
    plugin({ cacheKeyType });
    const all = providers();
    for (const image of images) await all.entries(image);
    expect(runs()).toHaveLength(count);
  });

  it('for as long as it says, else as the configuration says', async () => {
    plugin({ cacheDuration: '5s' });
    const all = providers();
    await all.entries('r.test/a');
    now += 4999;
    await all.entries('r.test/a');
    expect(runs()).toHaveLength(1);
    now += 1;
    await all.entries('r.test/a');
    expect(runs()).toHaveLength(2);
    plugin({ cacheDuration: '0s' });
    now += 5000;
    await all.entries('r.test/a');
    await all.entries('r.test/a');
    expect(runs()).toHaveLength(4);
  });

  it('several pods that want the same image ask once', async () => {
    plugin({ cacheDuration: '0' }, 'sleep 0.1');
    const all = providers();
    const found = await Promise.all(Array.from({ length: 5 }, async () => await all.entries('r.test/a')));
    expect(runs()).toHaveLength(1);
    expect(found.every((entries) => entries.length === 1)).toBe(true);
  });

  it.each([
    ['that is not there', undefined],
    ['that fails', 'echo no >&2; exit 3'],
    ['that says no JSON', 'echo hello; exit 0'],
    ['that says too much', 'yes'],
  ])('a plugin %s has nothing, and is not remembered', async (_, more) => {
    if (more !== undefined) plugin({}, more);
    const all = providers();
    expect(await all.entries('r.test/a')).toEqual([]);
    plugin({});
    expect(await all.entries('r.test/a')).toHaveLength(1);
  });

  it.each([
    ['another kind', { kind: 'X' }, 'no CredentialProviderResponse'],
    ['another version', { apiVersion: 'credentialprovider.kubelet.k8s.io/v1beta1' }, 'it answered in'],
    ['no cache key', { cacheKeyType: 'Node' }, 'its cacheKeyType "Node"'],
    ['a bad duration', { cacheDuration: 'soon' }, 'no duration'],
    ['a list', { auth: [] }, '"auth" is no table'],
    ['no password', { auth: { r: { username: 'secret' } } }, 'no username and password'],
  ])('an answer with %s is refused', (_, more, message) => {
    const text = JSON.stringify({
      kind: 'CredentialProviderResponse',
      apiVersion: 'credentialprovider.kubelet.k8s.io/v1',
      cacheKeyType: 'Image',
      ...more,
    });
    const [provider] = config();
    expect(() => readAnswer(text, provider!)).toThrow(message);
    expect(() => readAnswer(text, provider!)).not.toThrow('secret');
  });

  it.each([
    ['no name', { name: '' }, 'providers[0].name'],
    ['a path for a name', { name: '../sh' }, 'providers[0].name'],
    ['another API', { apiVersion: 'v1' }, 'providers[0].apiVersion'],
    ['no images', { matchImages: [] }, 'providers[0].matchImages'],
    ['no duration', { defaultCacheDuration: 5 }, 'providers[0].defaultCacheDuration'],
    ['tokens of service accounts', { tokenAttributes: {} }, 'providers[0].tokenAttributes'],
    ['an unknown field', { matchImage: [] }, 'providers[0].matchImage'],
    ['a variable without a value', { env: [{ name: 'A' }] }, 'providers[0].env[0]'],
  ])('a configuration with %s is refused by field', (_, provider, field) => {
    expect(() => config(provider)).toThrow(`config.yaml: ${field}: `);
  });

  it('one name twice is refused, also over several files', () => {
    const value = {
      apiVersion: 'kubelet.config.k8s.io/v1',
      kind: 'CredentialProviderConfig',
      providers: [
        {
          name: 'p',
          apiVersion: 'credentialprovider.kubelet.k8s.io/v1',
          matchImages: ['a'],
          defaultCacheDuration: '0s',
        },
      ],
    };
    expect(() =>
      readProviderConfig([
        { path: 'a', value },
        { path: 'b', value },
      ]),
    ).toThrow('b: providers[0].name: "p" is there twice');
  });

  it('the credentials of a plugin are the node’s: every pod may use what they brought', async () => {
    plugin({});
    await using world = new World({ credentialProviders: { directory: folder, providers: config() } });
    world.images.registry.set('r.test/app:1', { id: 'sha256:1' });
    await world.start();
    await world.add(await podOf({ containers: [{ name: 'a', image: 'r.test/app:1' }] }));
    // a program runs in real time
    await world.until('the pull', () => world.images.pulls.length > 0);
    expect(world.images.pulls[0]?.auth).toEqual({ username: 'ann', password: 'px' });
  });
});

it.each([
  ['1h2m3s', 3_723_000],
  ['1.5s', 1500],
  ['250ms', 250],
  ['0', 0],
  ['-1s', -1000],
  ['', undefined],
  ['5', undefined],
  ['1d', undefined],
  ['1h ', undefined],
])('%j is %s ms', (text, expected) => {
  expect(parseGoDuration(text)).toBe(expected);
});
