/** What users get wrong, and machines: each said so that it can be mended, and nothing left behind. */

import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { podOf, shell, World } from '../../fixtures/agent.ts';
import { EvilRegistry } from '../../fixtures/registry-evil.ts';
import {
  dir,
  type Entry,
  file,
  hardlink,
  type ImageSpec,
  makeImage,
  symlink,
  tarOf,
} from '../../fixtures/registry-images.ts';

let world: World;
let registry: EvilRegistry;
beforeAll(async () => {
  [world, registry] = await Promise.all([World.open(), EvilRegistry.start()]);
});
afterAll(async () => {
  await registry?.stop();
  await world?.close();
});
afterEach(() => {
  registry.reset();
  expect(world.leftovers()).toEqual([]);
  expect(world.shared()).toEqual([]);
});

const pod = (container: object, spec: object = {}): object =>
  podOf('bad', [{ ...shell('echo it ran'), ...container }], spec);

describe('a manifest that is wrong, before anything is made', () => {
  it.each<[string, object | string, RegExp]>([
    ['no YAML', 'kind: [Pod\nmetadata: }', /document 1, line \d+: cannot read YAML: /],
    ['nothing', '', /document 1: it holds no object/],
    [
      'another kind',
      { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'd' } },
      /cannot use kind "Deployment" of "apps\/v1"; Pod, ConfigMap, Secret and List of "v1" can be used/,
    ],
    [
      'a misspelt field',
      pod({ comand: ['true'] }),
      /Pod default\/bad: spec\.containers\[0\]\.comand: unknown field: did you mean "command"\?/,
    ],
    [
      'a name that is no DNS label',
      podOf('Bad_Name', [shell('true')]),
      /metadata\.name: Invalid value: "Bad_Name": a lowercase RFC 1123 .* must consist of lower case alphanumeric/,
    ],
    [
      'two containers of one name',
      podOf('bad', [shell('true'), shell('true')]),
      /spec\.containers\[1\]\.name: Duplicate value: "c"/,
    ],
    [
      'a volumeMount without its volume',
      pod({ volumeMounts: [{ name: 'data', mountPath: '/data' }] }),
      /spec\.containers\[0\]\.volumeMounts\[0\]\.name: Not found: "data"/,
    ],
    [
      'a negative quantity',
      pod({ resources: { limits: { memory: '-1Mi' } } }),
      /resources\.limits\[memory\]: Invalid value: "-1Mi": must be greater than or equal to 0/,
    ],
    [
      'a quantity that cannot be read',
      pod({ resources: { limits: { cpu: '1 core' } } }),
      /resources\.limits\[cpu\]: Invalid value: "1 core": quantities must match/,
    ],
    [
      'a request above its limit',
      pod({ resources: { requests: { memory: '2Gi' }, limits: { memory: '1Gi' } } }),
      /resources\.requests: Invalid value: "2Gi": must be less than or equal to memory limit of 1Gi/,
    ],
    [
      'a user that cannot be one',
      pod({ securityContext: { runAsUser: -5 } }),
      /securityContext\.runAsUser: Invalid value: -5: must be between 0 and 2147483647, inclusive/,
    ],
    [
      'what is not supported yet',
      pod({}, { volumes: [{ name: 'v', nfs: { server: 'a', path: '/b' } }] }),
      /spec\.volumes\[0\]\.nfs: not supported by this version of Nodelet/,
    ],
  ])('%s', async (_, manifest, message) => {
    const { code, stdout, stderr } = await world.run(manifest);
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/^nodelet: cannot use ".*manifest-\d+\.yaml": /);
    expect({ code, stdout }).toEqual({ code: 125, stdout: '' });
    expect(existsSync(world.state)).toBe(false); // no agent was started for it
  });

  it('one wrong file of two: neither runs', async () => {
    const good = world.manifest(podOf('good', [shell('echo ran')]));
    const { code, stdout } = await world.cli(['run', ...world.settings, good, world.manifest('kind: x')]);
    expect({ code, stdout }).toEqual({ code: 125, stdout: '' });
  });

  it('a file that is not there', async () => {
    const { code, stderr } = await world.cli(['run', ...world.settings, '/no/such.yaml']);
    expect({ code, stderr }).toEqual({
      code: 125,
      stderr: 'nodelet: cannot read "/no/such.yaml": there is no such file\n',
    });
  });
});

