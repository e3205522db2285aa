/** Images and requests whose names lead elsewhere: links, mount points, numbers that do not fit, ids that are paths. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { codeOf } from '../../src/base/index.ts';
import { NamespaceMode } from '../../src/cri/index.ts';
import { mountsUnder, readMountinfo } from '../../src/linux/mountinfo.ts';
import {
  ATTACKERS,
  type Battlefield,
  inPod,
  openBattlefield,
  refusal,
  USER_NAMESPACE,
} from '../fixtures/attack.ts';
import { dir, file, symlink } from '../fixtures/registry-images.ts';
import type { ContainerOptions } from '../fixtures/runtime.ts';

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

/** What comes of a start: the exit code, or why there was none. */
async function attempt(
  command: readonly string[],
  container: ContainerOptions,
  pod: (typeof kinds)[number][1] = {},
): Promise<string> {
  return await inPod(
    field,
    async (one) => {
      try {
        const { code, output } = await one.run(command, container);
        return `exit ${code} ${output}`.trim();
      } catch (error) {
        return refusal(error);
      }
    },
    pod,
  );
}

describe('/proc', () => {
  // GHSA-fgv8-vj5c-2ppq
  test('CVE-2019-16884: no VOLUME of an image lies in it', async () => {
    for (const volume of ['/proc', '/proc/self/attr', '/x/../proc/self']) {
      const image = await field.image('test.local/volume:1', [], { Volumes: { [volume]: {} } });
      expect(await attempt(['true'], { image: { image } })).toBe('INVALID_MOUNT');
    }
  });

  test.each(kinds)(
    'CVE-2019-16884: nothing else is mounted in its place or onto its files, in a pod%s',
    async (_name, pod) => {
      const volume = field.directory('fake');
      writeFileSync(join(volume, 'file'), '');
      const image = await field.image('test.local/link-to-proc:1', [symlink('way', '/proc')]);
      const at = async (containerPath: string, hostPath: string): Promise<string> =>
        await attempt(
          ['attacker', 'look', field.secret, '/'],
          { image: { image }, mounts: [{ containerPath, hostPath }] },
          pod,
        );
      expect(await at('/proc', volume)).toBe('START_FAILED EXDEV');
      expect(await at('/proc/self/attr', volume)).toBe('START_FAILED EXDEV');
      expect(await at('/way/sys', volume)).toBe('START_FAILED EXDEV');
      expect(await at('/way/self/status', join(volume, 'file'))).toBe('START_FAILED EXDEV');
      // What lxcfs does is no attack.
      expect(await at('/proc/uptime', join(volume, 'file'))).toBe('exit 0');
    },
  );

  // GHSA-fh74-hm69-rqjw, GHSA-vpvm-3wq2-2wvm, GHSA-g2j6-57v7-gm8c
  test.each(kinds)(
    'CVE-2023-27561: neither it nor /sys is a link of the image, in a pod%s',
    async (_name, pod) => {
      const volume = field.directory('fake');
      for (const name of ['proc', 'sys']) {
        const image = await field.image(`test.local/linked-${name}:1`, [dir('fake'), symlink(name, 'fake')]);
        const mounts = [{ containerPath: '/fake', hostPath: volume }];
        expect(await attempt(['true'], { image: { image }, mounts }, pod)).toBe('START_FAILED ELOOP');
      }
      expect(readdirSync(volume)).toEqual([]);
    },
  );
});

