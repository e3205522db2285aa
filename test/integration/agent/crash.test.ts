/** The agent killed between every two steps of a pod's life: the next one ends up where the first one was going. */
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageRoot } from '../../../src/linux/package-root.ts';
import { patience, podOf, shell, World } from '../../fixtures/agent.ts';
import { EvilRegistry } from '../../fixtures/registry-evil.ts';
import { dir, file, makeImage, symlink, tarOf } from '../../fixtures/registry-images.ts';

let world: World;
let registry: EvilRegistry;
let counter = 0;
beforeAll(async () => {
  [world, registry] = await Promise.all([World.open(), EvilRegistry.start()]);
});
afterAll(async () => {
  await registry?.stop();
  await world?.close();
});

const FOREVER = 'trap "exit 0" TERM; echo up; while :; do sleep 1000 & wait $!; done';

/** A pod that has a bit of everything that its start makes. */
function busyPod(name: string, spec: object = {}): object {
  const mounts = [
    { name: 'work', mountPath: '/work' },
    { name: 'conf', mountPath: '/conf' },
  ];
  return {
    apiVersion: 'v1',
    kind: 'List',
    items: [
      { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'conf' }, data: { a: '1' } },
      podOf(
        name,
        [
          shell(FOREVER, {
            volumeMounts: mounts,
            resources: { limits: { memory: '64Mi', cpu: '500m' } },
            ports: [{ containerPort: 80, hostPort: 20_000 + (counter % 1000) }],
          }),
        ],
        {
          initContainers: [shell('cp /conf/a /work/', { name: 'init', volumeMounts: mounts.slice() })],
          volumes: [
            { name: 'work', emptyDir: {} },
            { name: 'memory', emptyDir: { medium: 'Memory' } },
            { name: 'conf', configMap: { name: 'conf' } },
          ],
          ...spec,
        },
      ),
    ],
  };
}

/** Starts an agent that is killed at the failpoint, and does `work` with it until then. */
async function killedAt(
  failpoint: string,
  work: () => Promise<unknown>,
  words: readonly string[] = [],
): Promise<void> {
  const points = failpoint.includes('=') ? failpoint : `${failpoint}=kill`;
  const { program } = await world.agent({ env: { NODELET_FAILPOINTS: points }, words });
  const late = setTimeout(() => program.signal('SIGTERM'), 15_000 * patience);
  // What was asked of it may break off with it.
  if (!program.hasEnded) await Promise.race([work().catch(() => undefined), program.exit]);
  const { signal, stderr } = await program.exit;
  clearTimeout(late);
  expect(signal, `failpoint ${failpoint} was not met:\n${stderr}`).toBe('SIGKILL');
}

async function remove(name: string): Promise<void> {
  expect(await world.cli(['rm', name])).toMatchObject({ code: 0, stdout: `pod/${name} removed\n` });
  expect(world.leftovers()).toEqual([]);
}

/** A live agent for the rest of the work, ended in good order. */
async function withAgent(work: () => Promise<void>): Promise<void> {
  const agent = await world.liveAgent();
  try {
    await work();
  } finally {
    agent.signal('SIGTERM');
    await agent.exit;
  }
}

/**
 * One that was created and not started when the agent died counts: another attempt takes its place, as with upstream's
 * kubelet.
 */
async function restartsOf(name: string): Promise<number> {
  const pod = await world.client.pod('default', name);
  return pod.status?.containerStatuses?.[0]?.restartCount ?? Number.NaN;
}

