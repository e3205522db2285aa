/** Who a program runs as, whatever image and request call it. */

import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { codeOf } from '../../src/base/index.ts';
import { SupplementalGroupsPolicy } from '../../src/cri/index.ts';
import { type Battlefield, inPod, openBattlefield, USER_MAP, USER_NAMESPACE } from '../fixtures/attack.ts';
import { file } from '../fixtures/registry-images.ts';
import type { ContainerOptions } from '../fixtures/runtime.ts';

let field: Battlefield;
beforeAll(async () => {
  field = await openBattlefield();
});
afterAll(async () => {
  await field?.close();
});

const PASSWD =
  'root:x:0:0::/root:/bin/sh\n1000:x:0:0::/root:/bin/sh\nann:x:1001:1002::/home/ann:/bin/sh\n0x1:x:7:7::/:/bin/sh\n';
const GROUP = 'root:x:0:\nann:x:1002:\nwheel:x:10:ann\nshadow:x:42:ann,root\n1000:x:0:\n';

async function imageOf(user: string): Promise<string> {
  return await field.image('test.local/users:1', [file('etc/passwd', PASSWD), file('etc/group', GROUP)], {
    User: user,
  });
}

/** `uid gid groups…`, or the code of what was refused. */
async function idsOf(options: ContainerOptions, image?: string): Promise<string> {
  return await inPod(field, async (pod) => {
    try {
      const { output } = await pod.run(
        ['sh', '-c', "echo $(id -u) $(id -g) $(grep Groups: /proc/self/status | sed 's/Groups:.//')"],
        {
          ...(image === undefined ? {} : { image: { image } }),
          ...options,
        },
      );
      return output.trim();
    } catch (error) {
      return codeOf(error) ?? String(error);
    }
  });
}

describe('a user', () => {
  // GHSA-q3j5-32m5-58c2: an image's passwd had a root by the name of a number
  test.each([
    ['USER 1000 of the image', '1000', {}],
    ['runAsUser 1000', '', { runAsUser: { value: 1000 } }],
    ['runAsUserName 1000', '', { runAsUsername: '1000' }],
  ])(
    'CVE-2016-3697: that is a number is that number, not whoever has it for a name: %s',
    async (_name, user, security) => {
      expect(await idsOf({ security }, await imageOf(user))).toMatch(/^1000 0 /);
    },
  );

  // GHSA-4vg2-xjqj-7chj: `exec --user 1` became root
  test.each([
    ['1', '1 0 0'],
    ['01', '1 0 0'],
    ['0x1', '7 7 7'],
    ['ann', '1001 1002 10 42 1002'],
    ['0x2', 'INVALID_USER'],
    ['+1', 'INVALID_USER'],
    [' 1', 'INVALID_USER'],
    ['1 ', 'INVALID_USER'],
    ['1:2', 'INVALID_USER'],
    ['1e3', 'INVALID_USER'],
    ['１', 'INVALID_USER'],
    ['-1', 'INVALID_USER'],
    ['1\n', 'INVALID_USER'],
    [':0', 'INVALID_USER'],
  ])('CVE-2026-30892: by the name %j is exactly %j', async (runAsUsername, expected) => {
    expect(await idsOf({ security: { runAsUsername } }, await imageOf(''))).toBe(expected);
  });

  test.each([
    ['1:2', '1 2 2'],
    ['01:0x2', 'INVALID_USER'],
    ['ann:wheel', '1001 10 10 42'],
    ['1:', 'INVALID_USER'],
    ['1:2:3', 'INVALID_USER'],
  ])('CVE-2026-30892: and as USER %j of an image is %j', async (user, expected) => {
    expect(await idsOf({}, await imageOf(user))).toBe(expected);
  });

  // GHSA-265r-hfxg-fhmg: more than 32 bits came round to root
  test.each([4_294_967_296, 4_294_967_295, 2_147_483_648, -1, 2 ** 53, 1.5, Number.NaN])(
    'CVE-2024-40635: %d is refused, by request and by image, as user and as group',
    async (value) => {
      const own = { runAsUser: { value: 1 } };
      expect(await idsOf({ security: { runAsUser: { value } } })).toBe('INVALID_USER');
      expect(await idsOf({ security: { ...own, runAsGroup: { value } } })).toBe('INVALID_USER');
      expect(await idsOf({ security: { ...own, supplementalGroups: [value] } })).toBe('INVALID_USER');
      if (!Number.isInteger(value)) return;
      expect(await idsOf({}, await imageOf(String(value)))).toBe('INVALID_USER');
      expect(await idsOf({}, await imageOf(`1:${value}`))).toBe('INVALID_USER');
    },
  );
});