describe('an image', () => {
  // GHSA-xjvp-4fhw-gc47, GHSA-7vwr-4279-7gq5
  test.each(kinds)(
    'CVE-2026-41579: whose /dev is a link to a directory of the host changes nothing there, in a pod%s',
    async (_name, pod) => {
      const host = field.directory('dev');
      writeFileSync(join(host, 'ptmx'), 'of the host', { mode: 0o666 });
      const image = await field.image('test.local/linked-dev:1', [symlink('dev', host)]);
      for (const tty of [false, true])
        expect(await attempt(['true'], { image: { image }, tty }, pod)).toBe('START_FAILED ELOOP');
      expect(readdirSync(host)).toEqual(['ptmx']);
      expect(readFileSync(join(host, 'ptmx'), 'utf8')).toBe('of the host');
    },
  );

  // https://github.com/containers/crun/issues/111: the point of a mount is made where a link leads
  test.each(kinds)(
    'CVE-2019-18837: whose mount points are links to the host has them in itself, in a pod%s',
    async (_name, pod) => {
      const host = field.directory('points');
      const volume = field.directory('volume');
      writeFileSync(join(volume, 'file'), '');
      // One for each, so that the first refusal does not hide the others.
      const ways = [
        [symlink('etc/resolv.conf', join(host, 'resolv.conf')), '/etc/nothing', volume],
        [symlink('directory', host), '/directory/made', volume],
        [symlink('directory', host), '/directory/file', join(volume, 'file')],
        [symlink('up', '../../../../../../..'), `/up${host}/climbed`, volume],
      ] as const;
      for (const [link, containerPath, hostPath] of ways) {
        const image = await field.image('test.local/linked-points:1', [link]);
        const result = await attempt(
          ['attacker', 'look', field.secret, '/', '/directory', '/up'],
          { image: { image }, mounts: [{ containerPath, hostPath }] },
          pod,
        );
        expect(result).toBe('exit 0');
        expect(readdirSync(host)).toEqual([]);
      }
    },
  );

  test('whose mount points are links to what is not there yet has it made, inside, as with runc', async () => {
    const volume = field.directory('volume');
    writeFileSync(join(volume, 'file'), 'of the volume');
    const image = await field.image('test.local/dangling:1', [
      symlink('etc/resolv.conf', '../run/systemd/resolve/stub-resolv.conf'),
      symlink('etc/one', 'two'),
      symlink('etc/two', '/run/three'),
      symlink('opt', 'run/opt/./real'),
      symlink('loop', 'loop'),
    ]);
    const mounts = [
      { containerPath: '/etc/one', hostPath: join(volume, 'file') },
      { containerPath: '/opt/app', hostPath: volume },
    ];
    const script =
      'cat /run/three /run/opt/real/app/file; test -s /run/systemd/resolve/stub-resolv.conf; echo " $?"';
    expect(await attempt(['sh', '-c', script], { image: { image }, mounts })).toBe(
      'exit 0 of the volumeof the volume 0',
    );
    const endless = [{ containerPath: '/loop/x', hostPath: volume }];
    expect(await attempt(['true'], { image: { image }, mounts: endless })).toBe('START_FAILED ELOOP');
  });

  // GHSA-f42g-r5jj-qh4j: what the runtime writes into a root was written through a link
  test.each(kinds)(
    'CVE-2025-24965: finds nothing written by us through its links, in a pod%s',
    async (_name, pod) => {
      const host = field.directory('written');
      const names = ['hosts', 'hostname', 'resolv.conf', 'mtab', 'passwd', 'group'];
      for (const name of names) writeFileSync(join(host, name), `${name} of the host`, { mode: 0o666 });
      const image = await field.image('test.local/linked-files:1', [
        ...names.map((name) => symlink(`etc/${name}`, join(host, name))),
        symlink('.dockerenv', join(host, 'hosts')),
        symlink('.krun_config.json', join(host, 'hosts')),
      ]);
      await attempt(['true'], { image: { image } }, pod);
      const linked = await field.image('test.local/linked-directory:1', [symlink('work', host)]);
      await attempt(['true'], { image: { image: linked }, workingDir: '/work/made' }, pod);
      for (const name of names) expect(readFileSync(join(host, name), 'utf8')).toBe(`${name} of the host`);
      expect(readdirSync(host).sort()).toEqual([...names].sort());
    },
  );

  // https://dirtypipe.cm4all.com
  test('CVE-2022-0847: whose file may only be read is not written through a pipe, and its layer is as it was', async () => {
    const content = 'this is what the layer says\n';
    const image = await field.image('test.local/dirty:1', [file('etc/victim', content)]);
    expect(await attempt(['attacker', 'pipe', '/etc/victim'], { image: { image } })).toBe(
      'exit 0 it says nothing of ours',
    );
    const layers = join(field.base, 'root/snapshots/layers');
    const victims = readdirSync(layers).flatMap((layer) => {
      try {
        return [readFileSync(join(layers, layer, 'fs/etc/victim'), 'utf8')];
      } catch {
        return [];
      }
    });
    expect(victims).toEqual([content]);
  });
});