describe('while a pod is started', () => {
  it.each([
    'sandbox:after-record',
    'sandbox:after-files',
    'sandbox:after-shim',
    'sandbox:after-namespaces',
    'network:after-addresses',
    'network:after-pod-sysctls',
    'network:after-veth',
    'network:after-veth-sysctls',
    'network:after-veth-up',
    'network:after-pod-links',
    'network:after-host-ports',
    'sandbox:after-network',
    'sandbox:after-ready',
    'kubelet:after-directories',
    'kubelet:after-cgroup',
    'volumes:before-rename',
    'volumes:after-one',
    'atomic-writer:after-file',
    'atomic-writer:before-publish',
    'kubelet:before-create',
    'snapshot:before-rename',
    'snapshot:after-rename',
    'container:after-snapshot',
    'container:after-image-volumes',
    'container:after-volumes',
    'container:after-created',
    'kubelet:after-create',
    'start:before-run',
    'start:after-run',
    'start:after-record',
    'kubelet:after-start',
    'atomic-file:before-rename=2*off->kill',
    'atomic-file:before-rename=4*off->kill',
    'atomic-file:after-rename=3*off->kill',
    'atomic-file:after-rename=5*off->kill',
  ])('%s: the next agent makes it run', async (failpoint) => {
    counter += 1;
    const name = `pod-${counter}`;
    await killedAt(failpoint, async () => {
      await world.cli(['run', '-d', world.manifest(busyPod(name))]);
      await world.untilRunning(name);
    });
    await withAgent(async () => {
      const pod = await world.untilRunning(name);
      expect(pod.status?.initContainerStatuses?.[0]?.state?.terminated?.exitCode).toBe(0);
      // Which write it is that came last is a matter of time.
      expect(await restartsOf(name)).toBeLessThanOrEqual(failpoint.startsWith('atomic-file') ? 1 : 0);
      expect((await world.cli(['exec', name, '--', 'cat', '/work/a'])).stdout).toBe('1');
      await remove(name);
    });
  });

  it('with the shim made on the spot, for a user namespace', async () => {
    counter += 1;
    const name = `pod-${counter}`;
    await killedAt('sandbox:after-shim-cgroup', async () => {
      await world.cli(['run', '-d', world.manifest(busyPod(name, { hostUsers: false }))]);
      await world.untilRunning(name);
    });
    await withAgent(async () => {
      await world.untilRunning(name);
      await remove(name);
    });
  });
});

describe('while an agent starts', () => {
  it.each(['network:after-bridge', 'network:after-rules', 'network:after-bridge-up'])(
    '%s: the next agent sets the rest up',
    async (failpoint) => {
      const fresh = await World.open({ programs: 'sh echo ip wc' });
      try {
        const { program } = await fresh.agent({ env: { NODELET_FAILPOINTS: `${failpoint}=kill` } });
        const pod = fresh.manifest(podOf('x', [shell('echo ran')]));
        if (!program.hasEnded) await fresh.cli(['run', '-d', pod]);
        expect((await program.exit).signal).toBe('SIGKILL');
        const { code, stdout } = await fresh.run(podOf('y', [shell('ip -o link | wc -l')]));
        expect({ code, stdout }).toEqual({ code: 0, stdout: '2\n' });
      } finally {
        await fresh.close();
      }
    },
  );
});

describe('while a pod is stopped and removed', () => {
  it.each([
    'stop-sandbox:after-containers',
    'stop-sandbox:after-network',
    'stop-sandbox:after-shim',
    'remove-sandbox:after-containers',
    'network:remove-after-rules',
    'network:remove-after-link',
    'remove:after-cgroup',
    'remove:after-snapshot',
    'remove:after-image-volumes',
    'remove:after-volumes',
    'snapshot:after-unlink',
    'kubelet:after-volumes',
    'kubelet:after-cgroup-removal',
    'kubelet:after-logs',
  ])('%s: the next agent removes the rest', async (failpoint) => {
    counter += 1;
    const name = `pod-${counter}`;
    await killedAt(failpoint, async () => {
      await world.cli(['run', '-d', world.manifest(busyPod(name))]);
      await world.untilRunning(name);
      await world.cli(['rm', name]);
    });
    await withAgent(async () => {
      // It goes on by itself, from what it finds; to be asked again does no harm.
      await world.cli(['rm', '--ignore-not-found', name]);
      expect(await world.client.pods()).toEqual([]);
      expect(world.leftovers()).toEqual([]);
    });
  });
});

describe('while what nobody knows any more is removed', () => {
  const unknownPod = async (): Promise<void> => {
    counter += 1;
    const name = `pod-${counter}`;
    await killedAt('kubelet:after-start', async () => {
      await world.cli(['run', '-d', world.manifest(busyPod(name))]);
      await world.untilRunning(name);
    });
    for (const file of readdirSync(join(world.state, 'pods'))) rmSync(join(world.state, 'pods', file));
  };
  const nothingLeft = async (): Promise<void> =>
    await withAgent(async () => {
      await expect.poll(() => world.leftovers(), { timeout: 20_000 * patience }).toEqual([]);
    });

  it('kubelet:orphan-stopped: the next agent removes the rest', async () => {
    await unknownPod();
    await killedAt('kubelet:orphan-stopped', async () => await new Promise(() => undefined));
    await nothingLeft();
  });

  it.each(['network:collect-after-rules', 'network:collect-after-links'])(
    '%s: the next agent removes the rest',
    async (failpoint) => {
      counter += 1;
      const file = world.manifest(busyPod(`pod-${counter}`));
      await killedAt('network:after-host-ports', async () => {
        await world.cli(['run', '-d', file]);
        await new Promise(() => undefined);
      });
      for (const name of readdirSync(join(world.state, 'pods'))) rmSync(join(world.state, 'pods', name));
      await killedAt(failpoint, async () => await new Promise(() => undefined));
      await nothingLeft();
    },
  );
});

