import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type LocalMount, MountPropagation, NamespaceMode } from '../../../src/cri/index.ts';
import { MNT_DETACH, MS } from '../../../src/linux/constants.ts';
import { native } from '../../../src/linux/native.ts';
import { check } from '../../../src/linux/syscall-error.ts';
import {
  containerConfig,
  openRuntime,
  type PodOptions,
  type RuntimeFixture,
  runToEnd,
  sandboxConfig,
  sh,
} from '../../fixtures/runtime.ts';

let fixture: RuntimeFixture;
let volume: string;
beforeAll(async () => {
  fixture = await openRuntime();
});
beforeEach(() => {
  volume = mkdtempSync(join(fixture.base, 'volume-'));
});
afterAll(async () => {
  await fixture?.close();
});

async function inside(
  script: string,
  mounts: readonly LocalMount[],
  pod: PodOptions = {},
  security = {},
): Promise<string> {
  const result = await runToEnd(fixture, sh(script), { mounts: [...mounts], security }, pod);
  if (result.exitCode > 1) throw new Error(`${result.exitCode} ${result.message}`);
  return result.output;
}

describe('a volume', () => {
  test('is read and written, with what lies below it', async () => {
    mkdirSync(join(volume, 'sub'));
    writeFileSync(join(volume, 'sub', 'a'), 'from the host');
    expect(
      await inside('cat /data/sub/a; echo back > /data/b', [{ containerPath: '/data', hostPath: volume }]),
    ).toBe('from the host');
    expect(readFileSync(join(volume, 'b'), 'utf8')).toBe('back\n');
  });

  test('that is read-only cannot be written', async () => {
    expect(
      await inside('touch /data/x; true', [{ containerPath: '/data', hostPath: volume, readonly: true }]),
    ).toMatch(/Read-only file system/);
  });

  test('may be a single file, on a path that the image does not have', async () => {
    writeFileSync(join(volume, 'f'), 'one file\n');
    expect(
      await inside('cat /deep/er/f; stat -c %F /deep/er/f', [
        { containerPath: '/deep/er/f', hostPath: join(volume, 'f') },
      ]),
    ).toBe('one file\nregular file\n');
  });

  test('inside another comes after it, whatever the order of the request', async () => {
    const inner = mkdtempSync(join(fixture.base, 'inner-'));
    writeFileSync(join(inner, 'x'), 'inner\n');
    const mounts = [
      { containerPath: '/data/in', hostPath: inner },
      { containerPath: '/data', hostPath: volume },
    ];
    expect(await inside('cat /data/in/x', mounts)).toBe('inner\n');
  });

  test('goes where a link in the image points, but stays in the root', async () => {
    writeFileSync(join(volume, 'x'), 'x\n');
    // /usr/bin of the image; a link inside the root is followed inside the root
    const script = 'ls -la /link/ | grep -c " x$"; ls /etc/../data 2>/dev/null; true';
    expect(await inside(script, [{ containerPath: '/link', hostPath: volume }])).toBe('1\n');
  });

  test('hides the runtime’s own file of that name', async () => {
    writeFileSync(join(volume, 'hosts'), '10.1.2.3 here\n');
    expect(
      await inside('cat /etc/hosts', [{ containerPath: '/etc/hosts', hostPath: join(volume, 'hosts') }]),
    ).toBe('10.1.2.3 here\n');
  });
});

describe('a sub-path', () => {
  test('is mounted alone', async () => {
    mkdirSync(join(volume, 'a/b'), { recursive: true });
    writeFileSync(join(volume, 'a/b/c'), 'deep\n');
    expect(
      await inside('cat /data/c; ls /data', [{ containerPath: '/data', hostPath: volume, subPath: 'a/b' }]),
    ).toBe('deep\nc\n');
  });

  test('may go through a link that stays in the volume', async () => {
    mkdirSync(join(volume, 'real'));
    writeFileSync(join(volume, 'real/f'), 'here\n');
    symlinkSync('real', join(volume, 'alias'));
    expect(
      await inside('cat /data/f', [{ containerPath: '/data', hostPath: volume, subPath: 'alias' }]),
    ).toBe('here\n');
  });

  test.each([
    ['a link to /', '/'],
    ['a link upwards', '../..'],
    ['a link to a process', '/proc/1/root'],
  ])('never leaves the volume by %s', async (_name, target) => {
    symlinkSync(target, join(volume, 's'));
    const { runtime } = fixture;
    const podSandboxId = (await runtime.runPodSandbox({ config: sandboxConfig(fixture) })).podSandboxId ?? '';
    const config = containerConfig(['ls', '/data'], {
      mounts: [{ containerPath: '/data', hostPath: volume, subPath: 's' }],
    });
    const containerId = (await runtime.createContainer({ podSandboxId, config })).containerId ?? '';
    await expect(runtime.startContainer({ containerId })).rejects.toThrow(
      /operation \d+ \(open-beneath\) "s": (EXDEV|ELOOP)/,
    );
    await runtime.removePodSandbox({ podSandboxId });
  });
});

