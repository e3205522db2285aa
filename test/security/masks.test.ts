/** What of the kernel a container may see and change: masked and read-only paths, control groups, system calls. */
import { existsSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ProfileType } from '../../src/cri/index.ts';
import { readCgroupHost } from '../../src/linux/cgroups/index.ts';
import { type Battlefield, inPod, MASKS, openBattlefield, USER_NAMESPACE } from '../fixtures/attack.ts';
import { type ContainerOptions, containerConfig } from '../fixtures/runtime.ts';

let field: Battlefield;
beforeAll(async () => {
  field = await openBattlefield();
});
afterAll(async () => {
  await field?.close();
});

const kinds = [
  ['', {}],
  [' with users of its own', { sandbox: USER_NAMESPACE }],
] as const;

async function inside(
  command: readonly string[],
  options: ContainerOptions = {},
  pod: (typeof kinds)[number][1] = {},
): Promise<string> {
  return await inPod(
    field,
    async (one) => {
      const { code, output } = await one.run(command, options);
      return code === 0 ? output : `${output}exit ${code}`;
    },
    pod,
  );
}

const sh = (script: string): string[] => ['sh', '-c', script];

describe('a default container', () => {
  test.each(kinds)('masks: sees nothing behind any of them, in a pod%s', async (_name, pod) => {
    // There has to be something to hide, here and in the container.
    const there = MASKS.filter((path) => existsSync(path));
    expect(there.length).toBeGreaterThan(0);
    expect(await inside(['attacker', 'masks', ...MASKS], {}, pod)).toBe('');
    const mounts = await inside(sh('cat /proc/self/mountinfo'), {}, pod);
    for (const path of there) expect(mounts).toContain(` ${path} `);
  });

  // GHSA-6w8g-vr9m-fjwf: writing to /proc/scsi could detach a disk
  test('CVE-2018-10892: writes neither to /proc/acpi nor to /proc/scsi', async () => {
    for (const path of ['/proc/acpi', '/proc/scsi']) expect(MASKS).toContain(path);
    const script =
      'for d in /proc/acpi /proc/scsi; do [ -d $d ] || continue; ls -A $d; touch $d/x 2>&1; done';
    for (const line of (await inside(sh(script))).split('\n').filter(Boolean))
      expect(line).toMatch(/Read-only file system|No space left|Permission denied/);
  });

  // GHSA-x27x-cf9q-74mr (PLATYPUS): the energy that others use
  test('CVE-2020-8694: reads no power meter', async () => {
    expect(MASKS).toContain('/sys/devices/virtual/powercap');
    expect(
      await inside(sh('find /sys/devices/virtual/powercap /sys/class/powercap/*/ -type f 2>/dev/null; true')),
    ).toBe('');
  });

  // GHSA-6fw5-f8r9-fgfm: who types and who computes shows in counters of interrupts
  test('GHSA-6fw5: reads no counters of interrupts and of heat', async () => {
    const script =
      'cat /proc/interrupts; for d in /sys/devices/system/cpu/cpu*/thermal_throttle; do [ ! -d $d ] || ls -A $d; done';
    expect(await inside(sh(script))).toBe('');
  });
});

describe('control groups', () => {
  const attack = `for f in $(find /sys/fs/cgroup -name cgroup.procs -o -name tasks -o -name release_agent -o -name memory.max -o -name memory.limit_in_bytes); do
    echo 0 2>/dev/null > $f && echo "wrote $f"; done
  made() { for p in $(find /sys/fs/cgroup -name cgroup.procs); do mkdir \${p%/*}/made 2>/dev/null && echo "made a group by $p"; done; }
  made; mount -o remount,rw /sys/fs/cgroup 2>/dev/null; mount -o remount,rw,bind /sys/fs/cgroup 2>/dev/null
  made; true`;

  // GHSA-m8cg-xc2p-r3fc: with the host's cgroup namespace the tree was writable
  test('CVE-2023-25809: are not written from a default container', async () => {
    expect(await inside(sh(attack))).toBe('');
  });

  test('CVE-2023-25809: nor by the root of a user namespace who may mount', async () => {
    const security = {
      capabilities: { addCapabilities: ['SYS_ADMIN'] },
      seccomp: { profileType: ProfileType.Unconfined },
    };
    expect(await inside(sh(attack), { security }, { sandbox: USER_NAMESPACE })).toBe('');
    // The host's whole tree, which a privileged container sees, is the host's.
    expect(
      await inside(
        sh(attack),
        { security: { privileged: true } },
        { sandbox: { ...USER_NAMESPACE, privileged: true } },
      ),
    ).toBe('');
  });

  // GHSA-cxfp-7pvr-95ff: the pod's own limits were not those of the container's group
  test('CVE-2025-47291: hold a pod with users of its own: below its pod’s group, with its limits', async () => {
    const { runtime } = field;
    await inPod(
      field,
      async (pod) => {
        const parent = `${field.cgroupRoot}/kubepods/pod-${pod.name}`;
        const { record } = runtime.context.model.sandbox(pod.id);
        Object.assign(record.config, { linux: { ...record.config.linux, cgroupParent: parent } });
        const id = await pod.start(['sleep', '1000'], {
          linux: { resources: { memoryLimitInBytes: 64 << 20, cpuPeriod: 100_000, cpuQuota: 50_000 } },
        });
        const { pid } = runtime.context.model.container(id).record;
        const groups = readFileSync(`/proc/${pid}/cgroup`, 'utf8')
          .trim()
          .split('\n')
          .map((line) => line.split(':'));
        const host = readCgroupHost();
        const own = groups.filter(
          ([, controllers = '']) =>
            controllers === '' || controllers.split(',').some((one) => one in host.controllers),
        );
        expect(own.length).toBeGreaterThan(0);
        const memory =
          own.find(([, controllers = '']) => controllers.split(',').includes('memory')) ??
          own.find(([, controllers]) => controllers === '');
        expect(memory?.[2]).toBe(`${parent}/${id}`);
        // More than it may have: killed, and not in the host's name.
        const { exitCode } = await runtime.execSync({
          containerId: id,
          cmd: ['dd', 'if=/dev/zero', 'of=/dev/null', 'bs=200M', 'count=1'],
        });
        expect(exitCode).not.toBe(0);
      },
      { sandbox: USER_NAMESPACE },
    );
  });
});

