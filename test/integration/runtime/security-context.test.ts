/** What a security context and its kin ask for beyond the usual: granted on the real kernel, or refused with the field's name. */
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  type LocalContainerConfig,
  MountPropagation,
  NamespaceMode,
  ProfileType,
  Signal,
} from '../../../src/cri/index.ts';
import {
  type ContainerOptions,
  containerConfig,
  ended,
  IMAGE,
  logText,
  openRuntime,
  type PodOptions,
  type RuntimeFixture,
  runToEnd,
  sandboxConfig,
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

/** A pod that is removed at the end, whatever happens. */
async function withPod<T>(
  pod: PodOptions,
  work: (podSandboxId: string, name: string) => Promise<T>,
): Promise<T> {
  const config = sandboxConfig(fixture, pod);
  const { podSandboxId = '' } = await fixture.runtime.runPodSandbox({ config });
  try {
    return await work(podSandboxId, config.metadata?.name ?? '');
  } finally {
    await fixture.runtime.removePodSandbox({ podSandboxId });
  }
}

async function start(podSandboxId: string, config: LocalContainerConfig): Promise<string> {
  const { containerId = '' } = await fixture.runtime.createContainer({ podSandboxId, config });
  await fixture.runtime.startContainer({ containerId });
  return containerId;
}

/** Nothing is left of a create that was refused. */
async function refused(container: ContainerOptions, pod: PodOptions = {}): Promise<unknown> {
  return await withPod(pod, async (podSandboxId) => {
    const before = fixture.images.snapshotKeys();
    const error = await fixture.runtime
      .createContainer({ podSandboxId, config: containerConfig(['true'], container) })
      .then(
        () => undefined,
        (reason: unknown) => reason,
      );
    expect(fixture.images.snapshotKeys()).toEqual(before);
    expect((await fixture.runtime.listContainers({})).containers).toEqual([]);
    return error;
  });
}

describe('a request is refused by its field', () => {
  test.each([
    [
      'privileged in a pod that is not',
      { security: { privileged: true } },
      'INVALID_ARGUMENT',
      /privileged: the sandbox is not/,
    ],
    [
      'a group without a user',
      { security: { runAsGroup: { value: 5 } } },
      'INVALID_USER',
      /runAsGroup is set without runAsUser/,
    ],
    [
      'an ambient capability that is not granted',
      { security: { capabilities: { addAmbientCapabilities: ['SYS_TIME'] } } },
      'INVALID_ARGUMENT',
      /addAmbientCapabilities: CAP_SYS_TIME/,
    ],
    [
      'the PIDs of the host in a pod without them',
      { security: { namespaceOptions: { pid: NamespaceMode.NODE } } },
      'INVALID_ARGUMENT',
      /namespaceOptions.pid: NODE/,
    ],
    [
      'a seccomp profile of no type',
      { security: { seccomp: { profileType: 9 as never } } },
      'INVALID_ARGUMENT',
      /seccomp.profileType: 9/,
    ],
    [
      'a seccomp profile without a path',
      { security: { seccomp: { profileType: ProfileType.Localhost } } },
      'SECCOMP_PROFILE_NOT_FOUND',
      /localhostRef ""/,
    ],
    [
      'a seccomp profile that is not there',
      { security: { seccomp: undefined, seccompProfilePath: 'localhost//nowhere/x.json' } },
      'SECCOMP_PROFILE_NOT_FOUND',
      /"\/nowhere\/x.json"/,
    ],
    [
      'a negative share of CPU',
      { linux: { resources: { cpuShares: -1 } } },
      'CGROUP_VALUE_INVALID',
      /cpu.shares/,
    ],
    [
      'swap below memory',
      { linux: { resources: { memoryLimitInBytes: 2 ** 26, memorySwapLimitInBytes: 2 ** 25 } } },
      'CGROUP_VALUE_INVALID',
      /memory.swap/,
    ],
    [
      'a page size that no machine has',
      { linux: { resources: { hugepageLimits: [{ pageSize: '3MB', limit: 3 }] } } },
      'CGROUP_VALUE_INVALID',
      /hugepageLimits\[0\].pageSize/,
    ],
    [
      'an OOM score beyond the scale',
      { linux: { resources: { oomScoreAdj: 1001 } } },
      'CGROUP_VALUE_INVALID',
      /oomScoreAdj/,
    ],
    [
      'a device that is none',
      { devices: [{ hostPath: '/etc/hostname' }] },
      'DEVICE_NOT_FOUND',
      /is no device/,
    ],
    [
      'a device with rights of its own',
      { devices: [{ hostPath: '/dev/null', permissions: 'rx' }] },
      'INVALID_ARGUMENT',
      /permissions "rx"/,
    ],
    [
      'a relative host path',
      { mounts: [{ containerPath: '/x', hostPath: 'etc' }] },
      'INVALID_ARGUMENT',
      /hostPath "etc"/,
    ],
    [
      'a propagation that does not exist',
      { mounts: [{ containerPath: '/x', hostPath: '/etc', propagation: 5 as never }] },
      'INVALID_ARGUMENT',
      /5 is no propagation/,
    ],
    [
      'recursive read-only and writable',
      { mounts: [{ containerPath: '/x', hostPath: '/etc', recursiveReadOnly: true }] },
      'INVALID_ARGUMENT',
      /recursiveReadOnly needs readonly/,
    ],
    [
      'an image volume that is not here',
      { mounts: [{ containerPath: '/x', image: { image: 'test.local/none:1' } }] },
      'IMAGE_NOT_FOUND',
      /test.local\/none:1/,
    ],
    [
      'an image volume and a host path',
      { mounts: [{ containerPath: '/x', hostPath: '/etc', image: { image: IMAGE } }] },
      'INVALID_ARGUMENT',
      /exclude each other/,
    ],
    [
      'a path out of an image volume',
      { mounts: [{ containerPath: '/x', image: { image: IMAGE }, imageSubPath: 'a/../..' }] },
      'INVALID_ARGUMENT',
      /leads out of the image/,
    ],
    [
      'a CDI device that nobody knows',
      { CDIDevices: [{ name: 'a.b/c=d' }] },
      'CDI_DEVICE_NOT_FOUND',
      /"a.b\/c=d"/,
    ],
    ['a signal that is none', { stopSignal: 99 as never }, 'INVALID_ARGUMENT', /stopSignal: 99/],
  ] as const)('%s', async (_, container, code, message) => {
    const error = await refused(container as ContainerOptions, { sandbox: { privileged: false } });
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
  });

  test.runIf(!readFileSync('/proc/filesystems', 'utf8').includes('selinuxfs'))(
    'labels and profiles that this kernel has not',
    async () => {
      expect(await refused({ security: { selinuxOptions: { type: 'container_t' } } })).toMatchObject({
        code: 'SELINUX_UNAVAILABLE',
      });
      await expect(
        fixture.runtime.runPodSandbox({
          config: sandboxConfig(fixture, { sandbox: { selinuxOptions: { level: 's0' } } }),
        }),
      ).rejects.toMatchObject({ code: 'SELINUX_UNAVAILABLE' });
      if (!fixture.runtime.context.host.securityModules.apparmor)
        expect(await refused({ security: { apparmorProfile: 'localhost/x' } })).toMatchObject({
          code: 'APPARMOR_UNAVAILABLE',
        });
    },
  );

  test('sysctls of the machine, and those of namespaces that the pod does not have', async () => {
    const { NODE, POD } = NamespaceMode;
    const before = readFileSync('/proc/sys/net/ipv4/tcp_fin_timeout', 'utf8');
    for (const [sysctls, namespaceOptions] of [
      [{ 'kernel.panic': '1' }, {}],
      [{ 'net.ipv4.tcp_fin_timeout': '11' }, { network: NODE, pid: POD }],
      [{ 'kernel.shmmax': '11' }, { ipc: NODE, pid: POD }],
    ] as const)
      await expect(
        fixture.runtime.runPodSandbox({
          config: sandboxConfig(fixture, { sysctls, sandbox: { namespaceOptions } }),
        }),
      ).rejects.toMatchObject({ code: 'SYSCTL_REFUSED' });
    expect(readFileSync('/proc/sys/net/ipv4/tcp_fin_timeout', 'utf8')).toBe(before);
  });
});

describe('without a word on it', () => {
  test('nothing is filtered, masked or read-only, as with containerd', async () => {
    const security = { seccomp: undefined, maskedPaths: undefined, readonlyPaths: undefined };
    const output = await inside(
      'grep Seccomp: /proc/self/status; echo x > /proc/sys/kernel/domainname && echo written',
      { security },
    );
    expect(output).toBe('Seccomp:\t0\nwritten\n');
  });
});

describe('a seccomp profile of the host', () => {
  test.each(['', 'localhost/'])('is found as %jPATH', async (prefix) => {
    const path = join(fixture.base, 'profile.json');
    writeFileSync(
      path,
      JSON.stringify({
        defaultAction: 'SCMP_ACT_ALLOW',
        syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO' }],
      }),
    );
    const output = await inside('mkdir /tmp/x || echo refused', {
      security: { seccomp: { profileType: ProfileType.Localhost, localhostRef: `${prefix}${path}` } },
    });
    expect(output).toContain('Operation not permitted');
    expect(output).toContain('refused');
  });
});

describe('supplementary groups', () => {
  test.each([
    ['Merge', 0, '0 10 77'],
    ['Strict', 1, '0 77'],
  ] as const)('%s', async (_, supplementalGroupsPolicy, expected) => {
    const image = `test.local/groups-${supplementalGroupsPolicy}:1`;
    const file = mkdtempSync(join(fixture.base, 'etc-'));
    writeFileSync(join(file, 'passwd'), 'root:x:0:0::/root:/bin/sh\n');
    writeFileSync(join(file, 'group'), 'root:x:0:\nwheel:x:10:root\n');
    await fixture.images.pack(
      image,
      [
        '/bin/busybox:/bin/sh',
        '/bin/busybox:/bin/grep',
        `${file}/passwd:/etc/passwd`,
        `${file}/group:/etc/group`,
      ],
      { config: { Env: ['PATH=/bin'] } },
    );
    const output = await inside('grep Groups /proc/self/status', {
      image: { image },
      security: { supplementalGroups: [77], supplementalGroupsPolicy },
    });
    expect(output.trim()).toBe(`Groups:\t${expected}`);
  });
});

describe('namespaces', () => {
  const shared = { network: NamespaceMode.POD, pid: NamespaceMode.POD, ipc: NamespaceMode.POD };

  test('of the pod where the container says nothing, and its own where the pod shares no PIDs', async () => {
    expect(await inside('echo $$', { security: { namespaceOptions: {} } })).toBe('1\n');
  });

  test('are the host’s for all containers of a pod that has those', async () => {
    const output = await inside(
      'for n in net ipc pid; do readlink /proc/self/ns/$n; done',
      { security: { namespaceOptions: {} } },
      {
        sandbox: {
          namespaceOptions: { network: NamespaceMode.NODE, pid: NamespaceMode.NODE, ipc: NamespaceMode.NODE },
        },
      },
    );
    expect(output.trim().split('\n')).toEqual(
      ['net', 'ipc', 'pid'].map((kind) => readlinkSync(`/proc/self/ns/${kind}`)),
    );
  });

  test('are a container’s own where it asks for that', async () => {
    const { CONTAINER, POD } = NamespaceMode;
    const users = [{ hostId: 300_000, containerId: 0, length: 65_536 }];
    for (const usernsOptions of [undefined, { mode: POD, uids: users, gids: users }]) {
      const sandbox = {
        namespaceOptions: { ...shared, ...(usernsOptions === undefined ? {} : { usernsOptions }) },
      };
      await withPod({ sandbox }, async (podSandboxId, name) => {
        const script = sh(
          'for n in net ipc pid; do readlink /proc/self/ns/$n; done; ip -o addr show lo | head -1; df /dev/shm | tail -1; echo $$',
        );
        const own = { network: CONTAINER, ipc: CONTAINER, pid: CONTAINER };
        const pod = { network: POD, ipc: POD, pid: POD };
        for (const [one, namespaceOptions] of [
          ['own', own],
          ['pod', pod],
        ] as const)
          await ended(
            fixture.runtime,
            await start(podSandboxId, containerConfig(script, { name: one, security: { namespaceOptions } })),
          );
        const [mine, theirs] = ['own', 'pod'].map((one) => logText(fixture, name, one).trim().split('\n'));
        for (const i of [0, 1, 2]) expect(mine?.[i]).not.toBe(theirs?.[i]);
        expect(mine?.[3]).toContain('127.0.0.1');
        expect(mine?.[4]).toContain('65536');
        expect(mine?.at(-1)).toBe('1');
      });
    }
  });

  test('of a target are joined while it runs, and only within a pod', async () => {
    await withPod({}, async (podSandboxId, name) => {
      const { runtime } = fixture;
      const target = await start(podSandboxId, containerConfig(['sleep', '1000'], { name: 'target' }));
      const namespaceOptions = { pid: NamespaceMode.TARGET, targetId: target };
      const debug = containerConfig(sh('ps | grep -c "[s]leep 1000"; readlink /proc/self/ns/pid'), {
        name: 'debug',
        security: { namespaceOptions },
      });
      await ended(runtime, await start(podSandboxId, debug));
      const { pid } = runtime.context.model.container(target).record;
      expect(logText(fixture, name, 'debug')).toBe(`1\n${readlinkSync(`/proc/${pid}/ns/pid`)}\n`);
      await withPod({}, async (other) => {
        await expect(runtime.createContainer({ podSandboxId: other, config: debug })).rejects.toMatchObject({
          code: 'INVALID_ARGUMENT',
        });
      });
      const late =
        (await runtime.createContainer({ podSandboxId, config: { ...debug, metadata: { name: 'late' } } }))
          .containerId ?? '';
      await runtime.stopContainer({ containerId: target });
      await expect(runtime.startContainer({ containerId: late })).rejects.toMatchObject({
        code: 'INVALID_STATE',
      });
    });
  });
});

describe('an image as a volume', () => {
  const VOLUME = 'test.local/volume:1';
  beforeAll(async () => {
    const directory = mkdtempSync(join(fixture.base, 'model-'));
    mkdirSync(join(directory, 'weights'));
    writeFileSync(join(directory, 'weights', 'a'), 'from an image');
    symlinkSync('/etc', join(directory, 'out'));
    await fixture.images.pack(VOLUME, [`${directory}/weights/a:/weights/a`, '/bin/busybox:/bin/echo']);
  });

  const users = [{ hostId: 300_000, containerId: 0, length: 65_536 }];
  const mapped: PodOptions = {
    sandbox: {
      namespaceOptions: {
        network: NamespaceMode.POD,
        pid: NamespaceMode.CONTAINER,
        ipc: NamespaceMode.POD,
        usernsOptions: { mode: NamespaceMode.POD, uids: users, gids: users },
      },
    },
  };

  describe.each([
    ['', {}],
    ['with a user namespace, ', mapped],
  ] as const)('%s', (_, pod) => {
    test('is read-only and whole', async () => {
      const mounts = [{ containerPath: '/model', image: { image: VOLUME } }];
      const output = await inside(
        'cat /model/weights/a; echo; stat -c %u /model/weights/a; /model/bin/echo runs; touch /model/x; true',
        { mounts },
        pod,
      );
      expect(output).toBe('from an image\n0\nruns\ntouch: /model/x: Read-only file system\n');
    });

    test('by a directory of it', async () => {
      const mounts = [{ containerPath: '/w', image: { image: VOLUME }, imageSubPath: 'weights' }];
      expect(await inside('ls /w; cat /w/a', { mounts }, pod)).toBe('a\nfrom an image');
    });

    test('fails to start where that directory is not there', async () => {
      const mounts = [{ containerPath: '/w', image: { image: VOLUME }, imageSubPath: 'nothing' }];
      await expect(inside('true', { mounts }, pod)).rejects.toMatchObject({
        code: 'START_FAILED',
        message: expect.stringContaining('nothing'),
      });
    });
  });

  test('keeps its layers while a container has it, and not longer', async () => {
    await withPod({}, async (podSandboxId) => {
      const mounts = [{ containerPath: '/model', image: { image: VOLUME } }];
      const containerId = await start(podSandboxId, containerConfig(['sleep', '1000'], { mounts }));
      expect(fixture.images.snapshotKeys().sort()).toEqual([containerId, `${containerId}-0`]);
      await expect(fixture.images.remove(VOLUME)).rejects.toMatchObject({ code: 'IMAGE_IN_USE' });
      const next = await fixture.restart();
      expect(fixture.images.snapshotKeys().sort()).toEqual([containerId, `${containerId}-0`]);
      await next.removeContainer({ containerId });
      expect(fixture.images.snapshotKeys()).toEqual([]);
    });
  });
});

describe('devices', () => {
  test('are there with the rights that were asked for', async () => {
    const devices = [
      { hostPath: '/dev/zero', containerPath: '/dev/my/zero', permissions: 'r' },
      { hostPath: '/dev/kmsg', permissions: 'w' },
    ];
    const output = await inside(
      'head -c 2 /dev/my/zero | wc -c; (: < /dev/kmsg) 2>&1; : > /dev/kmsg && echo written',
      { devices },
    );
    expect(output).toMatch(/^2\n.*kmsg: Operation not permitted\nwritten\n$/);
  });

  test('in a user namespace are bound from where they are on the host', async () => {
    const users = [{ hostId: 300_000, containerId: 0, length: 65_536 }];
    const devices = [{ hostPath: '/dev/zero', containerPath: '/dev/other', permissions: 'rw' }];
    const namespaceOptions = {
      pid: NamespaceMode.CONTAINER,
      usernsOptions: { mode: NamespaceMode.POD, uids: users, gids: users },
    };
    expect(await inside('head -c 3 /dev/other | wc -c', { devices }, { sandbox: { namespaceOptions } })).toBe(
      '3\n',
    );
  });
});

describe('CDI', () => {
  beforeAll(() => {
    const directory = join(fixture.base, 'cdi');
    mkdirSync(directory);
    const given = join(fixture.base, 'given');
    writeFileSync(given, 'a gift');
    chmodSync(given, 0o644);
    writeFileSync(
      join(directory, 'toy.yaml'),
      `cdiVersion: "0.6.0"
kind: example.com/toy
containerEdits:
  env: [TOY_ALL=1]
devices:
- name: zero
  containerEdits:
    env: [TOY=zero]
    deviceNodes:
    - {path: /dev/toy0, hostPath: /dev/zero, permissions: r}
    mounts:
    - {hostPath: ${given}, containerPath: /given, options: [ro, nosuid, nodev, bind]}
    additionalGids: [4242]
- name: hooked
  containerEdits:
    hooks: [{hookName: createContainer, path: /bin/true}]
`,
    );
  });

  const script =
    'echo $TOY $TOY_ALL; head -c 2 /dev/toy0 | wc -c; cat /given; echo; touch /given 2>&1; grep Groups /proc/self/status';
  const expected = /^zero 1\n2\na gift\n.*Read-only file system\nGroups:\t0 4242 ?\n$/;

  test('gives what its files say, by the field', async () => {
    expect(await inside(script, { CDIDevices: [{ name: 'example.com/toy=zero' }] })).toMatch(expected);
  });

  test('and by an annotation', async () => {
    expect(await inside(script, { annotations: { 'cdi.k8s.io/test': 'example.com/toy=zero' } })).toMatch(
      expected,
    );
  });

  test('an exec has it, too', async () => {
    await withPod({}, async (podSandboxId) => {
      const config = containerConfig(['sleep', '1000'], { CDIDevices: [{ name: 'example.com/toy=zero' }] });
      const containerId = await start(podSandboxId, config);
      const { stdout } = await fixture.runtime.execSync({ containerId, cmd: sh('echo $TOY') });
      expect(Buffer.from(stdout ?? '').toString()).toBe('zero\n');
    });
  });

  test('refuses what it would have to leave out', async () => {
    expect(await refused({ CDIDevices: [{ name: 'example.com/toy=hooked' }] })).toMatchObject({
      code: 'CDI_EDIT_UNSUPPORTED',
    });
  });
});

describe('the rest of a request', () => {
  test('a host path that is not there becomes a directory', async () => {
    const hostPath = join(fixture.base, 'made', 'here');
    expect(await inside('ls -A /x | wc -l', { mounts: [{ containerPath: '/x', hostPath }] })).toBe('0\n');
    expect(statSync(hostPath).isDirectory()).toBe(true);
    rmSync(join(fixture.base, 'made'), { recursive: true });
  });

  test('propagation needs a source that the host shares, also behind a link', async () => {
    const link = join(fixture.base, 'link');
    symlinkSync('/proc/self/ns', link);
    const mounts = [
      { containerPath: '/x', hostPath: '/dev/pts', propagation: MountPropagation.PROPAGATION_BIDIRECTIONAL },
    ];
    const table = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
    const isShared = table.some((line) => line.split(' ')[4] === '/dev/pts' && line.includes(' shared:'));
    if (!isShared) expect(await refused({ mounts })).toMatchObject({ code: 'MOUNT_NOT_SHARED' });
    rmSync(link);
  });

  test.each([
    ['SIGRTMINPLUS2', 36],
    ['SIGUSR1', 10],
    ['SIGRTMAXMINUS1', 63],
  ] as const)('%s stops it', async (name, number) => {
    await withPod({}, async (podSandboxId, pod) => {
      const config = containerConfig(
        sh(`trap 'echo got; exit 0' ${number}; echo ready; while :; do sleep 1 & wait $!; done`),
        { stopSignal: Signal[name] },
      );
      const containerId = await start(podSandboxId, config);
      await expect.poll(() => logText(fixture, pod)).toContain('ready');
      expect((await fixture.runtime.containerStatus({ containerId })).status?.stopSignal).toBe(Signal[name]);
      await fixture.runtime.stopContainer({ containerId, timeout: 20 });
      expect(logText(fixture, pod)).toContain('got');
    });
  });

  test('a limit of memory allows no swap unless that is said', async () => {
    const limit = 64 * 2 ** 20;
    const read =
      'cat /sys/fs/cgroup/memory.swap.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes 2>/dev/null || echo none';
    const none = await inside(read, { linux: { resources: { memoryLimitInBytes: limit } } });
    expect(['0\n', `${limit}\n`, 'none\n']).toContain(none);
    if (none === 'none\n') return;
    const some = await inside(read, {
      linux: { resources: { memoryLimitInBytes: limit, memorySwapLimitInBytes: limit * 2 } },
    });
    expect([`${limit}\n`, `${limit * 2}\n`]).toContain(some);
    expect(some).not.toBe(none);
  });
});
