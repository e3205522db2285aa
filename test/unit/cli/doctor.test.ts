import { describe, expect, it } from 'vitest';
import type { Facts, Outcome } from '../../../src/agent/doctor/facts.ts';
import { atLeast } from '../../../src/agent/doctor/verdict.ts';
import { judge } from '../../../src/agent/doctor/verdicts.ts';
import type { Diagnosis, Finding } from '../../../src/agent/index.ts';
import { diagnosisLines } from '../../../src/cli/render/doctor.ts';
import { plain } from '../../../src/cli/terminal/style.ts';
import { CAPABILITIES } from '../../../src/linux/capabilities.ts';

const yes: Outcome = { ok: true, value: true };
const no = (code: string, hint?: string): Outcome<never> => ({
  ok: false,
  code,
  message: `cannot do it: ${code}`,
  ...(hint === undefined ? {} : { hint }),
});

/** A machine that lacks nothing. */
const good: Facts = {
  program: { node: '20.18.1', addon: yes, shim: yes, agent: undefined, socket: '/run/nodelet/nodelet.sock' },
  rights: { uid: 0, capabilities: CAPABILITIES },
  kernel: {
    release: '6.1.0',
    calls: { openat2: yes },
    namespaces: { mnt: yes, pid: yes, net: yes, ipc: yes, uts: yes, cgroup: yes, user: yes },
    limits: { user: 15_000, net: 15_000 },
    proc: yes,
    userProc: yes,
    seccompActions: ['errno', 'allow'],
  },
  cgroups: {
    host: {
      ok: true,
      value: {
        mode: 'unified',
        unified: '/sys/fs/cgroup',
        controllers: { cpu: { version: 2, root: '/sys/fs/cgroup' } },
        missing: [],
        cpus: '0',
        mems: '0',
        hugepageSizes: [],
      },
    },
    scratch: { ok: true, value: { kill: true, freeze: true } },
    deviceProgram: yes,
  },
  storage: {
    root: '/var/lib/nodelet',
    directory: '/var/lib',
    type: 'ext4',
    overlay: yes,
    idMap: yes,
    free: 10 * 1024 ** 3,
    size: 20 * 1024 ** 3,
    freeInodes: 1e6,
    inodes: 2e6,
  },
  network: {
    bridge: true,
    links: yes,
    nftables: { ok: true, value: { available: true, missing: [] } },
    plan: yes,
    forward: { value: '0', writable: true },
    bridgeNetfilter: true,
    ipv6: 'on',
    uplinks: ['eth0'],
    conntrack: { count: 1, max: 100 },
    resolvConf: { path: '/etc/resolv.conf', servers: ['192.0.2.53'] },
  },
  machine: {
    memory: { available: 1024 ** 3, total: 2 * 1024 ** 3 },
    openFiles: 1_048_576,
    inotify: { instances: 128, watches: 8192 },
    maxPid: 32_768,
    clock: { now: 2000, built: 1000 },
  },
};

type Parts = { readonly [K in keyof Facts]?: Partial<Facts[K]> };

function facts(changed: Parts): Facts {
  const merged = Object.entries(good).map(([key, value]) => [
    key,
    { ...value, ...changed[key as keyof Facts] },
  ]);
  return Object.fromEntries(merged);
}

const lacking = (changed: Parts): Finding[] => judge(facts(changed)).filter(({ status }) => status !== 'ok');

const host = good.cgroups.host.ok ? good.cgroups.host.value : undefined;
const hostWith = (change: object): Outcome<never> => ({ ok: true, value: { ...host, ...change } }) as never;

