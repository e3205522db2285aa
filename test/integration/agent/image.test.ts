/** An image made by umoci and pushed by skopeo, run as a pod: all that its config says, and what its layers hide. */
import { execFileSync, spawnSync } from 'node:child_process';
import { chownSync, cpSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { podOf, World } from '../../fixtures/agent.ts';
import { startRegistry, type TestRegistry } from '../../fixtures/registry.ts';

const missing = ['umoci', 'skopeo', 'docker-registry'].filter(
  (tool) => spawnSync('sh', ['-c', `command -v ${tool}`]).status !== 0,
);

let world: World;
let registry: TestRegistry;
let reference: string;

const ENTRY = `echo "ids $(id -u):$(id -g) $(id -G)"
echo "env $GREETING $PATH"
echo "pwd $(pwd)"
echo "args $# $1|$2"
echo "data $(cd /data && echo *)"
echo "deep $(cd /deep && echo *)"
echo "file $(cat /replaced)"
echo "volume $(cat /vol/seed) $(grep -c ' /vol ' /proc/self/mountinfo)"
touch /vol/mine && echo "volume is mine"
trap 'echo "got USR1"; exit 0' USR1
trap 'echo "got TERM"; exit 1' TERM
echo ready
while :; do sleep 1000 & wait $!; done
`;

function buildImage(layout: string, folder: string): void {
  const umoci = (...words: string[]): void => void execFileSync('umoci', words, { stdio: 'pipe' });
  const image = ['--image', `${layout}:app`];
  const path = (...parts: string[]): string => join(folder, ...parts);
  umoci('init', '--layout', layout);
  umoci('new', ...image);

  for (const name of ['root/bin', 'root/etc', 'root/data/gone', 'root/deep/old', 'root/vol', 'root/srv/work'])
    mkdirSync(path(name), { recursive: true });
  cpSync('/bin/busybox', path('root/bin/busybox'));
  for (const name of 'sh cat id grep touch sleep ls pwd'.split(' '))
    symlinkSync('busybox', path('root/bin', name));
  writeFileSync(path('root/etc/passwd'), 'root:x:0:0::/:/bin/sh\napp:x:1234:5678::/srv:/bin/sh\n');
  writeFileSync(path('root/etc/group'), 'root:x:0:\napp:x:5678:\nextra:x:777:app\n');
  for (const name of ['data/kept', 'data/whited', 'data/gone/x', 'deep/old/x', 'deep/older', 'replaced'])
    writeFileSync(path('root', name), 'first');
  writeFileSync(path('root/vol/seed'), 'seed');
  chownSync(path('root/vol'), 1234, 5678);
  writeFileSync(path('root/entry.sh'), ENTRY);
  umoci('insert', ...image, path('root'), '/');

  umoci('insert', ...image, '--whiteout', '/data/whited');
  umoci('insert', ...image, '--whiteout', '/data/gone');
  mkdirSync(path('deep'));
  writeFileSync(path('deep/new'), 'second');
  umoci('insert', ...image, '--opaque', path('deep'), '/deep');
  writeFileSync(path('replaced'), 'second');
  umoci('insert', ...image, path('replaced'), '/replaced');
  // What was hidden may come again.
  mkdirSync(path('gone'));
  writeFileSync(path('gone/y'), 'third');
  umoci('insert', ...image, path('gone'), '/data/gone');

  const words: readonly [string, string][] = [
    ['entrypoint', '/bin/sh'],
    ['entrypoint', '/entry.sh'],
    ['cmd', 'one'],
    ['cmd', 'two words'],
    ['stopsignal', 'SIGUSR1'],
    ['user', 'app'],
    ['env', 'GREETING=hello'],
    ['env', 'PATH=/bin'],
    ['workingdir', '/srv/work'],
    ['volume', '/vol'],
  ];
  umoci('config', ...image, ...words.flatMap(([name, value]) => [`--config.${name}`, value]));
}

describe.skipIf(missing.length > 0)('an image by umoci, through a registry', () => {
  beforeAll(async () => {
    [world, registry] = await Promise.all([World.open(), startRegistry()]);
    const folder = join(world.base, 'user');
    mkdirSync(folder);
    buildImage(join(folder, 'layout'), folder);
    reference = `${registry.host}/team/app:1`;
    const target = `docker://${reference}`;
    const source = `oci:${join(folder, 'layout')}:app`;
    const options = '--insecure-policy copy -q --dest-tls-verify=false';
    execFileSync('skopeo', [...options.split(' '), source, target]);
  });
  afterAll(async () => {
    await registry?.stop();
    await world?.close();
  });

  it('is pulled and run as its config says, its whiteouts hold, its signal stops it', async () => {
    const agent = await world.liveAgent();
    const pod = podOf('app', [{ name: 'c', image: reference }], { terminationGracePeriodSeconds: 30 });
    await world.cli(['run', '-d', world.manifest(pod)]);
    await world.untilRunning('app');
    const follower = world.start(['logs', '-f', 'app']);
    await follower.until(/^ready$/m);
    expect((await world.cli(['stop', 'app'])).code).toBe(0);
    expect((await follower.exit).stdout).toBe(
      [
        'ids 1234:5678 5678 777',
        'env hello /bin',
        'pwd /srv/work',
        'args 2 one|two words',
        'data gone kept',
        'deep new',
        'file second',
        'volume seed 1',
        'volume is mine',
        'ready',
        'got USR1',
        '',
      ].join('\n'),
    );
    const ended = await world.untilEnded('app');
    expect(ended.status?.phase).toBe('Succeeded');
    expect((await world.cli(['rm', 'app'])).code).toBe(0);
    expect(world.leftovers()).toEqual([]);
    agent.signal('SIGTERM');
    await agent.exit;
  });

  it('the pod has the last word: command, args, user, directory', async () => {
    const script = 'echo "$0 $1 $(id -u) $(pwd) $(ls /data/gone)"';
    const overridden = {
      name: 'c',
      image: reference,
      command: ['/bin/sh', '-c', script],
      args: ['a', 'b'],
      workingDir: '/data',
      securityContext: { runAsUser: 99 },
    };
    expect(await world.run(podOf('own', [overridden]))).toMatchObject({
      code: 0,
      stdout: 'a b 99 /data y\n',
    });
    // args alone replace CMD and leave ENTRYPOINT.
    const args = { name: 'c', image: reference, args: ['three'] };
    const run = world.start(['run', ...world.settings, world.manifest(podOf('args', [args]))]);
    await run.until(/^args 1 three\|$/m);
    await run.until(/^ready$/m);
    run.signal('SIGINT');
    const { code, stdout } = await run.exit;
    expect(code).toBe(130);
    expect(stdout).toMatch(/got USR1\n$/);
  });
});