describe('groups', () => {
  // GHSA-rc4r-wh2q-q6c4, GHSA-hmfx-3pcx-653p, GHSA-phjr-8j92-w5v7: without its primary group among them a process shed it
  test('CVE-2022-36109: are exactly those of request and image, the primary one among them, once', async () => {
    const image = await imageOf('');
    const ann = { runAsUser: { value: 1001 } };
    expect(await idsOf({ security: ann }, image)).toBe('1001 1002 10 42 1002');
    expect(await idsOf({ security: { ...ann, supplementalGroups: [1002, 10, 10, 5] } }, image)).toBe(
      '1001 1002 5 10 42 1002',
    );
    const strict = { ...ann, supplementalGroupsPolicy: SupplementalGroupsPolicy.Strict };
    expect(await idsOf({ security: { ...strict, supplementalGroups: [5] } }, image)).toBe('1001 1002 5 1002');
    expect(await idsOf({ security: { ...strict, runAsGroup: { value: 77 } } }, image)).toBe('1001 77 77');
    // root of the image is in a group, root of no image in its own only
    expect(await idsOf({ security: { runAsUser: { value: 0 } } }, image)).toBe('0 0 0 42');
    expect(await idsOf({ security: { runAsUser: { value: 0 } } })).toBe('0 0 0');
  });

  test('CVE-2022-36109: what a group may not read, its member does not read by leaving it', async () => {
    const volume = field.directory('negative');
    writeFileSync(join(volume, 'file'), 'not for group 1002\n');
    chownSync(join(volume, 'file'), 0, 1002);
    chmodSync(join(volume, 'file'), 0o604);
    const image = await field.image(
      'test.local/negative:1',
      // setgid for another group, which takes the primary one away
      [
        file('etc/group', GROUP),
        file('etc/passwd', PASSWD),
        file('bin/other', field.program, { mode: 0o2755, gid: 10 }),
      ],
    );
    await inPod(field, async (pod) => {
      const { code, output } = await pod.run(['/bin/other', 'read', '/data/file'], {
        image: { image },
        mounts: [{ containerPath: '/data', hostPath: volume }],
        security: { runAsUser: { value: 1001 } },
      });
      expect({ code, output }).toEqual({ code: 0, output: 'EACCES\n' });
    });
  });
});

describe('privileges', () => {
  // https://github.com/cri-o/cri-o/pull/1558
  test('CVE-2018-1000400: whoever is not root has none, whatever is added', async () => {
    for (const addCapabilities of [[], ['NET_RAW', 'SYS_ADMIN'], ['ALL']]) {
      await inPod(field, async (pod) => {
        const { output } = await pod.run(['sh', '-c', 'grep -E "Cap(Inh|Prm|Eff|Amb)" /proc/self/status'], {
          security: { runAsUser: { value: 1000 }, capabilities: { addCapabilities } },
        });
        expect(output.match(/[0-9a-f]{16}/g)).toEqual(Array.from({ length: 4 }, () => '0'.repeat(16)));
      });
    }
  });

  // https://github.com/cri-o/cri-o/security/advisories (2023-6476): prefixes of annotations were permissions
  test('CVE-2023-6476: no annotation, of whichever runtime, changes anything', async () => {
    const annotations = Object.fromEntries([
      ['io.kubernetes.cri-o.UnifiedCgroup.c', 'memory.max=max'],
      ['io.kubernetes.cri-o.UnifiedCgroup', 'memory.max=max'],
      ['io.kubernetes.cri-o.UnifiedCgroupX.c', 'memory.max=max'],
      ['io.kubernetes.cri-o.Devices', '/dev/kmsg'],
      ['io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw', 'true'],
      ['io.kubernetes.cri-o.userns-mode', 'auto'],
      ['io.kubernetes.cri-o.Unmask', '/proc/interrupts'],
      ['io.kubernetes.cri-o.ShmSize', '1Gi'],
      ['io.podman.annotations.privileged', 'TRUE'],
      ['io.podman.annotations.seccomp', 'unconfined'],
      ['run.oci.keep_original_groups', '1'],
      ['run.oci.seccomp_fail_unknown_syscall', '0'],
      ['run.oci.hooks.stdout', join(field.base, 'hook')],
      ['org.systemd.property.DevicePolicy', "'auto'"],
      ['seccomp.security.alpha.kubernetes.io/pod', 'unconfined'],
      ['container.apparmor.security.beta.kubernetes.io/c', 'unconfined'],
      ['io.nodelet.privileged', 'true'],
    ] as const);
    const look = [
      'sh',
      '-c',
      'cat /proc/self/status | grep -E "^(Cap|Seccomp|NoNew|Groups|Uid|Gid)"; cut -d" " -f3- /proc/self/mountinfo | sed "s/[0-9a-f]\\{64\\}//g; s/[0-9]*:[0-9]*//" | grep -vE "(upper|work)dir"; ls /dev; cat /proc/self/limits; wc -c < /proc/interrupts',
    ];
    const plain = await inPod(field, async (pod) => (await pod.run(look)).output);
    const annotated = await inPod(field, async (pod) => {
      const { record } = field.runtime.context.model.sandbox(pod.id);
      // Devices by annotation are for a container's, which a kubelet writes; a pod's are anybody's.
      Object.assign(record.config, {
        annotations: { ...annotations, 'cdi.k8s.io/x': 'vendor.example/device=all' },
      });
      return (await pod.run(look, { annotations, labels: annotations })).output;
    });
    const stable = (text: string): string =>
      text.replace(/nodelet-rt-\w+|\/sandboxes\/\S*|master:\d+|shared:\d+/g, '');
    expect(stable(annotated)).toBe(stable(plain));
    expect(plain).toContain('Seccomp:\t2');
    expect(readdirSync(field.base)).not.toContain('hook');
  });
});

