import { describe, expect, test } from 'vitest';
import { NodeletError } from '../../../src/base/index.ts';
import { checkRequest } from '../../../src/cri/validate/index.ts';
import { MESSAGES } from '../../../src/cri/wire/tables.gen.ts';

const ID = 'a'.repeat(64);
const METADATA = { name: 'web', namespace: 'default', uid: 'u-1' };
const MIB = 2 ** 20;

/** What is wrong, or undefined. */
function problem(type: string, request: object): string | undefined {
  try {
    checkRequest(type, request as Readonly<Record<string, unknown>>);
    return undefined;
  } catch (error) {
    if (!(error instanceof NodeletError)) throw error;
    expect(error.code).toBe('INVALID_ARGUMENT');
    return error.message;
  }
}

const pod = (config: object): object => ({ config: { metadata: METADATA, ...config } });
const container = (config: object): object => ({
  podSandboxId: ID,
  config: { metadata: { name: 'c' }, image: { image: 'busybox' }, ...config },
});
const security = (context: object): object => container({ linux: { securityContext: context } });
const resources = (linux: object): object => container({ linux: { resources: linux } });

const VALID: readonly (readonly [string, string, object])[] = [
  ['a pod with nothing but its names', 'RunPodSandboxRequest', pod({})],
  [
    'a pod with everything',
    'RunPodSandboxRequest',
    pod({
      hostname: 'web-0.example_1',
      logDirectory: '/var/log/pods/default_web_u-1',
      dnsConfig: {
        servers: ['10.0.0.10', 'fe80::1%eth0'],
        searches: ['svc.cluster.local'],
        options: ['ndots:5'],
      },
      portMappings: [{ protocol: 2, containerPort: 80, hostPort: 8080, hostIp: '::1' }],
      labels: { 'io.kubernetes.pod.name': 'web', empty: '' },
      annotations: { 'kubernetes.io/config.source': 'api', big: 'x'.repeat(200_000) },
      linux: {
        cgroupParent: '/kubepods/besteffort/podu-1',
        sysctls: { 'net.ipv4.ip_local_port_range': '1024 65000' },
      },
    }),
  ],
  [
    'a user of zero',
    'CreateContainerRequest',
    security({ runAsUser: { value: 0 }, supplementalGroups: [0, 2147483647] }),
  ],
  [
    'the numbers that a kubelet sends',
    'CreateContainerRequest',
    resources({
      cpuPeriod: 100_000,
      cpuQuota: -1,
      cpuShares: 2,
      memoryLimitInBytes: 2 ** 40,
      oomScoreAdj: -997,
      cpusetCpus: '0-3,7',
    }),
  ],
  [
    'variables and arguments with any characters',
    'CreateContainerRequest',
    container({
      envs: [{ key: 'PS1', value: '\u001b[1m\n' }, { key: 'E' }],
      args: ['', '\n\t', 'a'.repeat(100_000)],
    }),
  ],
  [
    'annotations that other runtimes obey: they are carried, and mean nothing',
    'RunPodSandboxRequest',
    pod({
      annotations: {
        'io.kubernetes.cri-o.Devices': '/dev/sda',
        'run.oci.handler': 'krun',
        'io.katacontainers.config.hypervisor.path': '/x',
      },
    }),
  ],
  ['an id’s beginning', 'ContainerStatusRequest', { containerId: 'abc' }],
  ['an id as other runtimes write them', 'ContainerStatusRequest', { containerId: 'web_1.default-x' }],
  [
    'a filter without anything',
    'ListContainersRequest',
    { filter: { labelSelector: {}, state: { state: 3 } } },
  ],
  ['no filter', 'ListPodSandboxRequest', {}],
  [
    'two subnets',
    'UpdateRuntimeConfigRequest',
    { runtimeConfig: { networkConfig: { podCidr: '10.88.0.0/16,fd00::/64' } } },
  ],
];

test.each(VALID)('%s is taken', (_, type, request) => {
  expect(problem(type, request)).toBeUndefined();
});