it('stop:before-kill: a pod that does not heed its signal is killed by the next agent', async () => {
  counter += 1;
  const name = `pod-${counter}`;
  const stubborn = podOf(name, [shell('trap "" TERM; while :; do sleep 0.2; done')]);
  await killedAt('stop:before-kill', async () => {
    await world.cli(['run', '-d', world.manifest(stubborn)]);
    await world.untilRunning(name);
    await world.cli(['rm', name]);
  });
  await withAgent(async () => await remove(name));
});

describe('while an image is pulled and unpacked', () => {
  const image = (): string => {
    counter += 1;
    const busybox = file('bin/sh', readFileSync('/bin/busybox'), { mode: 0o755 });
    const second = tarOf(dir('etc'), file('etc/made', `image ${counter}`), symlink('bin/cat', 'sh'));
    return registry.add(
      `app-${counter}`,
      makeImage({ layers: [tarOf(dir('bin'), busybox, file(`n-${counter}`)), second] }),
    );
  };

  it.each([
    'blob:after-write',
    'blob:before-rename',
    'blob:after-rename',
    'layer:after-unpack',
    'layer:before-commit',
    'layer:before-rename',
    'layer:after-rename',
    'pull:before-drop',
  ])('%s: the next agent pulls it whole', async (failpoint) => {
    const reference = image();
    const name = `pull-${counter}`;
    const container = shell('cat /etc/made', {
      image: reference,
      command: ['/bin/sh', '-c', 'cat /etc/made'],
    });
    await killedAt(
      failpoint,
      async () => {
        await world.cli(['run', '-d', world.manifest(podOf(name, [container]))]);
        await world.untilEnded(name);
      },
      failpoint === 'pull:before-drop' ? ['--keep-image-blobs=false'] : [],
    );
    await withAgent(async () => {
      await world.untilEnded(name);
      expect((await world.cli(['logs', name])).stdout).toBe(`image ${counter}`);
      await remove(name);
    });
    expect((await world.cli(['image', 'rm', reference])).code).toBe(0);
    expect(world.leftovers()).toEqual([]);
  });

  it.each(['gc:after-blobs', 'gc:after-layers'])(
    '%s: an image that was half removed is gone or whole',
    async (failpoint) => {
      const reference = image();
      expect((await world.cli(['image', 'pull', reference])).code).toBe(0);
      const half = await world.cli(['image', 'rm', reference], {
        env: { NODELET_FAILPOINTS: `${failpoint}=kill` },
      });
      expect(half.signal).toBe('SIGKILL');
      const again = podOf('again', [
        shell('', { image: reference, command: ['/bin/sh', '-c', 'cat /etc/made'] }),
      ]);
      expect(await world.run(again)).toMatchObject({ code: 0, stdout: `image ${counter}` });
      expect((await world.cli(['image', 'rm', reference])).code).toBe(0);
      expect(world.leftovers()).toEqual([]);
    },
  );
});

it('an agent that is killed again and again while it recovers', async () => {
  counter += 1;
  const name = `pod-${counter}`;
  await killedAt('start:after-run', async () => {
    await world.cli(['run', '-d', world.manifest(busyPod(name))]);
    await world.untilRunning(name);
  });
  for (let i = 0; i < 5; i += 1) {
    const program = world.start(['agent', ...world.settings]);
    // At another moment of its start each time: no test may depend on which one.
    const timer = setTimeout(() => program.signal('SIGKILL'), (80 + 60 * i) * patience);
    await program.exit;
    clearTimeout(timer);
  }
  await withAgent(async () => {
    await world.untilRunning(name);
    expect(await restartsOf(name)).toBeLessThanOrEqual(5);
    await remove(name);
  });
});

it('every failpoint of the program has its row here', () => {
  const source = join(packageRoot(), 'src');
  const names = readdirSync(source, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .flatMap((path) => [...readFileSync(join(source, path), 'utf8').matchAll(/failpoint\('([^']+)'\)/g)])
    .map(([, name = '']) => name);
  const others = ['integration/cri/crash.test.ts', 'oci/crash.test.ts'];
  const tests = join(packageRoot(), 'test');
  const tested = [import.meta.filename, ...others.map((path) => join(tests, path))]
    .map((file) => readFileSync(file, 'utf8'))
    .join('');
  expect(names.length).toBeGreaterThan(40);
  expect(names.filter((name) => !tested.includes(`'${name}`) && !tested.includes(`${name}:`))).toEqual([]);
});