describe('system calls', () => {
  // https://copy.fail: algif_aead wrote over pages that could only be read
  test('CVE-2026-31431: the kernel’s cryptography and the hypervisor’s sockets are closed', async () => {
    const families = ['AF_ALG', 'AF_VSOCK', 'AF_ALG above', 'AF_VSOCK above'];
    const closed = families.map((name) => `${name} EPERM\n`).join('');
    expect(await inside(['attacker', 'sockets'])).toBe(closed);
    expect(await inside(['attacker', 'sockets'], { security: { noNewPrivs: true } })).toBe(closed);
    // The filter says it, not the kernel's configuration.
    const open = await inside(['attacker', 'sockets'], {
      security: { seccomp: { profileType: ProfileType.Unconfined } },
    });
    expect(open).not.toContain('EPERM');
  });

  // https://github.com/kubernetes/kubernetes/issues/118690: a profile without a name was no profile
  test('CVE-2023-2431: a profile that is asked for and not there starts nothing', async () => {
    for (const localhostRef of [
      '',
      'localhost/',
      'relative.json',
      '/',
      '/nonesuch.json',
      field.base,
      '/dev/null',
      field.secret,
    ]) {
      const security = { seccomp: { profileType: ProfileType.Localhost, localhostRef } };
      await expect(
        inPod(field, async (pod) =>
          field.runtime.createContainer({
            podSandboxId: pod.id,
            config: containerConfig(['true'], { security }),
          }),
        ),
      ).rejects.toMatchObject({ code: expect.stringMatching(/^SECCOMP_PROFILE_(NOT_FOUND|INVALID)$/) });
    }
  });

  // GHSA-w2j5-3rcx-vx7x
  test('CVE-2022-0532: a pod in namespaces of the host sets no sysctl of the host', async () => {
    const read = (name: string): string => readFileSync(`/proc/sys/${name}`, 'utf8').trim();
    const before = [
      read('net/ipv4/tcp_fin_timeout'),
      read('kernel/shm_rmid_forced'),
      read('kernel/core_pattern'),
      read('vm/swappiness'),
    ];
    const host = { network: 2, ipc: 2, pid: 1 };
    const own = { network: 0, ipc: 0, pid: 1 };
    const attempts: [Record<string, string>, object][] = [
      [{ 'net.ipv4.tcp_fin_timeout': '61' }, host],
      [{ 'net/ipv4/tcp_fin_timeout': '61' }, host],
      [{ 'kernel.shm_rmid_forced': '1' }, host],
      // of no namespace
      [{ 'kernel.core_pattern': '|/x' }, own],
      [{ 'vm.swappiness': '1' }, own],
      // CVE-2022-0811: one sysctl in the value of another, and a path that leads out of what is a pod's own
      [{ 'kernel.shm_rmid_forced': '1+kernel.core_pattern=|/x' }, own],
      [{ 'net/../kernel/core_pattern': '|/x' }, own],
      [{ 'net.ipv4/../../kernel/core_pattern': '|/x' }, own],
    ];
    for (const [sysctls, namespaceOptions] of attempts)
      await expect(
        inPod(field, async () => {}, { sandbox: { namespaceOptions }, sysctls }),
      ).rejects.toThrow();
    expect([
      read('net/ipv4/tcp_fin_timeout'),
      read('kernel/shm_rmid_forced'),
      read('kernel/core_pattern'),
      read('vm/swappiness'),
    ]).toEqual(before);
  });
});