describe('without root', () => {
  it.each<[string, readonly string[]]>([
    ['run', ['run', '-']],
    ['run --detach', ['run', '-d', '-']],
    ['agent', ['agent']],
  ])('%s', async (_, words) => {
    const nobody = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups'];
    const { code, stdout, stderr } = await world.cli([words[0] ?? '', ...world.settings, ...words.slice(1)], {
      input: JSON.stringify(pod({})),
      before: nobody,
    });
    expect({ code, stdout, stderr }).toEqual({
      code: 125,
      stdout: '',
      stderr:
        'nodelet: cannot run pods: root is needed to make namespaces, cgroups and mounts\n  hint: run it with sudo\n',
    });
  });
});

describe('an image that cannot be had', () => {
  const noise = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 2654435761) % 251));
  const served = (spec: Partial<ImageSpec> = {}, name = 'app'): string =>
    registry.add(name, makeImage({ layers: [tarOf(file('data', noise))], ...spec }));
  const spoilBlob = (change: (data: Buffer) => Buffer): void => {
    const [layer] = makeImage({ layers: [tarOf(file('data', noise))] }).layers;
    registry.rule = (request, response, self) => {
      if (!request.path.endsWith(layer?.digest ?? '')) return false;
      self.blob({ ...request, headers: {} }, response, change(Buffer.from(self.data(layer?.digest ?? ''))));
      return true;
    };
  };

  it.each<[string, () => string, RegExp]>([
    [
      'no such image',
      () => `${registry.host}/nothing:1`,
      /cannot start: ErrImagePull: cannot find image "127\.0\.0\.1:\d+\/nothing:1" in registry "127\.0\.0\.1:\d+"/,
    ],
    [
      'a registry that is down',
      () => '127.0.0.1:1/app:1',
      /RegistryUnavailable: image pull failed for 127\.0\.0\.1:1\/app:1 because the registry is unavailable: cannot pull "127\.0\.0\.1:1\/app:1": cannot reach registry "127\.0\.0\.1:1": connect ECONNREFUSED/,
    ],
    [
      'a wrong digest',
      () => {
        served();
        registry.addBlob(`sha256:${'1'.repeat(64)}`, makeImage({ layers: [] }).manifest);
        return `${registry.host}/app@sha256:${'1'.repeat(64)}`;
      },
      /its digest is sha256:[0-9a-f]{64}, not sha256:1{64}/,
    ],
    [
      'a corrupt blob',
      () => {
        spoilBlob((data) => data.fill(0x55, 1000, 1010));
        return served();
      },
      /cannot use blob sha256:[0-9a-f]{64}: its content has the digest sha256:/,
    ],
    [
      'a truncated blob',
      () => {
        spoilBlob((data) => data.subarray(0, data.length / 2));
        return served();
      },
      /sends \d+ bytes, its manifest says \d+/,
    ],
    [
      'a layer that is no archive',
      () => served({ layers: [Buffer.alloc(4096, 'x')] }),
      /cannot pull "127\.0\.0\.1:\d+\/app:latest": cannot read the tar stream: a checksum is no number/,
    ],
    [
      'a layer with ../ paths',
      () => served({ layers: [tarOf(file('../../../../../../tmp/nodelet-escaped'))] }),
      /the name ".*\/tmp\/nodelet-escaped" has a "\.\." part/,
    ],
    [
      'a hard link out of the root',
      () => served({ layers: [tarOf(hardlink('shadow', '/etc/shadow'))] }),
      /the hard link "shadow" leads to "\/?etc\/shadow", which the image does not have/,
    ],
  ])('%s', async (_, reference, message) => {
    const image = reference();
    const { code, stdout, stderr } = await world.run(pod({ image }));
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/^nodelet: container "c" of pod "bad" cannot start: /m);
    expect({ code, stdout }).toEqual({ code: 125, stdout: '' });
    expect(existsSync('/tmp/nodelet-escaped')).toBe(false);
  });

  it('pull policy Never', async () => {
    const { code, stderr } = await world.run(pod({ image: 'test.local/no:1', imagePullPolicy: 'Never' }));
    expect(stderr).toMatch(
      /cannot start: ErrImageNeverPull: Container image "test\.local\/no:1" is not present with pull policy of Never/,
    );
    expect(code).toBe(125);
  });

  /** Resolves when a registry that has stopped in the middle of a large blob is waited for. */
  const stall = async (): Promise<void> =>
    await new Promise<void>((resolve) => {
      registry.rule = (request, response, self) => {
        const data = self.data(request.path.slice(-71));
        if (!request.path.includes('/blobs/') || data.length < 10_000) return false;
        response.writeHead(200, { 'content-length': data.length });
        response.write(data.subarray(0, 5000), () => resolve());
        return true;
      };
    });

  it('killed with SIGKILL while it pulls: the next run pulls it whole', async () => {
    const image = runnable();
    const stalled = stall();
    const run = world.start(['run', ...world.settings, world.manifest(pod({ image }))]);
    await stalled;
    await run.kill();
    registry.rule = () => false;
    const { code, stdout } = await world.run(podOf('good', [{ ...shell('echo whole'), image }]));
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'whole\n' });
  });

  it.each(['Ctrl-C', 'the time limit'])('%s ends a run that waits for a registry', async (end) => {
    const image = runnable({ Labels: { end } }, file(`for-${end}`, randomBytes(50_000)));
    const stalled = stall();
    const words = end === 'Ctrl-C' ? [] : ['--timeout', '1s'];
    const run = world.start(['run', ...words, ...world.settings, world.manifest(pod({ image }))]);
    await stalled;
    if (end === 'Ctrl-C') run.signal('SIGINT');
    expect(await run.exit).toMatchObject({ code: end === 'Ctrl-C' ? 130 : 124, stdout: '' });
    // What has come of the blobs is kept for the next pull, until somebody wants the room.
    expect(world.leftovers().filter((text) => !text.startsWith('file root/images/ingest/'))).toEqual([]);
    expect((await world.cli(['image', 'prune'])).code).toBe(0);
  });
});