describe('judge', () => {
  it('finds nothing on a machine that lacks nothing', () => {
    expect(lacking({})).toEqual([]);
  });

  it('gives every finding an id of its own', () => {
    const ids = judge(good).map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it.each<[name: string, changed: Parts, id: string, level: Finding['level'], mend: RegExp]>([
    ['an old Node.js', { program: { node: '18.20.0' } }, 'node', 'needed', /20\.18/],
    ['no addon', { program: { addon: no('NATIVE_NOT_BUILT') } }, 'native', 'needed', /build:native/],
    [
      'a deep state directory',
      { program: { socket: `/${'x'.repeat(107)}` } },
      'agent',
      'needed',
      /shorter --state/,
    ],
    [
      'a container without CAP_SYS_ADMIN',
      { rights: { capabilities: CAPABILITIES.filter((name) => name !== 'CAP_SYS_ADMIN') } },
      'capabilities',
      'needed',
      /--cap-add/,
    ],
    [
      'no CAP_SYS_RESOURCE',
      { rights: { capabilities: CAPABILITIES.filter((name) => name !== 'CAP_SYS_RESOURCE') } },
      'sys-resource',
      'recommended',
      /--cap-add/,
    ],
    [
      'a default capability that cannot be given',
      { rights: { capabilities: CAPABILITIES.filter((name) => name !== 'CAP_NET_RAW') } },
      'container-capabilities',
      'recommended',
      /--cap-add/,
    ],
    ['an old kernel', { kernel: { calls: { mount_setattr: no('ENOSYS') } } }, 'kernel', 'needed', /5\.14/],
    [
      'no network namespaces left',
      { kernel: { namespaces: { ...good.kernel.namespaces, net: no('ENOSPC') } } },
      'namespaces',
      'needed',
      /^sysctl -w user\.max_net_namespaces=15000$/,
    ],
    [
      'seccomp that forbids unshare',
      { kernel: { namespaces: { ...good.kernel.namespaces, net: no('EPERM') } } },
      'namespaces',
      'needed',
      /seccomp profile/,
    ],
    ['no proc', { kernel: { proc: no('EPERM') } }, 'proc', 'needed', /CAP_SYS_ADMIN/],
    ['a masked proc', { kernel: { userProc: no('EPERM') } }, 'user-proc', 'recommended', /unmask/],
    ['no filters', { kernel: { seccompActions: undefined } }, 'seccomp', 'needed', /CONFIG_SECCOMP_FILTER/],
    [
      'pure cgroup v1',
      {
        cgroups: { host: { ok: false, code: 'CGROUP_V2_MISSING', message: 'none', hint: 'boot otherwise' } },
      },
      'cgroup-v2',
      'needed',
      /^boot otherwise$/,
    ],
    [
      'no memory controller',
      {
        cgroups: {
          host: hostWith({
            missing: [{ controller: 'memory', required: true, mend: 'cgroup_enable=memory' }],
          }),
        },
      },
      'controllers',
      'needed',
      /cgroup_enable=memory/,
    ],
    [
      'no hugetlb controller',
      {
        cgroups: {
          host: hostWith({ missing: [{ controller: 'hugetlb', required: false, mend: 'another kernel' }] }),
        },
      },
      'controller-hugetlb',
      'recommended',
      /another kernel/,
    ],
    [
      'cgroups that are read-only',
      { cgroups: { scratch: no('EROFS') } },
      'cgroup-use',
      'needed',
      /for writing/,
    ],
    [
      'no cgroup.kill',
      { cgroups: { scratch: { ok: true, value: { kill: false, freeze: true } } } },
      'cgroup-kill',
      'recommended',
      /5\.14/,
    ],
    ['no bpf', { cgroups: { deviceProgram: no('EPERM') } }, 'devices', 'needed', /CONFIG_CGROUP_BPF/],
    [
      'overlay on overlay',
      { storage: { type: 'overlay', overlay: no('EINVAL') } },
      'overlay',
      'needed',
      /--root on ext4/,
    ],
    [
      'a kernel without overlayfs',
      { storage: { overlay: no('ENODEV') } },
      'overlay',
      'needed',
      /modprobe overlay/,
    ],
    ['no id-mapped mounts', { storage: { idMap: no('EINVAL') } }, 'id-map', 'recommended', /5\.19/],
    ['a full disk', { storage: { free: 1024 } }, 'disk', 'needed', /prune/],
    ['little space', { storage: { free: 512 * 1024 ** 2 } }, 'disk', 'recommended', /prune/],
    ['no inodes', { storage: { freeInodes: 10 } }, 'inodes', 'recommended', /inodes/],
    ['no bridges', { network: { links: no('EOPNOTSUPP') } }, 'links', 'needed', /modprobe bridge veth/],
    [
      'no nftables',
      {
        network: {
          nftables: {
            ok: true,
            value: {
              available: false,
              missing: [{ feature: 'nftables', option: 'CONFIG_NF_TABLES', reason: 'x' }],
            },
          },
        },
      },
      'nftables',
      'needed',
      /nf_tables/,
    ],
    [
      'no masquerade',
      {
        network: {
          nftables: {
            ok: true,
            value: {
              available: true,
              missing: [{ feature: 'masquerade', option: 'CONFIG_NFT_MASQ', reason: 'x' }],
            },
          },
        },
      },
      'nftables',
      'needed',
      /CONFIG_NFT_MASQ/,
    ],
    [
      'no numgen',
      {
        network: {
          nftables: {
            ok: true,
            value: {
              available: true,
              missing: [{ feature: 'numgen', option: 'CONFIG_NFT_NUMGEN', reason: 'x' }],
            },
          },
        },
      },
      'nftables-services',
      'recommended',
      /CONFIG_NFT_NUMGEN/,
    ],
    [
      'a subnet that is taken',
      { network: { plan: no('SUBNET_IN_USE', 'choose another subnet') } },
      'pod-network',
      'needed',
      /^choose another subnet$/,
    ],
    [
      'a read-only /proc/sys',
      { network: { forward: { value: '0', writable: false } } },
      'forwarding',
      'needed',
      /ip_forward=1/,
    ],
    [
      'no br_netfilter',
      { network: { bridgeNetfilter: false } },
      'br-netfilter',
      'recommended',
      /modprobe br_netfilter/,
    ],
    ['IPv6 switched off', { network: { ipv6: 'disabled' } }, 'ipv6', 'recommended', /disable_ipv6=0/],
    ['no route', { network: { uplinks: [] } }, 'uplink', 'recommended', /image pack/],
    [
      'a full connection table',
      { network: { conntrack: { count: 90, max: 100 } } },
      'conntrack',
      'recommended',
      /=400$/,
    ],
    [
      'a resolver on loopback',
      { network: { resolvConf: { path: '/r', servers: ['127.0.0.53'] } } },
      'resolver',
      'recommended',
      /--resolv-conf/,
    ],
    [
      'no resolver',
      { network: { resolvConf: { path: '/r', servers: [] } } },
      'resolver',
      'recommended',
      /--resolv-conf/,
    ],
    ['little memory', { machine: { memory: { available: 1, total: 2 } } }, 'memory', 'recommended', /memory/],
    ['few open files', { machine: { openFiles: 1024 } }, 'open-files', 'recommended', /LimitNOFILE/],
    [
      'few watches',
      { machine: { inotify: { instances: 128, watches: 100 } } },
      'inotify',
      'recommended',
      /max_user_watches/,
    ],
    [
      'a clock that stands',
      { machine: { clock: { now: 0, built: 1 } } },
      'clock',
      'recommended',
      /timedatectl/,
    ],
  ])('%s', (_, changed, id, level, mend) => {
    const found = lacking(changed);
    expect(found).toMatchObject([{ id, level, status: 'lacking' }]);
    expect(found[0]?.mend).toMatch(mend);
  });

  it('without root what was refused is unknown, and root is what is lacking', () => {
    const denied = no('EPERM');
    const found = lacking({
      rights: { uid: 1000, capabilities: [] },
      storage: { overlay: denied },
      network: { links: denied, nftables: denied },
    });
    expect(found.filter(({ status }) => status === 'lacking').map(({ id }) => id)).toEqual(['root']);
    expect(found.filter(({ status }) => status === 'unknown').map(({ id }) => id)).toEqual([
      'capabilities',
      'overlay',
      'links',
      'nftables',
    ]);
  });

  it('--network host needs no bridge, no rules and no forwarding', () => {
    const refused = no('EOPNOTSUPP');
    const forward = { value: undefined, writable: false };
    expect(
      lacking({ network: { bridge: false, links: refused, nftables: refused, plan: refused, forward } }),
    ).toEqual([]);
  });
});

it.each([
  ['20.18.0', true],
  ['20.17.9', false],
  ['22.0.0', true],
  ['18.20.0', false],
])('atLeast 20.18: %s is %s', (version, expected) => {
  expect(atLeast(version, [20, 18])).toBe(expected);
});

describe('diagnosisLines', () => {
  const about = { group: 'Storage', name: 'space', found: 'little' } as const;
  const page = (findings: readonly Finding[], ready: boolean): string => {
    const diagnosis: Diagnosis = { root: '/r', findings, ready };
    return diagnosisLines(diagnosis, { width: 80, style: plain }).join('\n');
  };

  it.each<[Finding, boolean, RegExp]>([
    [
      { ...about, id: 'a', level: 'needed', status: 'ok' },
      true,
      /^ {2}ok space {2}little\n\nPods can run on this machine\. It lacks nothing\.$/m,
    ],
    [
      { ...about, id: 'a', level: 'needed', status: 'lacking', mend: 'do it' },
      false,
      /^ {2}NO space {2}little\n +mend: do it\n\nPods cannot run on this machine yet\. It lacks 1 thing that is needed \(NO\)\.$/m,
    ],
    [
      { ...about, id: 'a', level: 'recommended', status: 'lacking', mend: 'do it' },
      true,
      /^ {3}! space[^]*can run on this machine\. It lacks 1 thing that is recommended \(!\)\.$/m,
    ],
    [
      { ...about, id: 'a', level: 'needed', status: 'unknown', mend: 'sudo' },
      false,
      /^ {3}\? space[^]*lacks nothing; 1 thing could not be tried \(\?\)\.$/m,
    ],
  ])('%j', (finding, ready, expected) => {
    expect(page([finding], ready)).toMatch(expected);
  });

  it('long texts stay in their column', () => {
    const found = 'word '.repeat(40).trim();
    const lines = page([{ ...about, id: 'a', level: 'needed', status: 'ok', found }], true).split('\n');
    expect(lines.length).toBeGreaterThan(4);
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(80);
  });
});
