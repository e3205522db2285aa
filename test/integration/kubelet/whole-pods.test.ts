/** Pods on the real runtime, from manifest to exit code. They use the host's network: the bridge has tests of its own. */
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { PodStatus } from '../../../src/kube/index.ts';
import { directoryOf } from '../../../src/linux/cgroups/index.ts';
import { mountsUnder, readMountinfo } from '../../../src/linux/mountinfo.ts';
import { type Fields, PodWorld } from '../../fixtures/pods.ts';
import { IMAGE, openRuntime, type RuntimeFixture } from '../../fixtures/runtime.ts';

let fixture: RuntimeFixture;
let world: PodWorld;

beforeAll(async () => {
  fixture = await openRuntime();
  world = await PodWorld.open(fixture);
});
afterAll(async () => {
  try {
    await world?.close();
  } finally {
    await fixture?.close();
  }
});

/** A container of a script, as a manifest has it. */
const script = (name: string, text: string, more: Fields = {}) => ({
  name,
  image: IMAGE,
  command: ['sh', '-c', text],
  ...more,
});

const ended = ({ phase }: PodStatus) => phase === 'Succeeded' || phase === 'Failed';
const running = ({ phase }: PodStatus) => phase === 'Running';

async function run(
  spec: Fields,
  beside: readonly Fields[] = [],
): Promise<PodStatus & { readonly uid: string }> {
  const uid = await world.add(spec, beside);
  return { ...(await world.status(uid, ended)), uid };
}

const exitOf = (found: PodStatus, name: string) =>
  [...(found.containerStatuses ?? []), ...(found.initContainerStatuses ?? [])].find(
    (each) => each.name === name,
  )?.state?.terminated;