/** An image with a shell in it, and these entries above. */
function runnable(config: object = {}, ...entries: readonly Entry[]): string {
  const busybox = file('bin/busybox', readFileSync('/bin/busybox'), { mode: 0o755 });
  const programs = ['sh', 'cat', 'ls', 'echo'].map((name) => symlink(`bin/${name}`, 'busybox'));
  const layers = [
    tarOf(dir('bin'), busybox, ...programs),
    ...(entries.length > 0 ? [tarOf(...entries)] : []),
  ];
  return registry.add('runnable', makeImage({ layers, config: { Env: ['PATH=/bin'], ...config } }));
}

describe('an image that would reach out of its root', () => {
  it('an absolute link leads to a file of the image, and nothing is written through one', async () => {
    const victim = mkdtempSync(join(tmpdir(), 'nodelet-victim-'));
    try {
      writeFileSync(join(victim, 'secret'), 'of the host');
      const image = runnable(
        {},
        symlink('link', join(victim, 'secret')),
        symlink('out', victim),
        file('out/planted', 'planted'),
      );
      const { stdout, stderr, code } = await world.run(
        podOf('bad', [{ ...shell('cat /link; cat /out/planted'), image }]),
      );
      expect(readFileSync(join(victim, 'secret'), 'utf8')).toBe('of the host');
      expect(existsSync(join(victim, 'planted'))).toBe(false);
      expect(stdout).toBe('planted');
      expect(stderr).toContain("can't open '/link'");
      expect(code).toBe(0);
    } finally {
      rmSync(victim, { recursive: true, force: true });
    }
  });

  it('a device node cannot be opened', async () => {
    const [major = 0, minor = 0] = execFileSync('stat', ['-c', '%Hd %Ld', '/'], { encoding: 'utf8' })
      .split(' ')
      .map(Number);
    const image = runnable(
      {},
      { name: 'disk', type: 'block', mode: 0o666, devMajor: major, devMinor: minor },
      { name: 'kmsg', type: 'char', mode: 0o666, devMajor: 1, devMinor: 11 },
    );
    const script = 'ls -l /disk /kmsg >/dev/null && cat /disk; cat /kmsg';
    const { code, stdout, stderr } = await world.run(podOf('bad', [{ ...shell(script), image }]));
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/can't open '\/disk': Operation not permitted/);
    expect(stderr).toMatch(/can't open '\/kmsg': Operation not permitted/);
  });

  it('a user that does not exist', async () => {
    const image = runnable({ User: 'ghost' });
    const { code, stderr } = await world.run(pod({ image }));
    expect(stderr).toMatch(/cannot start: .*"?ghost"?/);
    expect(code).toBe(125);
  });
});

describe('a container that cannot start', () => {
  it.each<[string, object, number, RegExp]>([
    [
      'command not found',
      { command: ['no-such-program'] },
      127,
      /\(StartError\): cannot start container "c": exec: "no-such-program": executable file not found in \$PATH$/m,
    ],
    [
      'no such file',
      { command: ['/usr/bin/no-such'] },
      127,
      /exec: "\/usr\/bin\/no-such": no such file or directory$/m,
    ],
    ['not executable', { command: ['/etc/passwd'] }, 126, /exec: "\/etc\/passwd": permission denied$/m],
    ['a directory', { command: ['/usr'] }, 126, /exec: "\/usr": permission denied$/m],
    [
      'a working directory that is a file',
      { workingDir: '/etc/passwd' },
      128,
      /cannot start container "c": working directory "\/etc\/passwd" is not a directory$/m,
    ],
  ])('%s', async (_, container, expected, message) => {
    const { code, stdout, stderr } = await world.run(pod(container));
    expect(stderr).toMatch(message);
    expect({ code, stdout }).toEqual({ code: expected, stdout: '' });
  });

  it.each(['1', '4Ki', '128Ki'])('a memory limit of %s', async (memory) => {
    const { code, stdout, stderr } = await world.run(pod({ resources: { limits: { memory } } }));
    // How far it comes depends on the kernel's own use of memory: what it is told is the same.
    expect(stderr).toMatch(
      /memory limit of \d+ bytes may be too small to start anything|exited with 137 \(OOMKilled\)/,
    );
    expect([128, 137]).toContain(code);
    expect(stdout).toBe('');
  });

  it('root, where it may not be', async () => {
    const { code, stderr } = await world.run(pod({}, { securityContext: { runAsNonRoot: true } }));
    expect(stderr).toMatch(
      /CreateContainerConfigError: container has runAsNonRoot and image will run as root/,
    );
    expect(code).toBe(125);
  });
});

describe('killed with SIGKILL in the middle of it', () => {
  it.each<[string, object, RegExp]>([
    ['a pull that fails', { image: '127.0.0.1:1/app:1' }, /Pulling image/],
    [
      'an image that cannot be used',
      { image: 'test.local/no:1', imagePullPolicy: 'Never' },
      /ErrImageNeverPull/,
    ],
    ['a command that is not found', { command: ['no-such-program'] }, /Created/],
    ['a working directory that is a file', { workingDir: '/etc/passwd' }, /Created/],
    ['a memory limit that is too small', { resources: { limits: { memory: '4Ki' } } }, /Created/],
  ])('%s: the next run leaves nothing of it', async (_, container, moment) => {
    const always = { restartPolicy: 'Always' };
    const bad = world.manifest(pod(container, always));
    const run = world.start(['run', '--keep-trying', ...world.settings, bad]);
    await run.until(moment, 'stderr');
    await run.kill();
    const { code, stdout, stderr } = await world.run(podOf('next', [shell('echo next')]));
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'next\n' });
    expect(stderr).toContain('removing pod "bad": the run that it belonged to was killed');
  });
});

