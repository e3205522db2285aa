import { readlinkSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { NamespaceMode, ProfileType } from '../../../src/cri/index.ts';
import {
  type ContainerOptions,
  openRuntime,
  type PodOptions,
  type RuntimeFixture,
  runToEnd,
  sh,
} from '../../fixtures/runtime.ts';

let fixture: RuntimeFixture;
beforeAll(async () => {
  fixture = await openRuntime();
});
afterAll(async () => {
  await fixture?.close();
});

async function inside(
  script: string,
  container: ContainerOptions = {},
  pod: PodOptions = {},
): Promise<string> {
  const result = await runToEnd(fixture, sh(script), container, pod);
  if (result.exitCode > 1) throw new Error(`exit ${result.exitCode} ${result.reason} ${result.message}`);
  return result.output;
}

describe('a container with nothing said', () => {
  test('has its own host name and is PID 1', async () => {
    expect(await inside('hostname; echo $$; ps | wc -l', {}, { hostname: 'alpha' })).toBe('alpha\n1\n4\n');
  });

  test('shares no namespace with the host', async () => {
    const output = await inside('for n in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done');
    const ours = ['mnt', 'pid', 'net', 'ipc', 'uts', 'cgroup'].map((kind) =>
      readlinkSync(`/proc/self/ns/${kind}`),
    );
    for (const line of output.trim().split('\n')) expect(ours).not.toContain(line);
  });

  test('has the fourteen capabilities and no ambient ones', async () => {
    const output = await inside('grep Cap /proc/self/status');
    expect(
      Object.fromEntries(
        output
          .trim()
          .split('\n')
          .map((line) => line.split(/:\s*/)),
      ),
    ).toEqual({
      CapInh: '0000000000000000',
      CapPrm: '00000000a80425fb',
      CapEff: '00000000a80425fb',
      CapBnd: '00000000a80425fb',
      CapAmb: '0000000000000000',
    });
  });

  test('runs under one seccomp filter that refuses what it has to', async () => {
    const output = await inside('grep Seccomp /proc/self/status; unshare -m true; mount -t tmpfs none /tmp');
    expect(output).toContain('Seccomp:\t2');
    expect(output).toContain('Seccomp_filters:\t1');
    expect(output).toMatch(/unshare: .*Operation not permitted/);
    expect(output).toMatch(/mount: .*(Operation not permitted|permission denied)/);
  });

  test('sees masked paths as empty', async () => {
    const paths = ['/proc/kcore', '/proc/keys', '/proc/timer_list', '/proc/interrupts', '/proc/sched_debug'];
    expect(
      await inside(
        `for p in ${paths.join(' ')}; do [ ! -e $p ] || [ $(wc -c < $p) = 0 ] || echo "$p can be read"; done`,
      ),
    ).toBe('');
    expect(
      await inside('for d in /proc/acpi /proc/scsi /sys/firmware; do [ ! -e $d ] || ls -A $d; done'),
    ).toBe('');
  });

  test('cannot write /proc/sys, /proc/sysrq-trigger or /sys', async () => {
    const output = await inside(
      'echo x > /proc/sys/kernel/hostname; mkdir /sys/x; for c in /sys/fs/cgroup /sys/fs/cgroup/*/; do [ ! -d $c ] || mkdir $c/x; done; [ ! -e /proc/sysrq-trigger ] || echo h > /proc/sysrq-trigger; true',
    );
    const refusals = output.trim().split('\n');
    expect(refusals.length).toBeGreaterThan(2);
    for (const line of refusals) expect(line).toMatch(/Read-only file system/);
  });

  test('has no mount of the host in sight', async () => {
    const output = await inside('cut -d" " -f2,3 /proc/self/mounts');
    const mounts = output.trim().split('\n');
    const known =
      /^\/( overlay|proc |proc\/\S+ |dev |dev\/(pts|shm|mqueue) |sys |sys\/(firmware|fs\/cgroup\S*|devices\/\S+) |etc\/(hosts|hostname|resolv\.conf) )/;
    for (const mount of mounts) expect(`${mount} `).toMatch(known);
    expect(output).not.toContain(fixture.base);
  });

  test('has no descriptor beyond its three streams', async () => {
    // 3 is the directory that ls itself reads
    expect(await inside('ls /proc/self/fd')).toBe('0\n1\n2\n3\n');
  });

  test('has a /dev of its own, and only the devices that everybody may have', async () => {
    expect(await inside('ls /dev; mknod /tmp/m c 1 1 && cat /tmp/m')).toBe(
      `${['core', 'fd', 'full', 'mqueue', 'null', 'ptmx', 'pts', 'random', 'shm', 'stderr', 'stdin', 'stdout', 'tty', 'urandom', 'zero'].join('\n')}\ncat: can't open '/tmp/m': Operation not permitted\n`,
    );
  });

  test('begins with umask 022, in /, with HOME, PATH and HOSTNAME', async () => {
    expect(await inside('umask; pwd; echo $HOME; echo $PATH; echo $HOSTNAME', {}, { hostname: 'beta' })).toBe(
      '0022\n/\n/root\n/usr/bin:/bin\nbeta\n',
    );
  });

  test('sees no process but its own', async () => {
    expect(await inside('ls -d /proc/[0-9]* | cat; exit 0')).toMatch(/^\/proc\/1\n(\/proc\/\d\n){1,3}$/);
  });
});

describe('the security context', () => {
  test('runs as the user and groups that it names', async () => {
    const output = await inside('id -u; id -g; grep Groups /proc/self/status', {
      security: { runAsUser: { value: 1234 }, runAsGroup: { value: 5678 }, supplementalGroups: [7, 42] },
    });
    expect(output).toMatch(/^1234\n5678\nGroups:\t7 42 5678 ?\n$/);
  });

  test('drops ALL and adds one', async () => {
    const output = await inside('grep -E "CapEff|CapBnd" /proc/self/status', {
      security: { capabilities: { dropCapabilities: ['ALL'], addCapabilities: ['NET_BIND_SERVICE'] } },
    });
    expect(output).toBe('CapEff:\t0000000000000400\nCapBnd:\t0000000000000400\n');
  });

  test('gives a user who is not root no effective capability', async () => {
    expect(await inside('grep CapEff /proc/self/status', { security: { runAsUser: { value: 1000 } } })).toBe(
      'CapEff:\t0000000000000000\n',
    );
  });

  test('gives ambient capabilities to a user who is not root', async () => {
    const security = {
      runAsUser: { value: 1000 },
      capabilities: { addCapabilities: ['NET_RAW'], addAmbientCapabilities: ['NET_RAW'] },
    };
    expect(await inside('grep -E "CapEff|CapAmb" /proc/self/status', { security })).toBe(
      'CapEff:\t0000000000002000\nCapAmb:\t0000000000002000\n',
    );
  });

  test('keeps a process from gaining privileges', async () => {
    expect(
      await inside('grep -E "NoNewPrivs|Seccomp:" /proc/self/status', { security: { noNewPrivs: true } }),
    ).toBe('NoNewPrivs:\t1\nSeccomp:\t2\n');
  });

  test('makes the root read-only, but not /dev, /tmp mounts or volumes', async () => {
    const output = await inside('touch /x; touch /dev/x && echo dev', { security: { readonlyRootfs: true } });
    expect(output).toBe('touch: /x: Read-only file system\ndev\n');
  });

  test('leaves an unconfined container without a filter', async () => {
    expect(
      await inside('grep Seccomp: /proc/self/status', {
        security: { seccomp: { profileType: ProfileType.Unconfined } },
      }),
    ).toBe('Seccomp:\t0\n');
  });

  test('gives a privileged container everything, on request only', async () => {
    const output = await inside(
      'grep -E "CapEff|Seccomp:" /proc/self/status; ls /dev/vda /dev/kmsg 2>/dev/null | head -1; mount -t tmpfs none /tmp && echo mounted',
      {
        security: { privileged: true },
      },
    );
    expect(output).toContain('Seccomp:\t0');
    expect(output).toContain('mounted');
    expect(output).not.toContain('a80425fb');
  });

  test('takes masked and read-only paths from the request', async () => {
    const output = await inside('wc -c < /proc/version; echo x > /proc/sys/kernel/domainname; true', {
      security: { maskedPaths: ['/proc/version'], readonlyPaths: [] },
    });
    expect(output.split('\n')[0]).toBe('0');
    expect(output).not.toContain('Read-only');
  });
});

describe('namespaces of the pod', () => {
  test('are shared where the pod shares its PIDs, with a pause process that shows nothing', async () => {
    const output = await inside(
      'ps | grep -c "[ ]pause$"; ls -l /proc/1/root 2>&1; ls /proc/1/fd 2>&1 | wc -l; cat /proc/1/environ 2>&1; echo $$',
      { security: { namespaceOptions: { pid: NamespaceMode.POD } } },
      {
        sandbox: {
          namespaceOptions: { network: NamespaceMode.POD, pid: NamespaceMode.POD, ipc: NamespaceMode.POD },
        },
      },
    );
    expect(output).toMatch(/^1\n/);
    expect(output).toContain('cannot read link');
    expect(output).toContain('Permission denied');
    expect(output).toMatch(/\n2\n$/);
  });

  test('keep even a tracer from walking through the pause process to the host', async () => {
    const output = await inside(
      'ls /proc/1/root/ 2>&1; cat /proc/1/root/etc/shadow 2>&1; kill -9 1; kill -TERM 1; sleep 0.1; ps | grep -c "[ ]pause$"',
      {
        security: {
          namespaceOptions: { pid: NamespaceMode.POD },
          capabilities: { addCapabilities: ['SYS_PTRACE', 'KILL'] },
        },
      },
      {
        sandbox: {
          namespaceOptions: { network: NamespaceMode.POD, pid: NamespaceMode.POD, ipc: NamespaceMode.POD },
        },
      },
    );
    expect(output).not.toContain('root:');
    expect(output.trim().split('\n').at(-1)).toBe('1');
  });

  test('are the host’s where the request says so', async () => {
    const options = { network: NamespaceMode.NODE, pid: NamespaceMode.NODE, ipc: NamespaceMode.NODE };
    const output = await inside(
      'for n in net ipc uts pid; do readlink /proc/self/ns/$n; done',
      { security: { namespaceOptions: { pid: NamespaceMode.NODE } } },
      { sandbox: { namespaceOptions: options } },
    );
    expect(output.trim().split('\n')).toEqual(
      ['net', 'ipc', 'uts', 'pid'].map((kind) => readlinkSync(`/proc/self/ns/${kind}`)),
    );
  });

  test('take sysctls of the pod’s own namespaces', async () => {
    const output = await inside(
      'cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/tcp_fin_timeout /proc/sys/kernel/shm_rmid_forced',
      {},
      {
        sysctls: { 'net.ipv4.tcp_fin_timeout': '17', 'kernel.shm_rmid_forced': '1' },
      },
    );
    expect(output).toBe('0\n17\n1\n');
  });

  test('share one /dev/shm of 64 MiB', async () => {
    expect(await inside('df -k /dev/shm | tail -1 | sed "s/ \\+/ /g" | cut -d" " -f2')).toBe('65536\n');
  });
});

describe('a user namespace', () => {
  const map = [{ hostId: 300_000, containerId: 0, length: 65_536 }];
  const sandbox = {
    namespaceOptions: {
      network: NamespaceMode.POD,
      pid: NamespaceMode.CONTAINER,
      ipc: NamespaceMode.POD,
      usernsOptions: { mode: NamespaceMode.POD, uids: map, gids: map },
    },
  };

  test('makes root inside an unprivileged id outside', async () => {
    expect(await inside('id -u; cat /proc/self/uid_map | sed "s/ \\+/ /g"', {}, { sandbox })).toBe(
      '0\n 0 300000 65536\n',
    );
  });

  test('shows the image’s files as root’s, and lets root write', async () => {
    expect(
      await inside('stat -c "%u %g" /bin/busybox /; touch /new && stat -c %u /new', {}, { sandbox }),
    ).toBe('0 0\n0 0\n0\n');
  });

  test('owns its network and its sysctls as asked, and may not touch the host’s', async () => {
    const output = await inside(
      'cat /proc/sys/net/ipv4/tcp_fin_timeout; echo 1 > /proc/sys/kernel/panic; true',
      {},
      { sandbox, sysctls: { 'net.ipv4.tcp_fin_timeout': '18' } },
    );
    expect(output).toMatch(/^18\n.*(Read-only|Permission)/);
  });

  test('works with a PID namespace that the pod shares', async () => {
    const options = { ...sandbox.namespaceOptions, pid: NamespaceMode.POD };
    const output = await inside(
      'ps | grep -c "[ ]pause$"; id -u',
      { security: { namespaceOptions: { pid: NamespaceMode.POD } } },
      { sandbox: { namespaceOptions: options } },
    );
    expect(output).toBe('1\n0\n');
  });

  test('works with a privileged container, which then rules its own namespaces only', async () => {
    const output = await inside(
      'mount -t tmpfs none /tmp && echo mounted; cat /proc/self/uid_map | sed "s/ \\+/ /g"',
      { security: { privileged: true } },
      { sandbox: { ...sandbox, privileged: true } },
    );
    expect(output).toBe('mounted\n 0 300000 65536\n');
  });
});
