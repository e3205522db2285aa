/** Our kubelet over the runtime of another process: over `nodelet cri`, and over Debian's containerd with runc. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type CriClient, connectCri } from '../../../src/cri/index.ts';
import { type Outcome, type Program, podOf, World } from '../../fixtures/agent.ts';
import { type Containerd, startContainerd } from '../../fixtures/containerd.ts';
import { startRegistry, type TestRegistry } from '../../fixtures/registry.ts';

interface Remote {
  readonly path: string;
  /** Ends it; what it has left behind. */
  stop(): Promise<string[]>;
}

let registry: TestRegistry;
let image: string;
let pauseImage: string;

/** Images that both runtimes pull from one registry. */
async function pushImages(world: World): Promise<void> {
  mkdirSync(join(world.base, 'user'));
  const pause = ['--entrypoint', '["sleep","2147483647"]', 'test.local/pause:1', '/bin/busybox:/bin/sleep'];
  await succeeds(world, ['image', 'pack', ...pause]);
  for (const [local, name] of [
    ['test.local/busybox:1', image],
    ['test.local/pause:1', pauseImage],
  ] as const) {
    const archive = join(world.base, 'user', `${local.replaceAll(/[/:]/g, '-')}.tar`);
    await succeeds(world, ['image', 'export', '-o', archive, local]);
    const copy = ['copy', '--quiet', '--dest-tls-verify=false', `oci-archive:${archive}`, `docker://${name}`];
    execFileSync('skopeo', copy);
  }
}

async function succeeds(world: World, words: readonly string[]): Promise<void> {
  const { code, stderr } = await world.cli(words);
  if (code !== 0) throw new Error(`nodelet ${words.join(' ')}: ${stderr}`);
}

async function overNodelet(world: World): Promise<Remote> {
  const path = join(world.state, 'cri.sock');
  const program = await world.cri(['--cri-socket', path]);
  return {
    path,
    async stop() {
      program.signal('SIGTERM');
      expect((await program.exit).code).toBe(0);
      return [];
    },
  };
}

async function overContainerd(world: World): Promise<Remote> {
  const base = join(world.base, 'user', 'containerd');
  mkdirSync(base);
  const options = { base, bridge: `ctd${world.bridge.slice(3)}`, subnet: world.subnet, pauseImage };
  const daemon: Containerd = await startContainerd(options);
  return { path: daemon.path, stop: async () => await daemon.stop() };
}

const script = (text: string, more: object = {}): object => ({
  name: 'c',
  image,
  command: ['sh', '-c', text],
  ...more,
});

beforeAll(async () => {
  registry = await startRegistry();
  image = `${registry.host}/busybox:1`;
  pauseImage = `${registry.host}/pause:1`;
});
afterAll(async () => {
  await registry?.stop();
});