describe('files of users', () => {
  // https://github.com/cri-o/cri-o/security/advisories/GHSA-cm9x-c3rh-7rc4
  test('CVE-2022-4318: a line in HOME is no line of /etc/passwd', async () => {
    const image = await imageOf('');
    const home = '/\nx:x:0:0::/:/bin/sh';
    await inPod(field, async (pod) => {
      const { output } = await pod.run(['cat', '/etc/passwd'], {
        image: { image },
        envs: [{ key: 'HOME', value: home }],
        workingDir: '/tmp',
        security: { runAsUser: { value: 4242 } },
      });
      expect(output).toBe(PASSWD);
    });
    for (const hostname of ['a\n1.2.3.4 b', 'a b', 'a\0b', 'a/b'])
      await expect(inPod(field, async () => {}, { hostname })).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      });
  });
});

describe('a pod with users of its own', () => {
  // GHSA-7452-xqpj-6rpc: the remapped root owned the daemon's directories
  test('CVE-2021-21284: its root, outside, reaches nothing of ours, and owns nothing but what it wrote', async () => {
    const uid = USER_MAP[0]?.hostId ?? 0;
    await inPod(
      field,
      async (pod) => {
        const id = await pod.start(['sh', '-c', 'echo mine > /mine; sleep 1000']);
        const as = (command: readonly string[]): string => {
          const words = [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', ...command];
          const { stdout, stderr } = spawnSync('setpriv', words, { encoding: 'utf8' });
          return stdout + stderr;
        };
        for (const path of [
          'root',
          'state',
          'root/snapshots',
          'root/volumes',
          'state/sandboxes',
          `root/snapshots/active/${id}`,
        ]) {
          expect(as(['ls', join(field.base, path)])).toMatch(/Permission denied|No such file/);
          expect(as(['touch', join(field.base, path, 'x')])).toMatch(/Permission denied|No such file/);
          expect(as(['mv', join(field.base, path), join(field.base, 'moved')])).toMatch(
            /Permission denied|No such file/,
          );
        }
        const owned = execFileSync(
          'find',
          [join(field.base, 'root'), join(field.base, 'state'), '-uid', String(uid), '-printf', '%P\\n'],
          { encoding: 'utf8' },
        );
        const allowed = /^snapshots\/active\/[0-9a-f]{64}\/(upper|work)(\/.*)?$/;
        for (const path of owned.trim().split('\n')) expect(path).toMatch(allowed);
        expect(statSync(join(field.base, 'root')).mode & 0o777).toBe(0o700);
        expect(statSync(join(field.base, 'state')).mode & 0o777).toBe(0o700);
      },
      { sandbox: USER_NAMESPACE },
    );
  });

  // GHSA-mvff-h3cj-wj9c: a file of the host that was mounted got another label
  test('CVE-2021-43816: what is mounted of the host keeps owner, mode and attributes', async () => {
    const volume = field.directory('kept');
    writeFileSync(join(volume, 'file'), 'x');
    const script =
      'import os, sys\nfor p in sys.argv[1:]: s = os.stat(p); print(p, s.st_uid, s.st_gid, oct(s.st_mode), [(x, os.getxattr(p, x)) for x in os.listxattr(p)])';
    const look = (): string =>
      execFileSync('python3', ['-c', script, volume, join(volume, 'file'), '/etc/hosts'], {
        encoding: 'utf8',
      });
    const before = look();
    for (const sandbox of [{}, USER_NAMESPACE]) {
      await inPod(
        field,
        async (pod) => {
          const ids = sandbox === USER_NAMESPACE ? { uidMappings: USER_MAP, gidMappings: USER_MAP } : {};
          const mounts = [
            { hostPath: volume, containerPath: '/data', selinuxRelabel: true, ...ids },
            { hostPath: join(volume, 'file'), containerPath: '/etc/hosts', selinuxRelabel: true, ...ids },
            { hostPath: '/etc/hosts', containerPath: '/data/hosts', selinuxRelabel: true, readonly: true },
          ];
          await pod.run(['cat', '/data/file'], { mounts: mounts.slice(0, 2) }).catch(() => {});
          await pod.run(['cat', '/etc/hosts'], { mounts: mounts.slice(1, 2) }).catch(() => {});
        },
        { sandbox },
      );
    }
    expect(look()).toBe(before);
  });
});
