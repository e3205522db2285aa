/** What the node grants a pod: room, cgroups, ids, credentials; and what it says about it. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { NetworkInterfaceInfo } from 'node:os';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { lookup, pullSecrets, repositoryOf } from '../../../src/kubelet/images/index.ts';
import {
  admit,
  classCgroups,
  defaultSettings,
  EventRecorder,
  KubeletPaths,
  ObjectStore,
  podCgroup,
} from '../../../src/kubelet/index.ts';
import { addressesOf } from '../../../src/kubelet/probe-node.ts';
import { UserNamespaces } from '../../../src/kubelet/userns.ts';
import { memorySize, refersTo } from '../../../src/kubelet/volumes/volumes.ts';
import { NODE, podOf, START } from './world.ts';

type Fields = Readonly<Record<string, unknown>>;
const MI = 2 ** 20;

describe('the cgroup of a pod', () => {
  const rows: readonly (readonly [what: string, spec: Fields, path: string, values: object])[] = [
    ['of a pod that asks for nothing', {}, 'kubepods/besteffort/poduid-1', { cpuShares: 2 }],
    [
      'of a guaranteed pod',
      { containers: [{ name: 'a', resources: { limits: { cpu: '2', memory: '64Mi' } } }] },
      'kubepods/poduid-1',
      { cpuShares: 2048, cpuQuota: 200_000, cpuPeriod: 100_000, memoryLimit: 64 * MI },
    ],
    [
      'one container without a limit makes the pod without one',
      {
        containers: [
          { name: 'a', resources: { limits: { cpu: '1', memory: '64Mi' } } },
          { name: 'b', resources: { requests: { cpu: '500m' }, limits: { memory: '64Mi' } } },
        ],
      },
      'kubepods/burstable/poduid-1',
      { cpuShares: 1536, memoryLimit: 128 * MI },
    ],
    [
      'an init container that needs more than the others counts',
      {
        initContainers: [{ name: 'i', resources: { requests: { cpu: '3' } } }],
        containers: [{ name: 'a', resources: { requests: { cpu: '1' } } }],
      },
      'kubepods/burstable/poduid-1',
      { cpuShares: 3072 },
    ],
    [
      'a sidecar counts beside the others',
      {
        initContainers: [{ name: 's', restartPolicy: 'Always', resources: { requests: { cpu: '1' } } }],
        containers: [{ name: 'a', resources: { requests: { cpu: '1' } } }],
      },
      'kubepods/burstable/poduid-1',
      { cpuShares: 2048 },
    ],
    [
      'huge pages',
      {
        containers: [
          { name: 'a', resources: { limits: { memory: '1Mi', cpu: '1', 'hugepages-2Mi': '4Mi' } } },
        ],
      },
      'kubepods/poduid-1',
      {
        cpuShares: 1024,
        cpuQuota: 100_000,
        cpuPeriod: 100_000,
        memoryLimit: MI,
        hugePages: { '2MB': 4 * MI },
      },
    ],
  ];
  for (const [what, spec, path, values] of rows) {
    it(what, async () => {
      expect(podCgroup(await podOf(spec), defaultSettings)).toMatchObject({ path, values });
      expect(podCgroup(await podOf(spec), defaultSettings).values).toEqual(values);
    });
  }

  it('settings: no quotas, and a limit of processes', async () => {
    const pod = await podOf({
      containers: [{ name: 'a', resources: { limits: { cpu: '1', memory: '1Mi' } } }],
    });
    const settings = { ...defaultSettings, cpuCfsQuota: false, podPidsLimit: 100 };
    expect(podCgroup(pod, settings).values).toEqual({ cpuShares: 1024, memoryLimit: MI, pidsLimit: 100 });
  });

  it('the classes: everything, what burstable pods ask for, next to nothing', async () => {
    const asks = async (cpu: string) =>
      await podOf({ containers: [{ name: 'a', resources: { requests: { cpu } } }] });
    expect(classCgroups([await asks('1'), await asks('500m'), await podOf({})], NODE.podsLimit)).toEqual([
      { path: 'kubepods', values: { cpuShares: 4096, memoryLimit: 8192 * MI } },
      { path: 'kubepods/burstable', values: { cpuShares: 1536 } },
      { path: 'kubepods/besteffort', values: { cpuShares: 2 } },
    ]);
  });
});

describe('admission', () => {
  const asking = (requests: Fields, limits?: Fields) => ({
    containers: [{ name: 'a', resources: { requests, ...(limits ? { limits } : {}) } }],
  });
  const port = (hostPort: number, more: Fields = {}) => ({
    containers: [{ name: 'a', ports: [{ containerPort: 80, hostPort, ...more }] }],
  });
  const sysctl = (name: string) => ({ securityContext: { sysctls: [{ name, value: '1' }] } });
  const rows: readonly (readonly [
    what: string,
    spec: Fields,
    others: readonly Fields[],
    reason: string | undefined,
  ])[] = [
    ['there is room', asking({ cpu: '4', memory: '7Gi' }), [], undefined],
    ['no cores are left', asking({ cpu: '1' }), [asking({ cpu: '3500m' })], 'OutOfcpu'],
    ['no memory is left', asking({ memory: '1' }), [asking({ memory: '7Gi' })], 'OutOfmemory'],
    ['no storage is left', asking({ 'ephemeral-storage': '101Gi' }), [], 'OutOfephemeral-storage'],
    [
      'no huge pages are there',
      asking({ cpu: '1', 'hugepages-2Mi': '2Mi' }, { 'hugepages-2Mi': '2Mi' }),
      [],
      'OutOfhugepages-2Mi',
    ],
    ['a pod that asks for nothing fits where all is taken', {}, [asking({ cpu: '4' })], undefined],
    ['as many pods as there may be', {}, Array.from({ length: 10 }, () => ({})), 'OutOfpods'],
    ['the node has the labels', { nodeSelector: { disk: 'ssd' } }, [], undefined],
    ['the node has other labels', { nodeSelector: { disk: 'hdd' } }, [], 'NodeAffinity'],
    ['the port is taken', port(80), [port(80)], 'NodePorts'],
    ['the port of another protocol', port(80), [port(80, { protocol: 'UDP' })], undefined],
    [
      'the port of another address',
      port(80, { hostIP: '192.0.2.1' }),
      [port(80, { hostIP: '192.0.2.2' })],
      undefined,
    ],
    [
      'the port of one address where all are taken',
      port(80, { hostIP: '192.0.2.1' }),
      [port(80)],
      'NodePorts',
    ],
    ['a safe sysctl', sysctl('net.ipv4.tcp_syncookies'), [], undefined],
    ['an unsafe sysctl', sysctl('kernel.msgmax'), [], 'SysctlForbidden'],
  ];
  for (const [what, spec, others, reason] of rows) {
    it(`${what}: ${reason ?? 'it comes in'}`, async () => {
      const taken = await Promise.all(others.map((other) => podOf(other)));
      expect(admit(await podOf(spec), taken, NODE, defaultSettings)?.reason).toBe(reason);
    });
  }

  it('an unsafe sysctl that the node allows comes in, by name or by beginning', async () => {
    const pod = await podOf(sysctl('net.core.somaxconn'));
    for (const allowed of ['net.core.somaxconn', 'net.core.*']) {
      expect(admit(pod, [], NODE, { allowedUnsafeSysctls: [allowed] })).toBeUndefined();
    }
    expect(admit(pod, [], NODE, { allowedUnsafeSysctls: ['net.ipv4.*'] })?.reason).toBe('SysctlForbidden');
  });
});

describe('the size of a volume in memory', () => {
  const limited = (memory: string) => ({ name: memory.toLowerCase(), resources: { limits: { memory } } });
  it.each([
    ['nothing is said: what pods may use', [{ name: 'a' }], {}, 7 * 1024 * MI],
    ['the containers’ limits together', [limited('64Mi'), limited('32Mi')], {}, 96 * MI],
    ['one container without a limit', [limited('64Mi'), { name: 'a' }], {}, 7 * 1024 * MI],
    ['its own limit', [{ name: 'a' }], { sizeLimit: '16Mi' }, 16 * MI],
    ['its own limit above the containers’', [limited('64Mi')], { sizeLimit: '1Gi' }, 64 * MI],
  ])('%s', async (_what, containers, source, expected) => {
    expect(memorySize(await podOf({ containers }), { medium: 'Memory', ...source }, NODE)).toBe(expected);
  });
});

describe('credentials of a pull', () => {
  const objects = new ObjectStore();
  const secret = (name: string, auths: Fields) =>
    objects.putSecret({
      metadata: { name, namespace: 'default' },
      type: 'kubernetes.io/dockerconfigjson',
      data: { '.dockerconfigjson': Buffer.from(JSON.stringify({ auths })).toString('base64') },
    });
  const basic = (text: string) => ({ auth: Buffer.from(text).toString('base64') });
  secret('hub', { 'https://index.docker.io/v1/': basic('hub:1') });
  secret('own', { 'registry.test:5000': { username: 'me', password: 'p:w' } });
  secret('deep', { 'registry.test:5000/team': basic('team:2'), 'registry.test:5000': basic('all:3') });
  secret('star', { '*.registry.test': basic('star:4') });
  objects.putSecret({
    metadata: { name: 'old', namespace: 'default' },
    type: 'kubernetes.io/dockercfg',
    data: { '.dockercfg': Buffer.from(JSON.stringify({ 'old.test': basic('old:5') })).toString('base64') },
  });
  objects.putSecret({
    metadata: { name: 'broken', namespace: 'default' },
    type: 'kubernetes.io/dockerconfigjson',
    data: { '.dockerconfigjson': Buffer.from('{"auths":{"a":{"auth":"c2VjcmV0"}}}').toString('base64') },
  });
  objects.putSecret({ metadata: { name: 'tls', namespace: 'default' }, type: 'kubernetes.io/tls' });
  secret('token', { 'registry.test:5000': { identitytoken: 'abc' } });
  const users = async (image: string, ...names: string[]) => {
    const pod = await podOf({ imagePullSecrets: names.map((name) => ({ name })) });
    return lookup(pullSecrets(pod, objects).entries, repositoryOf(image)).map(
      ({ auth: { username, password } }) => `${username}:${password}`,
    );
  };
  it.each([
    ['Docker Hub by its old name', 'busybox', ['hub'], ['hub:1']],
    ['a name with a folder is on Docker Hub', 'team/app:1', ['hub'], ['hub:1']],
    ['Docker Hub by name', 'docker.io/library/busybox', ['hub'], ['hub:1']],
    ['another registry gets nothing', 'quay.test/app', ['hub', 'own'], []],
    ['user and password, with a colon in it', 'registry.test:5000/app', ['own'], ['me:p:w']],
    ['the port counts', 'registry.test/app', ['own'], []],
    ['the longest path first', 'registry.test:5000/team/app@sha256:1', ['deep'], ['team:2', 'all:3']],
    [
      'a path is a beginning, as upstream has it',
      'registry.test:5000/teams/app',
      ['deep'],
      ['team:2', 'all:3'],
    ],
    ['another path', 'registry.test:5000/other/app', ['deep'], ['all:3']],
    ['the old secret type', 'old.test/app', ['old'], ['old:5']],
    ['a star stands for one part of a name', 'eu.registry.test/app', ['star'], ['star:4']],
    ['a star is not several', 'a.eu.registry.test/app', ['star'], []],
  ])('%s', async (_what, image, names, expected) => {
    expect(await users(image, ...names)).toEqual(expected);
  });

  it('tokens, and secrets that are missing or hold nothing', async () => {
    const names = ['token', 'gone', 'broken', 'tls'];
    const pod = await podOf({ imagePullSecrets: names.map((name) => ({ name })) });
    const found = pullSecrets(pod, objects);
    expect(found.entries.map(({ location, auth }) => [location, auth])).toEqual([
      ['registry.test:5000', { identityToken: 'abc' }],
    ]);
    expect(found.missing).toEqual(['gone']);
    expect(found.invalid).toEqual([
      { name: 'broken', reason: '"auth" of "a" is not base64 of USER:PASSWORD' },
      { name: 'tls', reason: `it is of type "kubernetes.io/tls", which holds no registry's credentials` },
    ]);
  });
});

describe('ids of pods with their own users', () => {
  function scratch(): Disposable & { readonly paths: KubeletPaths } {
    const root = mkdtempSync(join(tmpdir(), 'nodelet-userns-'));
    const paths = new KubeletPaths({ root, podLogs: join(root, 'logs') });
    for (const uid of ['a', 'b', 'c']) mkdirSync(paths.pod(uid), { recursive: true });
    return { paths, [Symbol.dispose]: () => rmSync(root, { recursive: true, force: true }) };
  }
  const range = { first: 65_536, length: 131_072 };
  const hostId = (namespaces: UserNamespaces, uid: string) => namespaces.ensure(uid).uids?.[0]?.hostId;

  it('no two pods share one, and a pod keeps its own, also for the next agent', () => {
    using world = scratch();
    const first = new UserNamespaces(world.paths, range);
    expect([hostId(first, 'a'), hostId(first, 'b'), hostId(first, 'a')]).toEqual([65_536, 131_072, 65_536]);
    const second = new UserNamespaces(world.paths, range);
    expect(hostId(second, 'b')).toBe(131_072);
    expect(JSON.parse(readFileSync(world.paths.userNamespace('b'), 'utf8'))).toEqual({
      uidMappings: [{ hostId: 131_072, containerId: 0, length: 65_536 }],
      gidMappings: [{ hostId: 131_072, containerId: 0, length: 65_536 }],
    });
  });

  it('what is given back is used again, and when all are taken that is said', () => {
    using world = scratch();
    const namespaces = new UserNamespaces(world.paths, range);
    hostId(namespaces, 'a');
    hostId(namespaces, 'b');
    expect(() => namespaces.ensure('c')).toThrow('could not find an empty slot to allocate a user namespace');
    namespaces.release('a');
    expect(hostId(namespaces, 'c')).toBe(65_536);
  });

  it('a range that would hold root is refused', () => {
    using world = scratch();
    expect(() => new UserNamespaces(world.paths, { first: 0, length: 65_536 })).toThrow(
      '0 must not be among them',
    );
    expect(() => new UserNamespaces(world.paths, { first: 100_000, length: 65_536 })).toThrow(
      'multiples of 65536',
    );
  });

  it('a record that is broken keeps the agent from starting rather than ids from being shared', () => {
    using world = scratch();
    writeFileSync(world.paths.userNamespace('a'), '{');
    expect(() => new UserNamespaces(world.paths, range)).toThrow();
  });
});

describe('events', () => {
  it('are about the pod or one container of it, and what is said again is counted', async () => {
    let now = START;
    const recorder = new EventRecorder({ nodeName: 'node-1', now: () => now });
    const pod = await podOf({ initContainers: [{ name: 'i' }] });
    recorder.record(pod, 'Warning', 'BackOff', 'again', 'a');
    recorder.record(pod, 'Normal', 'Started', 'Container started', 'i');
    now += 60_000;
    recorder.record(pod, 'Warning', 'BackOff', 'again', 'a');
    recorder.record(pod, 'Warning', 'BackOff', 'again');
    const [started, again, whole] = recorder.list('uid-1');
    expect(started?.involvedObject.fieldPath).toBe('spec.initContainers{i}');
    expect(again).toMatchObject({
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { namespace: 'default' },
      involvedObject: { kind: 'Pod', name: 'web', uid: 'uid-1', fieldPath: 'spec.containers{a}' },
      type: 'Warning',
      source: { component: 'kubelet', host: 'node-1' },
      firstTimestamp: '2026-03-01T12:00:00Z',
      lastTimestamp: '2026-03-01T12:01:00Z',
      count: 2,
    });
    expect(whole?.involvedObject.fieldPath).toBeUndefined();
    expect(new Set(recorder.list().map(({ metadata }) => metadata.name)).size).toBe(3);
  });

  it('the oldest are forgotten', async () => {
    const recorder = new EventRecorder({ nodeName: 'node-1', now: () => START, capacity: 3 });
    const pod = await podOf({});
    for (const reason of ['A', 'B', 'C', 'A', 'D']) recorder.record(pod, 'Normal', reason, 'x');
    expect(recorder.list().map(({ reason }) => reason)).toEqual(['C', 'A', 'D']);
  });
});

describe('objects that pods refer to', () => {
  const conf = (value: string, immutable = false) => ({
    metadata: { name: 'conf', namespace: 'default' },
    data: { a: value },
    immutable,
  });

  it('listeners hear of changes of content only', () => {
    const objects = new ObjectStore();
    const heard: string[] = [];
    objects.onChange(({ kind, namespace, name }) => heard.push(`${kind} ${namespace}/${name}`));
    objects.putConfigMap(conf('1'));
    objects.putConfigMap(conf('1'));
    objects.putConfigMap(conf('2'));
    objects.delete('ConfigMap', 'default', 'conf');
    objects.delete('ConfigMap', 'default', 'conf');
    expect(heard).toEqual(Array.from({ length: 3 }, () => 'ConfigMap default/conf'));
  });

  it('an immutable one cannot be changed', () => {
    const objects = new ObjectStore();
    objects.putConfigMap(conf('1', true));
    expect(() => objects.putConfigMap(conf('2', true))).toThrow(
      'cannot change ConfigMap "default/conf": it is immutable',
    );
    objects.putConfigMap(conf('1', true));
  });

  it.each([
    ['a volume', { volumes: [{ name: 'v', configMap: { name: 'conf' } }] }],
    [
      'a projected volume',
      { volumes: [{ name: 'v', projected: { sources: [{ configMap: { name: 'conf' } }] } }] },
    ],
    [
      'a variable',
      {
        containers: [
          { name: 'a', env: [{ name: 'A', valueFrom: { configMapKeyRef: { name: 'conf', key: 'a' } } }] },
        ],
      },
    ],
    ['all variables', { containers: [{ name: 'a', envFrom: [{ configMapRef: { name: 'conf' } }] }] }],
  ])('a pod refers to one by %s', async (_what, spec) => {
    const pod = await podOf(spec);
    expect(refersTo(pod, 'ConfigMap', 'conf')).toBe(true);
    expect(refersTo(pod, 'ConfigMap', 'other')).toBe(false);
    expect(refersTo(pod, 'Secret', 'conf')).toBe(false);
  });
});

describe('the addresses of the host', () => {
  const info = (family: 'IPv4' | 'IPv6', address: string, internal = false) =>
    ({ family, address, internal }) as NetworkInterfaceInfo;
  const interfaces = {
    lo: [info('IPv4', '127.0.0.1', true), info('IPv6', '::1', true)],
    br0: [info('IPv4', '10.88.0.1'), info('IPv6', 'fe80::1'), info('IPv6', 'fd00::1')],
    eth0: [info('IPv4', '192.0.2.1'), info('IPv6', 'fe80::2'), info('IPv6', '2001:db8::1')],
  };
  const route4 = (name: string, destination: string, mask: string, metric: number) =>
    [name, destination, '0100000A', '0003', '0', '0', metric, mask, '0', '0', '0'].join('\t');
  const heading = 'Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT';
  const zero = '0'.repeat(32);

  it('are those of the interfaces that the default routes leave by', () => {
    const ipv4 = [
      heading,
      route4('br0', '0000580A', '0000FFFF', 0),
      route4('br0', '00000000', '00000000', 200),
      route4('eth0', '00000000', '00000000', 100),
    ].join('\n');
    const ipv6 = `${zero} 00 ${zero} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n${zero} 00 ${zero} 00 ${zero} ffffffff 00000001 00000000 00200200       lo\n`;
    expect(addressesOf({ ipv4, ipv6 }, interfaces)).toEqual(['192.0.2.1', '2001:db8::1']);
  });

  it('without a default route: any that leads out', () => {
    expect(addressesOf({ ipv4: heading, ipv6: '' }, interfaces)).toEqual(['10.88.0.1', 'fd00::1']);
    expect(addressesOf({ ipv4: '', ipv6: '' }, { lo: interfaces.lo })).toEqual([]);
  });
});