describe('a machine that is full', () => {
  it('the address range is exhausted', async () => {
    await World.within({ subnet: '10.98.77.0/30', programs: 'sh sleep true echo' }, async (small) => {
      const agent = await small.liveAgent();
      await small.cli([
        'run',
        '-d',
        small.manifest(podOf('first', [shell('trap "exit 0" TERM; sleep 1000 & wait')])),
      ]);
      await small.untilRunning('first');
      const second = podOf('second', [shell('true')]);
      const { code, stderr } = await small.cli(['run', '--rm', small.manifest(second)]);
      expect(stderr).toMatch(/FailedCreatePodSandBox.*10\.98\.77\.0\/30/);
      expect(code).toBe(125);
      expect(small.leftovers().filter((text) => text.includes('second'))).toEqual([]);
      // Room again: an address that was given back is given out.
      await small.cli(['rm', '-f', 'first']);
      const third = await small.cli(['run', '--rm', small.manifest(podOf('third', [shell('echo ok')]))]);
      expect(third).toMatchObject({ code: 0, stdout: 'ok\n' });
      agent.signal('SIGTERM');
      await agent.exit;
      expect(small.leftovers()).toEqual([]);
    });
  });

  it('the disk is full', async () => {
    const disk = mkdtempSync(join(tmpdir(), 'nodelet-disk-'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'tmpfs', disk]);
    try {
      await World.within({ parent: disk, programs: 'sh dd echo grep' }, onFullDisk);
    } finally {
      execFileSync('umount', [disk]);
      rmSync(disk, { recursive: true });
    }
  });

  async function onFullDisk(tight: World): Promise<void> {
    // A layer of zeros is small on the way and large on the disk.
    const huge = makeImage({ layers: [tarOf(file('zero', Buffer.alloc(96 << 20)))] });
    const pull = await tight.run(pod({ image: registry.add('huge', huge) }));
    expect(pull.stderr).toMatch(
      /cannot start: ErrImagePull: .*no room on the file system of ".*": no space left on device/,
    );
    expect(pull.code).toBe(125);
    expect(tight.leftovers()).toEqual([]);

    // The log is on the same disk: it says it once there is room again.
    const fill =
      'dd if=/dev/zero of=/fill bs=1M count=80 2>/dev/shm/why; rm /fill; grep -o "No space left on device" /dev/shm/why';
    const write = await tight.run(podOf('writer', [shell(fill)]));
    expect(write).toMatchObject({ code: 0, stdout: 'No space left on device\n' });
    expect(tight.leftovers()).toEqual([]);

    // Nothing at all is left: not even a record of the pod can be kept.
    const stuff = join(tight.base, 'user');
    execFileSync('sh', ['-c', `head -c 80m /dev/zero > ${stuff} 2>/dev/null || true`]);
    const run = await tight.cli(['run', ...tight.settings, '-'], { input: JSON.stringify(pod({})) });
    expect(run.stderr).toMatch(/^nodelet: cannot .*: ENOSPC: no space left on device/m);
    expect(run.code).toBe(125);
    rmSync(stuff);
    expect(tight.leftovers()).toEqual([]);
    expect((await tight.run(podOf('after', [shell('echo ok')]))).stdout).toBe('ok\n');
  }
});