describe.each([
  ['nodelet cri', overNodelet],
  ['containerd', overContainerd],
] as const)('the kubelet over %s', (name, open) => {
  let runtimeWorld: World;
  let world: World;
  let remote: Remote;
  let client: CriClient;
  let agent: Program;
  const words = (): string[] => ['--container-runtime-endpoint', `unix://${remote.path}`];
  beforeAll(async () => {
    runtimeWorld = await World.open();
    await pushImages(runtimeWorld);
    world = await World.open({ programs: 'true' });
    remote = await open(runtimeWorld);
    client = await connectCri(remote.path);
    agent = await world.liveAgent(words());
  });
  afterAll(async () => {
    await world?.cli(['rm', '--all', '--force']);
    const pods = (await client?.runtime.listPodSandbox({}))?.items ?? [];
    const left = world?.leftovers();
    agent?.signal('SIGTERM');
    await agent?.exit;
    client?.close();
    const ofRuntime = await remote?.stop();
    await world?.close();
    await runtimeWorld?.close();
    expect({ pods, left, ofRuntime }).toEqual({ pods: [], left: [], ofRuntime: [] });
  });

  it('runs a pod to its end: image, log, exit code, reason', async () => {
    const pod = podOf('ends', [script('echo hello from $(hostname); exit 3')]);
    const { code, stdout } = await world.cli([
      'run',
      '--state',
      world.state,
      '--root',
      world.root,
      world.manifest(pod),
    ]);
    expect(stdout).toContain('hello from ends');
    expect(code).toBe(3);
    const { status } = await world.untilEnded('ends');
    expect(status?.containerStatuses?.[0]?.state?.terminated).toMatchObject({ exitCode: 3, reason: 'Error' });
    expect(status?.containerStatuses?.[0]?.imageID).toMatch(/sha256:/);
    expect((await world.cli(['logs', 'ends'])).stdout).toBe('hello from ends\n');
    await world.cli(['rm', 'ends']);
  });

  it('asks its exec probes, and hears of ends and restarts', async () => {
    const probe = { exec: { command: ['test', '-e', '/ready'] }, periodSeconds: 1 };
    const restarts = podOf(
      'restarts',
      [
        script('[ -e /data/second ] || { touch /data/second; exit 1; }; touch /ready; exec sleep 1000', {
          readinessProbe: probe,
          volumeMounts: [{ name: 'data', mountPath: '/data' }],
        }),
      ],
      { restartPolicy: 'Always', volumes: [{ name: 'data', emptyDir: {} }] },
    );
    await world.cli(['run', '-d', world.manifest(restarts)]);
    const pod = await world.untilPod(
      'restarts',
      ({ status }) => status?.containerStatuses?.[0]?.ready === true,
    );
    expect(pod.status?.containerStatuses?.[0]).toMatchObject({
      restartCount: 1,
      lastState: { terminated: { exitCode: 1 } },
    });
    expect(pod.status?.podIP).toMatch(/^10\./);
  });

  it('mounts volumes, a subPath among them, which it makes where it is missing', async () => {
    const volumes = [
      { name: 'work', emptyDir: {} },
      { name: 'host', hostPath: { path: join(world.base, 'user') } },
    ];
    mkdirSync(join(world.base, 'user'), { recursive: true });
    writeFileSync(join(world.base, 'user', 'file'), 'from the host\n');
    const first = script('echo written > /part/f; cat /file', {
      name: 'first',
      volumeMounts: [
        { name: 'work', mountPath: '/part', subPath: 'made/here' },
        { name: 'host', mountPath: '/file', subPath: 'file' },
      ],
    });
    const main = script('cat /work/made/here/f; ls /work', {
      volumeMounts: [{ name: 'work', mountPath: '/work' }],
    });
    await world.cli([
      'run',
      '-d',
      world.manifest(podOf('volumes', [main], { volumes, initContainers: [first] })),
    ]);
    const { status } = await world.untilEnded('volumes');
    expect(status?.phase).toBe('Succeeded');
    expect((await world.cli(['logs', 'volumes', '-c', 'first'])).stdout).toBe('from the host\n');
    expect((await world.cli(['logs', 'volumes', '-c', 'c'])).stdout).toBe('written\nmade\n');
    await world.cli(['rm', 'volumes']);
  });

  it('shows containers and statistics, and says what only its own runtime can tell', async () => {
    const rows = JSON.parse((await world.cli(['ps', '-o', 'json'])).stdout) as { containers: object[] };
    expect(rows.containers).toMatchObject([{ name: 'c', state: 'running', image }]);
    const stats = JSON.parse((await world.cli(['stats', '-o', 'json'])).stdout) as {
      stats: { cpuNanos: number }[];
    };
    // One row: the attempt that has ended uses nothing.
    expect(stats.stats.map(({ cpuNanos }) => cpuNanos > 0)).toEqual([true]);
    const { code, stderr } = await world.cli(['explain', 'restarts']);
    expect([code, stderr]).toEqual([125, expect.stringContaining(`run over "${remote.path}"`)]);
    expect((await world.cli(['trace', 'restarts'])).code).toBe(0);
    expect((await world.cli(['inspect', 'restarts'])).code).toBe(0);
  });

  it('leads to programs and ports by the URLs of that runtime', async () => {
    const run = async (...words: string[]): Promise<Outcome> => await world.cli(['exec', ...words]);
    expect(await run('restarts', '--', 'sh', '-c', 'echo out; echo err >&2; exit 4')).toMatchObject({
      code: 4,
      stdout: 'out\n',
      stderr: 'err\n',
    });
    const big = 'x'.repeat(200_000);
    const echoed = await world.cli(['exec', '-i', 'restarts', '--', 'cat'], { input: big });
    expect([echoed.code, echoed.stdout === big]).toEqual([0, true]);
    expect((await run('restarts', '--', '/no/such')).code).not.toBe(0);
  });

  it("attaches to a container's streams, and forwards ports into its pod", async () => {
    const lines = script('while read line; do echo "got $line"; echo "heard $line" >&2; done', {
      stdin: true,
      stdinOnce: true,
    });
    const serve = 'mkdir /w; echo page > /w/index.html; exec httpd -f -p 127.0.0.1:80 -h /w';
    const items = [
      podOf('lines', [lines], { restartPolicy: 'Never' }),
      podOf('web', [script(serve)], { restartPolicy: 'Never' }),
    ];
    await world.cli(['run', '-d', world.manifest({ apiVersion: 'v1', kind: 'List', items })]);
    for (const pod of ['lines', 'web']) await world.untilRunning(pod);

    const attached = await world.cli(['attach', '-i', 'lines'], { input: 'one\ntwo\n' });
    expect(attached).toMatchObject({
      code: 0,
      stdout: 'got one\ngot two\n',
      stderr: 'heard one\nheard two\n',
    });
    expect((await world.untilEnded('lines')).status?.phase).toBe('Succeeded');

    const forward = world.start(['port-forward', 'web', ':80']);
    const [, port] = await forward.until(/^Forwarding from 127\.0\.0\.1:(\d+) -> 80$/m);
    // Until the server of the container listens.
    const page = async (): Promise<string> => {
      const response = await fetch(`http://127.0.0.1:${port}/`).catch(() => undefined);
      return (await response?.text().catch(() => '')) ?? '';
    };
    while ((await page()) !== 'page\n') expect(forward.hasEnded).toBe(false);
    expect(await Promise.all(Array.from({ length: 8 }, page))).toEqual(
      Array.from({ length: 8 }, () => 'page\n'),
    );
    forward.signal('SIGINT');
    expect((await forward.exit).code).toBe(0);
    await world.cli(['rm', '--force', 'lines', 'web']);
  });

  it('is taken up again by the next agent', async () => {
    const before = await world.untilRunning('restarts');
    agent.signal('SIGKILL');
    await agent.exit;
    agent = await world.liveAgent(words());
    const after = await world.untilRunning('restarts');
    expect(after.status?.containerStatuses?.[0]?.containerID).toBe(
      before.status?.containerStatuses?.[0]?.containerID,
    );
    await world.cli(['rm', 'restarts']);
    expect((await client.runtime.listContainers({})).containers ?? []).toEqual([]);
  });

  it('says that nobody answers, and how to mend it', { timeout: 60_000 }, async () => {
    const other = await World.open({ programs: 'true' });
    try {
      const { ready, program } = await other.agent({
        words: ['--container-runtime-endpoint', `${remote.path}.x`],
      });
      const { stderr } = await program.exit;
      expect(ready).toBe(false);
      expect(stderr).toContain(`no container runtime answers at "${remote.path}.x"`);
      expect(stderr).toContain('--container-runtime-endpoint');
      expect(name).not.toBe('');
    } finally {
      await other.close();
    }
  });
});