describe('a pod', () => {
  it('has its variables, files, volumes, log and message, init containers first', async () => {
    const config = {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'conf' },
      data: { 'app.ini': 'mode=fast' },
    };
    const secret = {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: 'keys' },
      stringData: { token: 's3cret' },
    };
    const volumeMounts = [
      { name: 'work', mountPath: '/work' },
      { name: 'conf', mountPath: '/etc/app' },
      { name: 'keys', mountPath: '/etc/keys' },
      { name: 'info', mountPath: '/etc/info' },
    ];
    const env = [
      { name: 'POD', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
      { name: 'TOKEN', valueFrom: { secretKeyRef: { name: 'keys', key: 'token' } } },
      { name: 'GREETING', value: 'I am $(POD)' },
    ];
    const text = [
      'cat /work/from-init',
      'echo "$GREETING, $TOKEN"',
      'cat /etc/app/app.ini; echo',
      'cat /etc/keys/token; echo',
      'cat /etc/info/labels; echo',
      'head -n 1 /etc/hosts',
      'echo done > /dev/termination-log',
      'touch /etc/app/x 2>/dev/null || echo read-only',
      'echo to-stderr >&2',
    ].join('; ');
    const result = await run(
      {
        initContainers: [script('init', 'echo made-by-init > /work/from-init', { volumeMounts })],
        containers: [script('a', text, { env, volumeMounts })],
        volumes: [
          { name: 'work', emptyDir: { medium: 'Memory', sizeLimit: '1Mi' } },
          { name: 'conf', configMap: { name: 'conf' } },
          { name: 'keys', secret: { secretName: 'keys' } },
          {
            name: 'info',
            downwardAPI: { items: [{ path: 'labels', fieldRef: { fieldPath: 'metadata.labels' } }] },
          },
        ],
      },
      [config, secret],
    );
    expect(result.phase, world.events(result.uid).join('\n')).toBe('Succeeded');
    expect(await world.logs(result.uid, { stream: 'stdout' })).toBe(
      [
        'made-by-init',
        `I am pod-${result.uid.slice(4)}, s3cret`,
        'mode=fast',
        's3cret',
        'app="shop"',
        '# Kubernetes-managed hosts file (host network).',
        'read-only',
        '',
      ].join('\n'),
    );
    expect(await world.logs(result.uid, { stream: 'stderr' })).toBe('to-stderr\n');
    expect(exitOf(result, 'a')).toMatchObject({ exitCode: 0, reason: 'Completed', message: 'done\n' });
    expect(exitOf(result, 'init')).toMatchObject({ exitCode: 0, reason: 'Completed' });
  });

  it('that fails says so by code, and by its log where it wrote no message', async () => {
    const result = await run({
      containers: [
        script('a', 'echo about to fail; exit 42', { terminationMessagePolicy: 'FallbackToLogsOnError' }),
      ],
    });
    expect(result.phase).toBe('Failed');
    expect(exitOf(result, 'a')).toMatchObject({ exitCode: 42, reason: 'Error', message: 'about to fail\n' });
  });

  it('whose program does not exist says why', async () => {
    const result = await run({ containers: [{ name: 'a', image: IMAGE, command: ['/no/such/program'] }] });
    expect(result.phase).toBe('Failed');
    expect(exitOf(result, 'a')?.message).toContain('/no/such/program');
    expect(world.events(result.uid).join('\n')).toMatch(/Failed: Error: .*\/no\/such\/program/);
  });

  it('whose image is not there says so', async () => {
    const bound = await world.pod({
      containers: [{ name: 'a', image: 'test.local/none:1', imagePullPolicy: 'Never' }],
    });
    world.kubelet.add(bound);
    const found = await world.status(
      bound.metadata.uid,
      (now) => now.containerStatuses?.[0]?.state?.waiting?.reason === 'ErrImageNeverPull',
    );
    expect(found.phase).toBe('Pending');
    await world.kubelet.remove(bound.metadata.uid, { grace: 0 });
  });

  it('has its limits in the kernel, and is killed above them', async () => {
    const resources = { limits: { cpu: '250m', memory: '32Mi' } };
    const bound = await world.pod({ containers: [script('a', 'sleep 1000', { resources })] });
    const { uid } = bound.metadata;
    world.kubelet.add(bound);
    await world.status(uid, running);
    const { memory, cpu } = world.cgroups.host.controllers;
    const [file] = memory?.version === 1 ? ['memory.limit_in_bytes'] : ['memory.max'];
    const folder = directoryOf(memory?.root ?? '', `${fixture.cgroupRoot}/kubepods/pod${uid}`);
    expect(readFileSync(`${folder}/${file}`, 'utf8').trim()).toBe(String(32 * 2 ** 20));
    const [container] = readdirSync(folder).filter((name) => /^[0-9a-f]{64}$/.test(name));
    expect(readFileSync(`${folder}/${container}/${file}`, 'utf8').trim()).toBe(String(32 * 2 ** 20));
    if (cpu?.version === 1) {
      const quota = `${directoryOf(cpu.root, `${fixture.cgroupRoot}/kubepods/pod${uid}`)}/cpu.cfs_quota_us`;
      expect(readFileSync(quota, 'utf8').trim()).toBe('25000');
    }
    await world.kubelet.remove(uid, { grace: 0 });
    expect(existsSync(folder)).toBe(false);
    const eater = await run({
      containers: [
        script('a', 'x=$(yes | head -c 200000000); echo survived', {
          resources: { limits: { memory: '16Mi' } },
        }),
      ],
    });
    expect(exitOf(eater, 'a')).toMatchObject({ exitCode: 137, reason: 'OOMKilled' });
  });

  it('is restarted with growing pauses, its last end is kept, and its earlier log can be read', async () => {
    const bound = await world.pod({
      restartPolicy: 'Always',
      containers: [
        script(
          'a',
          'n=$(cat /work/n 2>/dev/null || echo 0); echo $((n+1)) > /work/n; echo run $n; [ $n -lt 3 ] && exit $((n+1)); sleep 1000',
          { volumeMounts: [{ name: 'work', mountPath: '/work' }] },
        ),
      ],
      volumes: [{ name: 'work', emptyDir: {} }],
    });
    const { uid } = bound.metadata;
    world.kubelet.add(bound);
    const found = await world.status(
      uid,
      ({ containerStatuses }) => containerStatuses?.[0]?.restartCount === 3 && containerStatuses[0].ready,
    );
    expect(found.containerStatuses?.[0]?.lastState?.terminated).toMatchObject({
      exitCode: 3,
      reason: 'Error',
    });
    expect(await world.logs(uid, { previous: true })).toBe('run 2\n');
    expect(world.events(uid)).toContain(
      `BackOff: Back-off restarting failed container a in pod pod-${uid.slice(4)}_default(${uid})`,
    );
    await world.kubelet.remove(uid, { grace: 0 });
  });

  it('is told to stop: preStop hook, signal, exit code', async () => {
    const bound = await world.pod({
      containers: [
        script('a', 'trap "cat /tmp/hook; exit 7" TERM; echo ready; while true; do sleep 0.05; done', {
          lifecycle: { preStop: { exec: { command: ['sh', '-c', 'echo hook ran > /tmp/hook'] } } },
        }),
      ],
    });
    const { uid } = bound.metadata;
    world.kubelet.add(bound);
    await world.status(uid, running);
    const reading = (async () => {
      let text = '';
      for await (const { data } of world.kubelet.logs(uid, { follow: true })) {
        text += data.toString();
        if (text === 'ready\n') world.kubelet.stop(uid);
      }
      return text;
    })();
    const found = await world.status(uid, ended);
    expect(exitOf(found, 'a')).toMatchObject({ exitCode: 7 });
    expect(await reading).toBe('ready\nhook ran\n');
  });

  it('that fails its liveness probe is killed and started again', async () => {
    const livenessProbe = {
      exec: { command: ['test', '-e', '/tmp/alive'] },
      periodSeconds: 1,
      failureThreshold: 1,
    };
    const first = '[ -e /work/seen ] && touch /tmp/alive; touch /work/seen; sleep 1000';
    const bound = await world.pod({
      restartPolicy: 'Always',
      terminationGracePeriodSeconds: 1,
      containers: [
        script('a', first, { livenessProbe, volumeMounts: [{ name: 'work', mountPath: '/work' }] }),
      ],
      volumes: [{ name: 'work', emptyDir: {} }],
    });
    const { uid } = bound.metadata;
    world.kubelet.add(bound);
    const found = await world.status(
      uid,
      ({ containerStatuses }) => containerStatuses?.[0]?.restartCount === 1 && containerStatuses[0].ready,
    );
    expect(found.containerStatuses?.[0]?.lastState?.terminated?.exitCode).toBe(137);
    expect(world.events(uid)).toContain('Killing: Container a failed liveness probe, will be restarted');
    await world.kubelet.remove(uid, { grace: 0 });
  });

  it('has a part of a volume, and not what a link in it points at', async () => {
    const mount = (subPath: string) => [{ name: 'work', mountPath: '/part', subPath }];
    const init = script('init', 'mkdir /work/good; echo inside > /work/good/file; ln -s / /work/evil', {
      volumeMounts: [{ name: 'work', mountPath: '/work' }],
    });
    const volumes = [{ name: 'work', emptyDir: {} }];
    const good = await run({
      initContainers: [init],
      containers: [script('a', 'cat /part/file', { volumeMounts: mount('good') })],
      volumes,
    });
    expect(await world.logs(good.uid, { container: 'a' })).toBe('inside\n');
    const evil = await world.add({
      initContainers: [init],
      containers: [script('a', 'ls /part', { volumeMounts: mount('evil') })],
      volumes,
    });
    const waitingOf = ({ containerStatuses }: PodStatus) => containerStatuses?.[0]?.state?.waiting;
    const refused = await world.status(
      evil,
      (now) => waitingOf(now)?.reason === 'CreateContainerConfigError',
    );
    expect(waitingOf(refused)?.message).toMatch(/^cannot open the subPath ".*\/work\/evil": EXDEV/);
    await world.kubelet.remove(evil, { grace: 0 });
  });

  it('runs on while the agent is replaced; what ended meanwhile is known', async () => {
    const runner = await world.pod({ restartPolicy: 'Always', containers: [script('a', 'sleep 1000')] });
    const ender = await world.pod({
      containers: [
        script('a', 'while [ ! -e /work/go ]; do sleep 0.05; done; exit 5', {
          volumeMounts: [{ name: 'work', mountPath: '/work' }],
        }),
      ],
      volumes: [{ name: 'work', hostPath: { path: fixture.base } }],
    });
    world.kubelet.add(runner);
    world.kubelet.add(ender);
    const before = await world.status(runner.metadata.uid, running);
    await world.status(ender.metadata.uid, running);
    await world.kubelet.close();
    mkdirSync(join(fixture.base, 'go'));
    await world.replace([runner, ender]);
    const found = await world.status(ender.metadata.uid, ended);
    expect(exitOf(found, 'a')).toMatchObject({ exitCode: 5 });
    const after = await world.status(runner.metadata.uid, running);
    expect(after.containerStatuses?.[0]).toMatchObject({
      restartCount: 0,
      containerID: before.containerStatuses?.[0]?.containerID,
    });
  });

  it('leaves nothing behind when it is removed', async () => {
    await world.removeAll();
    expect(world.kubelet.list()).toEqual([]);
    const { containers = [] } = await fixture.runtime.listContainers({});
    const { items = [] } = await fixture.runtime.listPodSandbox({});
    expect([containers.length, items.length]).toEqual([0, 0]);
    expect(await world.cgroups.list()).toEqual([]);
    expect(readdirSync(world.kubelet.paths.pods)).toEqual([]);
    expect(readdirSync(world.kubelet.paths.directories.podLogs)).toEqual([]);
    expect(mountsUnder(readMountinfo(), fixture.base)).toEqual([]);
  });
});