describe('a request', () => {
  // GHSA-v95c-p5hm-xq8f: a length that wrapped left the rest to be read as attributes of the attacker's choice
  test('CVE-2021-43784: with more than 65,535 bytes in a word is refused or carried whole, never cut', async () => {
    const long = (size: number): string => `/${'x'.repeat(size - 1)}`;
    for (const size of [0x1_0000, 0x1_0004, 0x2_0000]) {
      const mounts = [{ containerPath: '/data', hostPath: long(size) }];
      expect(await attempt(['true'], { mounts })).toMatch(
        /^(MOUNT_SOURCE_UNUSABLE|START_FAILED ENAMETOOLONG)$/,
      );
      const target = [{ containerPath: long(size), hostPath: field.directory('volume') }];
      expect(await attempt(['true'], { mounts: target })).toBe('START_FAILED ENAMETOOLONG');
    }
    // The kernel takes 128 KiB for one word.
    const value = 'y'.repeat(0x1_0000 + 3);
    const envs = [{ key: 'LONG', value }];
    expect(await attempt(['sh', '-c', 'echo ${#LONG}'], { envs })).toBe(`exit 0 ${value.length}`);
    const tooLong = [{ key: 'LONG', value: 'y'.repeat(0x2_0000) }];
    expect(await attempt(['true'], { envs: tooLong })).toBe('START_FAILED E2BIG');
    // A wrap of 32 bits cannot be reached: the id map's numbers are the kernel's to judge.
    const map = [{ hostId: 2 ** 32 - 1, containerId: 0, length: 2 ** 32 - 1 }];
    const sandbox = {
      namespaceOptions: {
        ...USER_NAMESPACE.namespaceOptions,
        usernsOptions: { mode: NamespaceMode.POD, uids: map, gids: map },
      },
    };
    await expect(inPod(field, async () => {}, { sandbox })).rejects.toThrow();
  });

  test('ids: that names something by a path, or by nothing, finds nothing and changes nothing', async () => {
    const { runtime } = field;
    const marker = field.directory('marker');
    const before = mountsUnder(readMountinfo(), field.base);
    await inPod(field, async (pod) => {
      const running = await pod.start(['sleep', '1000']);
      const ids = [
        '',
        '.',
        '..',
        '../x',
        '../../etc',
        `../..${marker}`,
        'a/b',
        '/',
        `${running}/..`,
        `${running}\0`,
        'x'.repeat(300),
        '%',
        '*',
      ];
      const outcomes = ids.map(async (id) => {
        const calls = [
          runtime.containerStatus({ containerId: id }),
          runtime.startContainer({ containerId: id }),
          runtime.execSync({ containerId: id, cmd: ['true'] }),
          runtime.podSandboxStatus({ podSandboxId: id }),
          runtime.createContainer({
            podSandboxId: id,
            config: { metadata: { name: 'c' }, image: { image: ATTACKERS }, command: ['true'] },
          }),
        ];
        const settled = await Promise.allSettled(calls);
        return settled.map((one) => (one.status === 'rejected' ? codeOf(one.reason) : 'done'));
      });
      for (const codes of await Promise.all(outcomes))
        for (const code of codes) expect(code).toMatch(/^(NOT_FOUND|INVALID_ARGUMENT)$/);
      // Stop and remove are idempotent: of what is not there they say nothing, and leave the rest alone.
      for (const id of ids) {
        await runtime.stopContainer({ containerId: id, timeout: 0 }).catch(() => {});
        await runtime.removeContainer({ containerId: id }).catch(() => {});
        await runtime.removePodSandbox({ podSandboxId: id }).catch(() => {});
      }
      expect((await runtime.containerStatus({ containerId: running })).status?.state).toBe(1);
    });
    expect(readdirSync(marker)).toEqual([]);
    expect(mountsUnder(readMountinfo(), field.base)).toEqual(before);
  });

  // https://github.com/cri-o/cri-o/pull/8968: paths of logs were built from a pod's annotations
  test('CVE-2025-0750: has no path out of its annotations, and its log stays in its pod’s directory', async () => {
    const { runtime } = field;
    const before = readMountinfo().map(({ mountPoint }) => mountPoint);
    const host = field.directory('logs-of-the-host');
    const evil = `../../../../../../../..${host}`;
    await inPod(field, async (pod) => {
      const { record } = runtime.context.model.sandbox(pod.id);
      const annotations = Object.fromEntries(
        [
          'io.kubernetes.cri-o.LinkLogs',
          'io.kubernetes.cri-o.LogPath',
          'io.kubernetes.cri-o.MountPoint',
          'emptyDirVolumeName',
          'io.kubernetes.pod.uid',
        ].map((key) => [key, evil]),
      );
      Object.assign(record.config, { annotations });
      await pod.run(['echo', 'x'], { annotations, labels: annotations });
      for (const logPath of [`${evil}/0.log`, '../0.log', 'a/../../0.log', `${host}/0.log`, '..', 'a/../..'])
        await expect(pod.run(['true'], { logPath })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    });
    expect(readdirSync(host)).toEqual([]);
    expect(readMountinfo().map(({ mountPoint }) => mountPoint)).toEqual(before);
  });
});