const INVALID: readonly (readonly [string, string, object, string | RegExp])[] = [
  ['no configuration', 'RunPodSandboxRequest', {}, 'config is empty'],
  ['no names', 'RunPodSandboxRequest', { config: {} }, 'config.metadata is empty'],
  [
    'a name that is empty',
    'RunPodSandboxRequest',
    { config: { metadata: { ...METADATA, name: '' } } },
    'config.metadata.name "" is empty',
  ],
  [
    'a name that climbs',
    'RunPodSandboxRequest',
    { config: { metadata: { ...METADATA, uid: '../x' } } },
    'config.metadata.uid "../x" is no valid name',
  ],
  [
    'a name of dots',
    'RunPodSandboxRequest',
    { config: { metadata: { ...METADATA, namespace: '..' } } },
    /namespace "\.\." is no valid name/,
  ],
  [
    'a name with a new line',
    'RunPodSandboxRequest',
    { config: { metadata: { ...METADATA, name: 'a\nb' } } },
    /name "a\\nb" is no valid name/,
  ],
  [
    'a host name of 65 characters',
    'RunPodSandboxRequest',
    pod({ hostname: 'a'.repeat(65) }),
    /^config\.hostname "a+" is no host name/,
  ],
  [
    'a log directory that climbs',
    'RunPodSandboxRequest',
    pod({ logDirectory: '/var/log/../../etc' }),
    /^config\.logDirectory .* holds "\.\."$/,
  ],
  [
    'a log directory that is relative',
    'RunPodSandboxRequest',
    pod({ logDirectory: 'logs' }),
    /is no absolute path$/,
  ],
  [
    'a cgroup that climbs',
    'RunPodSandboxRequest',
    pod({ linux: { cgroupParent: '/kubepods/../../x' } }),
    /^config\.linux\.cgroupParent /,
  ],
  [
    'a sysctl that climbs',
    'RunPodSandboxRequest',
    pod({ linux: { sysctls: { 'net/../kernel/x': '1' } } }),
    /^config\.linux\.sysctls has a key/,
  ],
  [
    'a search domain with a second line',
    'RunPodSandboxRequest',
    pod({ dnsConfig: { searches: ['a\nnameserver 6.6.6.6'] } }),
    /^config\.dnsConfig\.searches\[0\] .* white space$/,
  ],
  [
    'a port of 65536',
    'RunPodSandboxRequest',
    pod({ portMappings: [{ hostPort: 1 }, { hostPort: 65_536 }] }),
    'config.portMappings[1].hostPort 65536 is not between 0 and 65535',
  ],
  [
    'a negative port',
    'RunPodSandboxRequest',
    pod({ portMappings: [{ containerPort: -1 }] }),
    /containerPort -1 /,
  ],
  [
    'an address that is none',
    'RunPodSandboxRequest',
    pod({ portMappings: [{ hostIp: '300.1.1.1' }] }),
    /hostIp "300\.1\.1\.1" is no IP address/,
  ],
  [
    'an unknown protocol',
    'RunPodSandboxRequest',
    pod({ portMappings: [{ protocol: 7 }] }),
    /protocol 7 is no protocol/,
  ],
  [
    'a label of a MiB',
    'RunPodSandboxRequest',
    pod({ labels: { a: 'x'.repeat(MIB) } }),
    'config.labels has a label "a" of more than 4096 bytes',
  ],
  [
    'a MiB of labels',
    'RunPodSandboxRequest',
    pod({ labels: Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`l${i}`, 'x'.repeat(1000)])) }),
    /^config\.labels has more than/,
  ],
  [
    'a MiB of annotations',
    'RunPodSandboxRequest',
    pod({ annotations: { a: 'x'.repeat(MIB) } }),
    /^config\.annotations has more than/,
  ],
  ['a label with a NUL', 'RunPodSandboxRequest', pod({ labels: { a: 'x\0' } }), /NUL/],
  [
    'an unknown namespace mode',
    'RunPodSandboxRequest',
    pod({ linux: { securityContext: { namespaceOptions: { network: 9 } } } }),
    /namespaceOptions\.network 9 is no namespace mode/,
  ],
  [
    'ids beyond the highest',
    'RunPodSandboxRequest',
    pod({
      linux: {
        securityContext: {
          namespaceOptions: { usernsOptions: { uids: [{ hostId: 4_294_900_000, length: 4_000_000 }] } },
        },
      },
    }),
    /uids\[0\] reaches beyond/,
  ],
  [
    'a runtime handler with a slash',
    'RunPodSandboxRequest',
    { ...pod({}), runtimeHandler: '../runc' },
    /^runtimeHandler /,
  ],

  [
    'a container without a sandbox',
    'CreateContainerRequest',
    { config: { metadata: { name: 'c' }, image: { image: 'x' } } },
    'podSandboxId is empty',
  ],
  [
    'a container without an image',
    'CreateContainerRequest',
    { podSandboxId: ID, config: { metadata: { name: 'c' } } },
    'config.image is empty',
  ],
  [
    'a container without a name',
    'CreateContainerRequest',
    { podSandboxId: ID, config: { image: { image: 'x' }, metadata: {} } },
    'config.metadata.name is empty',
  ],
  [
    'a uid of 2^32',
    'CreateContainerRequest',
    security({ runAsUser: { value: 2 ** 32 } }),
    'config.linux.securityContext.runAsUser 4294967296 is not between 0 and 2147483647',
  ],
  ['a uid of -1', 'CreateContainerRequest', security({ runAsUser: { value: -1 } }), /runAsUser -1 /],
  [
    'a uid of 2^31',
    'CreateContainerRequest',
    security({ runAsUser: { value: 2 ** 31 } }),
    /runAsUser 2147483648 /,
  ],
  [
    'a gid of 2^32',
    'CreateContainerRequest',
    security({ runAsGroup: { value: 2 ** 32 } }),
    /runAsGroup 4294967296 /,
  ],
  [
    'a group of -1',
    'CreateContainerRequest',
    security({ supplementalGroups: [1, -1] }),
    /supplementalGroups\[1\] -1 /,
  ],
  ['a user with a colon', 'CreateContainerRequest', security({ runAsUsername: 'a:b' }), /runAsUsername/],
  [
    'a Localhost profile without a name',
    'CreateContainerRequest',
    security({ seccomp: { profileType: 2 } }),
    /seccomp is of type Localhost and names no profile/,
  ],
  [
    'a profile that climbs',
    'CreateContainerRequest',
    security({ seccomp: { profileType: 2, localhostRef: '/var/../etc/x' } }),
    /localhostRef/,
  ],
  [
    'a capability that is none',
    'CreateContainerRequest',
    security({ capabilities: { addCapabilities: ['SYS ADMIN'] } }),
    /addCapabilities\[0\]/,
  ],
  [
    'a masked path that is relative',
    'CreateContainerRequest',
    security({ maskedPaths: ['proc'] }),
    /maskedPaths\[0\] "proc" is no absolute path/,
  ],
  [
    'a negative amount of memory',
    'CreateContainerRequest',
    resources({ memoryLimitInBytes: -5 }),
    /memoryLimitInBytes -5 is less than -1/,
  ],
  ['a quota of one microsecond', 'CreateContainerRequest', resources({ cpuQuota: 1 }), /cpuQuota 1 /],
  ['a period of an hour', 'CreateContainerRequest', resources({ cpuPeriod: 3.6e9 }), /cpuPeriod/],
  [
    'an OOM score of 1001',
    'CreateContainerRequest',
    resources({ oomScoreAdj: 1001 }),
    /oomScoreAdj 1001 is not between -1000 and 1000/,
  ],
  [
    'a cgroup file that climbs',
    'CreateContainerRequest',
    resources({ unified: { '../cgroup.procs': '1' } }),
    /unified has a key/,
  ],
  ['CPUs in words', 'CreateContainerRequest', resources({ cpusetCpus: 'all' }), /cpusetCpus "all"/],
  [
    'a page size in words',
    'CreateContainerRequest',
    resources({ hugepageLimits: [{ pageSize: '../x' }] }),
    /hugepageLimits\[0\]\.pageSize/,
  ],
  [
    'a log that climbs',
    'CreateContainerRequest',
    container({ logPath: '../../etc/passwd' }),
    /^config\.logPath/,
  ],
  [
    'a log with an absolute path',
    'CreateContainerRequest',
    container({ logPath: '/etc/passwd' }),
    /is no relative path/,
  ],
  [
    'a mount without a place',
    'CreateContainerRequest',
    container({ mounts: [{ hostPath: '/etc' }] }),
    'config.mounts[0].containerPath is empty',
  ],
  [
    'a mount from a path that climbs',
    'CreateContainerRequest',
    container({ mounts: [{ containerPath: '/x', hostPath: '/srv/../etc' }] }),
    /mounts\[0\]\.hostPath/,
  ],
  [
    'an unknown propagation',
    'CreateContainerRequest',
    container({ mounts: [{ containerPath: '/x', hostPath: '/y', propagation: 3 }] }),
    /propagation 3/,
  ],
  [
    'a device with other rights',
    'CreateContainerRequest',
    container({ devices: [{ hostPath: '/dev/null', permissions: 'rwx' }] }),
    /permissions "rwx"/,
  ],
  [
    'a variable without a name',
    'CreateContainerRequest',
    container({ envs: [{ value: 'x' }] }),
    'config.envs[0].key is empty',
  ],
  [
    'a variable whose name has a "="',
    'CreateContainerRequest',
    container({ envs: [{ key: 'A=B', value: 'x' }] }),
    /envs\[0\]\.key/,
  ],
  [
    'a variable with a NUL',
    'CreateContainerRequest',
    container({ envs: [{ key: 'A', value: 'x\0y' }] }),
    /NUL/,
  ],
  [
    'an argument longer than the kernel takes',
    'CreateContainerRequest',
    container({ args: ['x'.repeat(131_072)] }),
    /args\[0\] .* is longer than the 131072 bytes/,
  ],
  [
    'too many arguments',
    'CreateContainerRequest',
    container({ args: Array.from({ length: 10_001 }, () => '') }),
    'config.args has more than 10000 items',
  ],
  [
    'a stop signal of 99',
    'CreateContainerRequest',
    container({ stopSignal: 99 }),
    /stopSignal 99 is no signal/,
  ],
  [
    'an image name with a new line',
    'CreateContainerRequest',
    container({ image: { image: 'a\nb' } }),
    /image\.image/,
  ],

  [
    'a negative grace period',
    'StopContainerRequest',
    { containerId: ID, timeout: -1 },
    'timeout -1 is less than 0',
  ],
  ['no command', 'ExecSyncRequest', { containerId: ID }, 'cmd is empty'],
  [
    'a negative timeout',
    'ExecSyncRequest',
    { containerId: ID, cmd: ['x'], timeout: -3 },
    'timeout -3 is less than 0',
  ],
  ['port 0', 'PortForwardRequest', { podSandboxId: ID, port: [0] }, 'port[0] 0 is not between 1 and 65535'],
  [
    'a subnet that is none',
    'UpdateRuntimeConfigRequest',
    { runtimeConfig: { networkConfig: { podCidr: '10.0.0.0/33' } } },
    /podCidr/,
  ],
  ['a filter’s id that climbs', 'ListContainersRequest', { filter: { id: '../x' } }, /^filter\.id/],
  [
    'a state that is none',
    'ListContainersRequest',
    { filter: { state: { state: 4 } } },
    /filter\.state\.state 4 /,
  ],
  ['no image', 'PullImageRequest', {}, 'image is empty'],
];

test.each(INVALID)('%s is refused by its name', (_, type, request, message) => {
  const said = problem(type, request);
  if (typeof message === 'string') expect(said).toBe(message);
  else expect(said).toMatch(message);
});

describe('every request with', () => {
  const withId = Object.entries(MESSAGES).flatMap(([type, rows]) =>
    type.endsWith('Request')
      ? rows.flatMap((row) => {
          const field = row.split(' ')[1] ?? '';
          return field === 'podSandboxId' || field === 'containerId' ? [[type, field] as const] : [];
        })
      : [],
  );
  test.each(withId)('%s: a hostile %s is refused', (type, field) => {
    for (const id of [
      '',
      '../../etc',
      'a/b',
      '..',
      'x\0',
      'x'.repeat(129),
      '-rf',
      'a b',
      '\n',
      'x'.repeat(MIB),
    ])
      expect(problem(type, { [field]: id })).toMatch(new RegExp(`^${field}`));
    expect(problem(type, {})).toBe(`${field} is empty`);
  });
});

test('a value is shown, but not a MiB of it', () => {
  expect(problem('StopContainerRequest', { containerId: `/${'x'.repeat(MIB)}` })?.length).toBeLessThan(250);
});