describe('propagation', () => {
  /** A shared mount of the test's own, as systemd makes / on most hosts. */
  function shareVolume(): () => void {
    check(native().mount(volume, volume, null, MS.BIND, null), 'mount', volume);
    check(native().mount(null, volume, null, MS.SHARED, null), 'mount', volume);
    return () => {
      native().umount2(join(volume, 'm'), MNT_DETACH);
      native().umount2(volume, MNT_DETACH);
    };
  }

  async function whileRunning(
    mount: LocalMount,
    security: object,
    work: (run: (script: string) => Promise<string>) => Promise<void>,
  ): Promise<void> {
    const { runtime } = fixture;
    const podSandboxId =
      (await runtime.runPodSandbox({ config: sandboxConfig(fixture, { sandbox: security }) })).podSandboxId ??
      '';
    try {
      const config = containerConfig(['sleep', '1000'], { mounts: [mount], security });
      const containerId = (await runtime.createContainer({ podSandboxId, config })).containerId ?? '';
      await runtime.startContainer({ containerId });
      await work(async (script) =>
        Buffer.from((await runtime.execSync({ containerId, cmd: sh(script) })).stdout ?? []).toString(),
      );
    } finally {
      await runtime.removePodSandbox({ podSandboxId });
    }
  }

  const cases = [
    ['none: a later mount of the host stays out', MountPropagation.PROPAGATION_PRIVATE, ''],
    ['host to container: it comes in', MountPropagation.PROPAGATION_HOST_TO_CONTAINER, 'late\n'],
  ] as const;
  test.each(cases)('%s', async (_name, propagation, expected) => {
    const unshare = shareVolume();
    try {
      mkdirSync(join(volume, 'm'));
      await whileRunning({ containerPath: '/data', hostPath: volume, propagation }, {}, async (run) => {
        check(native().mount('tmpfs', join(volume, 'm'), 'tmpfs', 0, 'size=64k'), 'mount');
        writeFileSync(join(volume, 'm', 'f'), 'late\n');
        expect(await run('cat /data/m/f 2>/dev/null')).toBe(expected);
      });
    } finally {
      unshare();
    }
  });

  test('bidirectional: a mount of the container comes out', async () => {
    const unshare = shareVolume();
    try {
      mkdirSync(join(volume, 'm'));
      const mount = {
        containerPath: '/data',
        hostPath: volume,
        propagation: MountPropagation.PROPAGATION_BIDIRECTIONAL,
      };
      await whileRunning(mount, { privileged: true }, async (run) => {
        await run('mount -t tmpfs none /data/m && echo out > /data/m/f');
        expect(readFileSync(join(volume, 'm', 'f'), 'utf8')).toBe('out\n');
      });
    } finally {
      unshare();
    }
  });

  test('is refused where the host does not share', async () => {
    const { runtime } = fixture;
    check(native().mount(volume, volume, null, MS.BIND, null), 'mount', volume);
    check(native().mount(null, volume, null, MS.PRIVATE, null), 'mount', volume);
    const podSandboxId = (await runtime.runPodSandbox({ config: sandboxConfig(fixture) })).podSandboxId ?? '';
    try {
      const mounts = [
        { containerPath: '/data', hostPath: volume, propagation: MountPropagation.PROPAGATION_BIDIRECTIONAL },
      ];
      await expect(
        runtime.createContainer({ podSandboxId, config: containerConfig(['true'], { mounts }) }),
      ).rejects.toMatchObject({ code: 'MOUNT_NOT_SHARED' });
    } finally {
      await runtime.removePodSandbox({ podSandboxId });
      native().umount2(volume, MNT_DETACH);
    }
  });
});

describe('recursively read-only', () => {
  test('covers the mounts below, plain read-only does not', async () => {
    mkdirSync(join(volume, 'm'));
    check(native().mount('tmpfs', join(volume, 'm'), 'tmpfs', 0, 'size=64k'), 'mount');
    try {
      const script = 'touch /data/x 2>/dev/null || echo top; touch /data/m/x 2>/dev/null || echo below';
      expect(await inside(script, [{ containerPath: '/data', hostPath: volume, readonly: true }])).toBe(
        'top\n',
      );
      expect(
        await inside(script, [
          { containerPath: '/data', hostPath: volume, readonly: true, recursiveReadOnly: true },
        ]),
      ).toBe('top\nbelow\n');
    } finally {
      native().umount2(join(volume, 'm'), MNT_DETACH);
    }
  });
});

describe('a volume of a pod with its own users', () => {
  test('is id-mapped: files keep the ids that the pod sees', async () => {
    const ids = [{ hostId: 600_000, containerId: 0, length: 65_536 }];
    const sandbox = {
      namespaceOptions: {
        network: NamespaceMode.POD,
        pid: NamespaceMode.CONTAINER,
        ipc: NamespaceMode.POD,
        usernsOptions: { mode: NamespaceMode.POD, uids: ids, gids: ids },
      },
    };
    writeFileSync(join(volume, 'a'), 'a');
    const mount = { containerPath: '/data', hostPath: volume, uidMappings: ids, gidMappings: ids };
    expect(await inside('stat -c %u /data/a; touch /data/b; chown 12:34 /data/b', [mount], { sandbox })).toBe(
      '0\n',
    );
    const st = statSync(join(volume, 'b'));
    expect([st.uid, st.gid]).toEqual([12, 34]);
  });
});

test('an image’s volumes are fresh for each container and gone with it', async () => {
  const name = 'test.local/volumes:1';
  await fixture.images.pack(
    name,
    [
      '/bin/busybox',
      '/bin/busybox:/bin/sh',
      '/bin/busybox:/bin/ls',
      '/bin/busybox:/bin/cat',
      '/bin/busybox:/bin/touch',
      '/etc/debian_version:/seed/version',
    ],
    {
      config: { Volumes: { '/seed': {}, '/empty': {} } },
    },
  );
  const result = await runToEnd(
    fixture,
    ['/bin/sh', '-c', 'ls /seed; touch /seed/new /empty/new; ls /seed /empty'],
    { image: { image: name } },
  );
  expect(result.output).toBe('version\n/empty:\nnew\n\n/seed:\nnew\nversion\n');
  expect(
    (await runToEnd(fixture, ['/bin/sh', '-c', 'ls /seed /empty'], { image: { image: name } })).output,
  ).toBe('/empty:\n\n/seed:\nversion\n');
  rmSync(join(fixture.base, 'nothing'), { force: true });
});
