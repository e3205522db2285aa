/** What a pod's manifest can ask of the kubelet half, and what its containers can do to the kubelet's files. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type PodStatus, parseManifests } from '../../src/kube/index.ts';
import { readLog } from '../../src/kubelet/logs/reader.ts';
import {
  ATTACKERS,
  type Battlefield,
  ESCAPED,
  inPod,
  openBattlefield,
  ROUNDS,
  race,
  total,
  whileAttacked,
} from '../fixtures/attack.ts';
import { patience } from '../fixtures/patience.ts';
import { type Fields, PodWorld } from '../fixtures/pods.ts';

let field: Battlefield;
let world: PodWorld;
beforeAll(async () => {
  field = await openBattlefield();
  world = await PodWorld.open(field);
});
afterAll(async () => {
  try {
    await world?.close();
  } finally {
    await field?.close();
  }
});

const waiting = ({ containerStatuses }: PodStatus): string | undefined =>
  containerStatuses?.[0]?.state?.waiting?.reason;
const ended = ({ phase }: PodStatus): boolean => phase === 'Succeeded' || phase === 'Failed';

function manifest(spec: Fields, metadata: Fields = {}): string {
  const containers = [{ name: 'c', image: ATTACKERS, command: ['true'] }];
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'p', ...metadata },
    spec: { containers, ...spec },
  });
}

async function refused(text: string): Promise<string> {
  return await parseManifests(text, { source: 'test' }).then(
    () => 'accepted',
    (error: unknown) => String(error),
  );
}

describe('a pod', () => {
  // https://github.com/kubernetes/kubernetes/issues/78308: from the second start on, the image's user counted for nothing
  test('CVE-2019-11245: that must not be root is not, at its first start and at every other, whatever its image has become', async () => {
    const name = 'test.local/turncoat:1';
    await field.image(name, [], { User: '1000' });
    const container = {
      name: 'c',
      image: name,
      imagePullPolicy: 'IfNotPresent',
      command: ['sh', '-c', 'id -u'],
    };
    const uid = await world.add({
      restartPolicy: 'Always',
      securityContext: { runAsNonRoot: true },
      containers: [container],
    });
    const restarts = (count: number) => (status: PodStatus) =>
      (status.containerStatuses?.[0]?.restartCount ?? 0) >= count;
    await world.status(uid, restarts(2));
    expect(await world.logs(uid, { previous: true })).toBe('1000\n');
    // The name is another image now, whose user is root.
    await field.image(name, [], { User: '0', Labels: { turned: 'coat' } });
    await world.status(uid, (status) => waiting(status) === 'CreateContainerConfigError');
    expect(world.events(uid).at(-1)).toContain('container has runAsNonRoot and image will run as root');
    const logs = readdirSync(join(field.base, 'pod-logs', `default_pod-1_${uid}`, 'c'));
    for (const log of logs)
      expect(
        readFileSync(join(field.base, 'pod-logs', `default_pod-1_${uid}`, 'c', log), 'utf8'),
      ).not.toMatch(/ F 0\n/);
    await world.kubelet.remove(uid, { grace: 0 });
  });

  // https://github.com/kubernetes/kubernetes/issues/118690
  test('CVE-2023-2431: with a seccomp profile of no name, or of a name that leads elsewhere, is refused', async () => {
    for (const localhostProfile of ['', '../../etc/passwd', '/etc/passwd', 'a/../../b']) {
      const seccompProfile = { type: 'Localhost', localhostProfile };
      expect(await refused(manifest({ securityContext: { seccompProfile } }))).toContain('localhostProfile');
    }
    // And one that is not there starts nothing.
    const uid = await world.add({
      securityContext: { seccompProfile: { type: 'Localhost', localhostProfile: 'none.json' } },
      containers: [{ name: 'c', image: ATTACKERS, command: ['true'] }],
    });
    await world.status(uid, (status) => /Create|Config/.test(waiting(status) ?? ''));
    expect(world.events(uid).join('\n')).toContain('none.json');
    await world.kubelet.remove(uid, { grace: 0 });
  });

  // https://github.com/kubernetes/kubernetes/issues/128885, …/130786: hooks of the repository ran on the host
  test.each([
    ['by name', { repository: 'https://127.0.0.1/x.git', directory: 'sub/.git' }],
    ['by a path of the host', { repository: '/var/lib/kubelet/pods/x', revision: '--upload-pack=touch /x' }],
  ])('CVE-2024-10220: with a gitRepo volume %s is refused, and no git is run', async (_what, gitRepo) => {
    expect(await refused(manifest({ volumes: [{ name: 'v', gitRepo }] }))).toMatch(
      /UNSUPPORTED_MANIFEST|gitRepo/,
    );
  });

  // https://github.com/kubernetes/kubernetes/issues/132151
  test('CVE-2025-4563: of a file asks for no claims, which nobody would have allowed', async () => {
    const spec = {
      resourceClaims: [{ name: 'gpu', resourceClaimName: 'x' }],
      containers: [{ name: 'c', image: ATTACKERS, resources: { claims: [{ name: 'gpu' }] } }],
    };
    expect(await refused(manifest(spec))).toContain('resourceClaims');
  });

  // https://github.com/kubernetes/kubernetes/issues/83253 and others: a document that grows as it is read
  test('CVE-2019-11253: whose manifest explodes or nests is refused within a moment', async () => {
    const bomb = ['a: &a ["x","x","x","x","x","x","x","x","x"]'];
    for (let i = 1; i < 12; i++) {
      const before = String.fromCharCode(96 + i);
      const name = String.fromCharCode(97 + i);
      bomb.push(`${name}: &${name} [${Array.from({ length: 9 }, () => `*${before}`).join(',')}]`);
    }
    const began = process.cpuUsage();
    const heap = process.memoryUsage().heapUsed;
    for (const text of [
      bomb.join('\n'),
      `apiVersion: v1\nkind: Pod\nmetadata: ${'['.repeat(100_000)}`,
      `{"apiVersion":"v1","kind":"Pod","metadata":${'{"a":'.repeat(100_000)}`,
      `${'- '.repeat(50_000)}x`,
      manifest({}, { annotations: { big: 'x'.repeat(11 * 1024 * 1024) } }),
    ])
      expect(await refused(text)).toMatch(/(INVALID_MANIFEST|MANIFEST_TOO_LARGE|cannot use)/);
    const { user } = process.cpuUsage(began);
    expect(user / 1e6).toBeLessThan(20 * patience);
    expect(process.memoryUsage().heapUsed - heap).toBeLessThan(512 * 1024 * 1024);
  });
});

describe('a hostPath', () => {
  test('hostPath: with “..” is refused, as is one of another type than it says', async () => {
    const volume = (hostPath: Fields): Fields => ({ volumes: [{ name: 'v', hostPath }] });
    for (const path of ['/a/../etc', '../etc', '/..'])
      expect(await refused(manifest(volume({ path })))).toContain('must not contain');
    const folder = field.directory('types');
    writeFileSync(join(folder, 'file'), '');
    const server = createServer().listen(join(folder, 'socket'));
    await once(server, 'listening');
    try {
      const wrong: [string, string][] = [
        ['file', 'Directory'],
        ['file', 'Socket'],
        ['file', 'CharDevice'],
        ['', 'File'],
        ['socket', 'File'],
        ['missing', 'File'],
      ];
      for (const [name, type] of wrong) {
        const uid = await world.add({
          ...volume({ path: join(folder, name), type }),
          containers: [
            {
              name: 'c',
              image: ATTACKERS,
              command: ['true'],
              volumeMounts: [{ name: 'v', mountPath: '/v' }],
            },
          ],
        });
        await expect
          .poll(() => world.events(uid).join('\n'), { timeout: 10_000 * patience })
          .toContain('hostPath type check failed');
        await world.kubelet.remove(uid, { grace: 0 });
      }
    } finally {
      server.close();
    }
  });

  test(
    'hostPath: whose file is swapped for something else after the look is not mounted',
    async () => {
      const volume = field.directory('volume');
      writeFileSync(join(volume, 'a'), '');
      symlinkSync('/', join(volume, 'a.link'));
      const outcomes = await inPod(field, async (pod) =>
        whileAttacked(
          pod,
          ['attacker', 'swap', '/vol/a', '/vol/a.link'],
          { mounts: [{ hostPath: volume, containerPath: '/vol' }] },
          async () =>
            await race(pod, ROUNDS, () => ({
              command: ['attacker', 'look', field.secret, '/data'],
              options: {
                mounts: [{ hostPath: join(volume, 'a'), containerPath: '/data', sourceType: 'file' }],
              },
            })),
        ),
      );
      expect(outcomes[`exit ${ESCAPED}`] ?? 0).toBe(0);
      expect(outcomes['exit 0']).toBeGreaterThan(0);
      expect(total(outcomes, /START_FAILED ENXIO/)).toBeGreaterThan(0);
    },
    300_000 * patience,
  );

  test('hostPath: its type reaches the runtime by every pod that says one', async () => {
    const folder = field.directory('typed');
    writeFileSync(join(folder, 'file'), '');
    const uid = await world.add({
      volumes: [{ name: 'v', hostPath: { path: join(folder, 'file'), type: 'File' } }],
      containers: [
        { name: 'c', image: ATTACKERS, command: ['true'], volumeMounts: [{ name: 'v', mountPath: '/v' }] },
      ],
    });
    await world.status(uid, ended);
    const mounts = [...field.runtime.context.model.containers.values()].flatMap(
      ({ record }) => record.config.mounts ?? [],
    );
    expect(mounts.find(({ containerPath }) => containerPath === '/v')).toMatchObject({ sourceType: 'file' });
    await world.kubelet.remove(uid, { grace: 0 });
  });
});

describe('the directory of all logs', () => {
  const line = '2026-01-02T03:04:05.000000006Z stdout F of the pod\n';

  /** Reads a log a thousand times while the attacker swaps, on the host, what its path names. */
  async function readWhileSwapped(
    make: (folder: string, host: string) => readonly [string, string],
  ): Promise<Set<string>> {
    const root = field.directory('logs');
    const host = field.directory('host');
    writeFileSync(join(host, '0.log'), '2026-01-02T03:04:05.000000006Z stdout F of the host\n');
    const folder = join(root, 'pod', 'c');
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, '0.log'), line);
    const names = make(folder, host);
    const program = join(field.directory('bin'), 'attacker');
    writeFileSync(program, field.program, { mode: 0o755 });
    const attacker = spawn(program, ['swap', ...names], { stdio: ['ignore', 'pipe', 'inherit'] });
    const seen = new Set<string>();
    try {
      await once(attacker.stdout, 'data');
      // However long it takes to meet both.
      for (let round = 0; round < ROUNDS || (seen.size < 2 && round < 1000 * ROUNDS); round++) {
        let text = '';
        try {
          for await (const { data } of readLog({ root, path: join(folder, '0.log') })) text += String(data);
        } catch (error) {
          text = String((error as { code?: string }).code);
        }
        seen.add(text);
      }
      expect(attacker.exitCode).toBeNull();
    } finally {
      attacker.kill('SIGKILL');
    }
    return seen;
  }

  // https://github.com/kubernetes/kubernetes/pull/…: hostPath /var/log and a link to /etc/shadow, read by `kubectl logs`
  test.each([
    [
      'a log',
      (folder: string, host: string) => {
        symlinkSync(join(host, '0.log'), join(folder, 'link'));
        return [join(folder, '0.log'), join(folder, 'link')] as const;
      },
    ],
    [
      'its directory',
      (folder: string, host: string) => {
        symlinkSync(host, `${folder}.link`);
        return [folder, `${folder}.link`] as const;
      },
    ],
  ])(
    'logs: %s that is swapped for a link shows nothing of the host',
    async (_what, make) => {
      const seen = await readWhileSwapped(make);
      expect([...seen].filter((text) => text.includes('of the host'))).toEqual([]);
      expect(seen).toContain('of the pod\n');
      expect([...seen].some((text) => text.startsWith('LOG_') || text === 'ELOOP')).toBe(true);
    },
    120_000 * patience,
  );

  test('logs: a pod’s directory that is a link gets no log', async () => {
    const host = field.directory('host');
    await inPod(field, async (pod) => {
      const { record } = field.runtime.context.model.sandbox(pod.id);
      const link = join(field.directory('logs'), 'pod');
      symlinkSync(host, link);
      Object.assign(record.config, { logDirectory: link });
      await expect(pod.run(['echo', 'x'], { logPath: 'c/0.log' })).rejects.toThrow();
    });
    expect(readdirSync(host)).toEqual([]);
    // Nor does the kubelet make anything there.
    const podLogs = join(field.base, 'pod-logs');
    const bound = await world.pod({ containers: [{ name: 'c', image: ATTACKERS, command: ['true'] }] });
    const { namespace, name, uid } = bound.metadata;
    symlinkSync(host, join(podLogs, `${namespace}_${name}_${uid}`));
    world.kubelet.add(bound);
    await world.status(
      uid,
      (status) => waiting(status) !== undefined && /Create|Run/.test(waiting(status) ?? ''),
    );
    await world.kubelet.remove(uid, { grace: 0 });
    expect(readdirSync(host)).toEqual([]);
  });
});
