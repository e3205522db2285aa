/** From a pod of a manifest to what CRI is asked for: its sandbox, names, resources. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ProfileType, Protocol } from '../../../src/cri/index.ts';
import { hostNetworkHostsFile, hostsFile } from '../../../src/kubelet/files/hosts.ts';
import { defaultSettings } from '../../../src/kubelet/index.ts';
import { parseResolvConf, podDns } from '../../../src/kubelet/translate/dns.ts';
import { kernelHostname, podHostname } from '../../../src/kubelet/translate/hostname.ts';
import {
  containerResources,
  cpuQuota,
  cpuShares,
  hugePageUnit,
  oomScoreAdj,
} from '../../../src/kubelet/translate/resources.ts';
import { sandboxConfig } from '../../../src/kubelet/translate/sandbox.ts';
import type { Fields } from './container-config.ts';
import { NODE, podOf } from './world.ts';

describe('resources', () => {
  it.each([
    [0, 2],
    [1, 2],
    [2, 2],
    [100, 102],
    [250, 256],
    [1000, 1024],
    [1500, 1536],
    [300_000, 262_144],
  ])('%i thousandths of a core are %i shares', (milli, shares) => {
    expect(cpuShares(milli)).toBe(shares);
  });

  it.each([
    [0, 0],
    [1, 1000],
    [10, 1000],
    [100, 10_000],
    [1500, 150_000],
  ])('a limit of %i thousandths is a quota of %i in 100000 microseconds', (milli, quota) => {
    expect(cpuQuota(milli, 100_000)).toBe(quota);
  });

  it.each([
    ['without requests', {}, 1000],
    ['guaranteed', { limits: { cpu: '1', memory: '1Gi' } }, -997],
    ['half of the memory', { requests: { memory: '4Gi' } }, 500],
    ['an eighth', { requests: { memory: '1Gi' } }, 875],
    ['next to nothing', { requests: { memory: '1Mi' } }, 999],
    ['all of it', { requests: { memory: '8Gi' } }, 3],
    ['cpu alone', { requests: { cpu: '1' } }, 999],
  ])('the OOM killer: %s', async (_what, resources, score) => {
    const pod = await podOf({ containers: [{ name: 'a', resources }] });
    const [container] = pod.spec.containers;
    expect(container && oomScoreAdj(pod, container, NODE.memoryCapacity)).toBe(score);
  });

  it('the OOM killer spares a sidecar longer than whom it serves', async () => {
    const pod = await podOf({
      initContainers: [{ name: 's', restartPolicy: 'Always' }],
      containers: [{ name: 'a', resources: { requests: { memory: '4Gi' } } }],
    });
    const [sidecar] = pod.spec.initContainers ?? [];
    expect(sidecar && oomScoreAdj(pod, sidecar, NODE.memoryCapacity)).toBe(500);
  });

  it('the OOM killer spares what the node needs', async () => {
    const pod = await podOf({ priorityClassName: 'system-node-critical' }, { namespace: 'kube-system' });
    const [container] = pod.spec.containers;
    expect(container && oomScoreAdj(pod, container, NODE.memoryCapacity)).toBe(-997);
  });

  async function resourcesOf(resources: Fields, node: Partial<typeof NODE> = {}, settings = defaultSettings) {
    const pod = await podOf({ containers: [{ name: 'a', resources }] });
    const [container] = pod.spec.containers;
    if (container === undefined) throw new Error('no container');
    return containerResources(pod, container, { node: { ...NODE, ...node }, settings });
  }

  it('limits become a quota and bytes, without swap, and a container dies as a whole', async () => {
    expect(
      await resourcesOf({ limits: { cpu: '1500m', memory: '64Mi' }, requests: { cpu: '250m' } }),
    ).toEqual({
      cpuShares: 256,
      cpuPeriod: 100_000,
      cpuQuota: 150_000,
      memoryLimitInBytes: 67_108_864,
      memorySwapLimitInBytes: 67_108_864,
      oomScoreAdj: 993,
      hugepageLimits: [{ pageSize: '2MB', limit: 0 }],
      unified: { 'memory.oom.group': '1', 'memory.swap.max': '0' },
    });
  });

  it('a host that limits memory by cgroup v1 gets no files of v2', async () => {
    const resources = await resourcesOf({}, { cgroupV2Memory: false, cgroupV2Swap: false });
    expect(resources.unified).toBeUndefined();
  });

  it('huge pages are for those who ask', async () => {
    const list = { 'hugepages-2Mi': '4Mi', memory: '1Mi', cpu: '1' };
    const resources = await resourcesOf(
      { limits: list, requests: list },
      { hugePages: { '2MB': 2 ** 24, '1GB': 0 } },
    );
    expect(resources.hugepageLimits).toEqual([
      { pageSize: '2MB', limit: 4_194_304 },
      { pageSize: '1GB', limit: 0 },
    ]);
  });

  it('without quotas on the node there are none', async () => {
    const resources = await resourcesOf(
      { limits: { cpu: '1' } },
      {},
      { ...defaultSettings, cpuCfsQuota: false },
    );
    expect(resources.cpuQuota).toBeUndefined();
  });

  it.each([
    [2n ** 21n, '2MB'],
    [2n ** 30n, '1GB'],
    [2n ** 16n, '64KB'],
  ])('a page of %i bytes is called %s', (bytes, name) => {
    expect(hugePageUnit(bytes)).toBe(name);
  });
});

describe('a sandbox’s configuration', () => {
  const sandboxOf = async (spec: Fields, metadata: Fields = {}) =>
    sandboxConfig({
      pod: await podOf(spec, metadata),
      attempt: 1,
      dns: { servers: ['192.0.2.53'] },
      clusterDomain: 'cluster.local',
      cgroupParent: '/nodelet/kubepods/poduid-1',
      logDirectory: '/logs/default_web_uid-1',
      userNamespace: undefined,
    });

  it('names the pod, its logs, its cgroup and its labels', async () => {
    expect(await sandboxOf({}, { labels: { app: 'shop' }, annotations: { note: 'hi' } })).toMatchObject({
      metadata: { name: 'web', namespace: 'default', uid: 'uid-1', attempt: 1 },
      hostname: 'web',
      logDirectory: '/logs/default_web_uid-1',
      labels: { app: 'shop', 'io.kubernetes.pod.uid': 'uid-1' },
      annotations: { note: 'hi' },
      linux: {
        cgroupParent: '/nodelet/kubepods/poduid-1',
        securityContext: { seccomp: { profileType: ProfileType.RuntimeDefault }, privileged: false },
      },
    });
  });

  it('has the ports of all containers that run', async () => {
    const config = await sandboxOf({
      initContainers: [{ name: 's', restartPolicy: 'Always', ports: [{ containerPort: 9 }] }],
      containers: [
        { name: 'a', ports: [{ containerPort: 53, hostPort: 5353, hostIP: '127.0.0.1', protocol: 'UDP' }] },
      ],
    });
    expect(config.portMappings).toEqual([
      { protocol: Protocol.TCP, containerPort: 9, hostPort: 0, hostIp: '' },
      { protocol: Protocol.UDP, containerPort: 53, hostPort: 5353, hostIp: '127.0.0.1' },
    ]);
  });

  it('in the host’s network there is no hostname to set', async () => {
    expect((await sandboxOf({ hostNetwork: true })).hostname).toBeUndefined();
  });

  it('sysctls are written with dots', async () => {
    const sysctls = [{ name: 'net/ipv4/ip_local_port_range', value: '1 2' }];
    const config = await sandboxOf({ securityContext: { sysctls } });
    expect(config.linux?.sysctls).toEqual({ 'net.ipv4.ip_local_port_range': '1 2' });
  });

  it('one privileged container needs a privileged sandbox', async () => {
    const config = await sandboxOf({
      containers: [{ name: 'a' }, { name: 'b', securityContext: { privileged: true } }],
    });
    expect(config.linux?.securityContext?.privileged).toBe(true);
  });
});

describe('the name of a pod in itself', () => {
  it.each([
    ['its own name', {}, 'web', ''],
    ['hostname', { hostname: 'db' }, 'db', ''],
    ['with a subdomain', { hostname: 'db', subdomain: 'east' }, 'db', 'east.default.svc.cluster.local'],
    ['an override', { hostnameOverride: 'box.example.com' }, 'box.example.com', ''],
  ])('%s', async (_what, spec, hostname, domain) => {
    expect(podHostname(await podOf(spec), 'cluster.local')).toEqual({ hostname, domain });
  });

  it('a long name is cut where a name may end', async () => {
    const name = `${'a'.repeat(62)}-${'b'.repeat(20)}`;
    expect(podHostname(await podOf({}, { name }), 'cluster.local').hostname).toBe('a'.repeat(62));
  });

  it('the kernel shows the full name where the pod wants that', async () => {
    const pod = await podOf({ subdomain: 'east', setHostnameAsFQDN: true });
    expect(kernelHostname(pod, podHostname(pod, 'x.org'))).toBe('web.east.default.svc.x.org');
  });

  it('a full name that the kernel cannot hold is refused', async () => {
    const pod = await podOf({ subdomain: 'e'.repeat(63), setHostnameAsFQDN: true });
    expect(() => kernelHostname(pod, podHostname(pod, 'x.org'))).toThrow(
      'is too long (64 characters is the max',
    );
  });

  it('/etc/hosts as upstream writes it', () => {
    const aliases = [{ ip: '192.0.2.9', hostnames: ['a.test', 'b.test'] }];
    expect(hostsFile(['10.0.0.5', 'fd00::5'], { hostname: 'db', domain: 'east.x' }, aliases)).toBe(
      [
        '# Kubernetes-managed hosts file.',
        '127.0.0.1\tlocalhost',
        '::1\tlocalhost ip6-localhost ip6-loopback',
        'fe00::0\tip6-localnet',
        'fe00::0\tip6-mcastprefix',
        'fe00::1\tip6-allnodes',
        'fe00::2\tip6-allrouters',
        '10.0.0.5\tdb.east.x\tdb',
        'fd00::5\tdb.east.x\tdb',
        '',
        '# Entries added by HostAliases.',
        '192.0.2.9\ta.test\tb.test',
        '',
      ].join('\n'),
    );
  });

  it('/etc/hosts in the host’s network is the host’s', () => {
    expect(hostNetworkHostsFile('127.0.0.1 localhost\n', [])).toBe(
      '# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n',
    );
  });
});

describe('name resolution', () => {
  const cluster = { clusterDns: ['10.96.0.10'], clusterDomain: 'cluster.local' };
  const none = { clusterDns: [], clusterDomain: 'cluster.local' };
  const host = { servers: ['192.0.2.53'], searches: ['example.com'], options: ['edns0'] };
  const inCluster = {
    servers: ['10.96.0.10'],
    searches: ['default.svc.cluster.local', 'svc.cluster.local', 'cluster.local', 'example.com'],
    options: ['ndots:5'],
  };
  it.each([
    ['ClusterFirst in a cluster', {}, cluster, inCluster],
    ['ClusterFirst without one is the host’s', {}, none, host],
    ['ClusterFirst in the host’s network is the host’s', { hostNetwork: true }, cluster, host],
    [
      'ClusterFirstWithHostNet',
      { hostNetwork: true, dnsPolicy: 'ClusterFirstWithHostNet' },
      cluster,
      inCluster,
    ],
    ['Default', { dnsPolicy: 'Default' }, cluster, host],
    [
      'None',
      {
        dnsPolicy: 'None',
        dnsConfig: {
          nameservers: ['1.1.1.1'],
          searches: ['a.b'],
          options: [{ name: 'ndots', value: '2' }, { name: 'rotate' }],
        },
      },
      cluster,
      { servers: ['1.1.1.1'], searches: ['a.b'], options: ['ndots:2', 'rotate'] },
    ],
    [
      'what the pod adds comes behind, and its options win',
      {
        dnsConfig: {
          nameservers: ['1.1.1.1', '10.96.0.10'],
          searches: ['a.b'],
          options: [{ name: 'ndots', value: '2' }],
        },
      },
      cluster,
      { servers: ['10.96.0.10', '1.1.1.1'], searches: [...inCluster.searches, 'a.b'], options: ['ndots:2'] },
    ],
  ])('%s', async (_what, spec, settings, expected) => {
    const { config, warnings } = podDns(await podOf(spec), settings, host);
    expect(config).toEqual(expected);
    expect(warnings).toEqual([]);
  });

  it('says where a limit cuts something', async () => {
    const servers = ['1.1.1.1', '1.1.1.2', '1.1.1.3', '1.1.1.4'];
    const { config, warnings } = podDns(await podOf({ dnsPolicy: 'Default' }), none, { ...host, servers });
    expect(config.servers).toEqual(servers.slice(0, 3));
    expect(warnings).toEqual([
      {
        reason: 'DNSConfigForming',
        message:
          'Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: 1.1.1.1 1.1.1.2 1.1.1.3',
      },
    ]);
  });

  it('says where a cluster’s resolver is wanted and there is none', async () => {
    const pod = await podOf({ hostNetwork: true, dnsPolicy: 'ClusterFirstWithHostNet' });
    expect(podDns(pod, none, host).warnings.map(({ reason }) => reason)).toEqual(['MissingClusterDNS']);
  });

  it('reads the host’s file as resolv.conf(5) says', () => {
    const text = [
      '# comment',
      'nameserver 192.0.2.53',
      'nameserver   2001:db8::53',
      'search first.example',
      'search second.example. third.example .',
      'options ndots:1 rotate',
      'options ndots:3',
      '; another comment',
    ].join('\n');
    expect(parseResolvConf(text)).toEqual({
      servers: ['192.0.2.53', '2001:db8::53'],
      searches: ['second.example', 'third.example'],
      options: ['ndots:3', 'rotate'],
    });
  });

  it('reads any text without a fault, and its own output as it was', () => {
    const word = fc.stringMatching(/^[a-z0-9][a-z0-9.]{0,8}[a-z0-9]$/);
    fc.assert(
      fc.property(fc.string(), fc.array(word), fc.array(word), (noise, servers, searches) => {
        expect(() => parseResolvConf(noise)).not.toThrow();
        const text = [...servers.map((each) => `nameserver ${each}`), `search ${searches.join(' ')}`].join(
          '\n',
        );
        expect(parseResolvConf(text)).toEqual({ servers, searches, options: [] });
      }),
    );
  });
});
