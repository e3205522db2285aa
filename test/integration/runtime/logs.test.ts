import { mkdirSync, readdirSync, readFileSync, renameSync, statSync, symlinkSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { native } from '../../../src/linux/native.ts';
import { check } from '../../../src/linux/syscall-error.ts';
import {
  containerConfig,
  ended,
  logText,
  openRuntime,
  type RuntimeFixture,
  sandboxConfig,
  sh,
} from '../../fixtures/runtime.ts';

let fixture: RuntimeFixture;
beforeAll(async () => {
  fixture = await openRuntime();
});
afterAll(async () => {
  await fixture?.close();
});

async function start(
  command: readonly string[],
  options: object = {},
): Promise<{ podSandboxId: string; containerId: string; pod: string; path: string }> {
  const config = sandboxConfig(fixture);
  const pod = config.metadata?.name ?? '';
  const podSandboxId = (await fixture.runtime.runPodSandbox({ config })).podSandboxId ?? '';
  const containerId =
    (await fixture.runtime.createContainer({ podSandboxId, config: containerConfig(command, options) }))
      .containerId ?? '';
  await fixture.runtime.startContainer({ containerId });
  return { podSandboxId, containerId, pod, path: join(fixture.base, 'logs', pod, 'c', '0.log') };
}

async function run(
  command: readonly string[],
  options: object = {},
): Promise<{ lines: string[]; pod: string }> {
  const { podSandboxId, containerId, pod, path } = await start(command, options);
  await ended(fixture.runtime, containerId);
  const lines = readFileSync(path, 'utf8').split('\n');
  expect(lines.pop()).toBe('');
  await fixture.runtime.removePodSandbox({ podSandboxId });
  return { lines, pod };
}

describe('the log of a container', () => {
  test('has a line for each line, with time, stream and tag', async () => {
    const before = Date.now();
    const { lines } = await run(sh('echo one; echo two >&2; echo; echo three'));
    const parsed = lines.map((line) => /^(\S+) (stdout|stderr) ([FP]) (.*)$/.exec(line)?.slice(1) ?? []);
    expect(parsed.filter(([, stream]) => stream === 'stdout').map((one) => one.slice(1))).toEqual([
      ['stdout', 'F', 'one'],
      ['stdout', 'F', ''],
      ['stdout', 'F', 'three'],
    ]);
    expect(parsed.filter(([, stream]) => stream === 'stderr').map((one) => one.slice(1))).toEqual([
      ['stderr', 'F', 'two'],
    ]);
    for (const [time = ''] of parsed) {
      // RFC 3339 with nine digits, in UTC
      expect(time).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$/);
      expect(Date.parse(time)).toBeGreaterThanOrEqual(before - 1);
      expect(Date.parse(time)).toBeLessThanOrEqual(Date.now() + 1);
    }
  });

  test('keeps what has no newline at the end, marked as partial', async () => {
    const { lines } = await run(['printf', 'a\nunfinished']);
    expect(lines.map((line) => line.split(' ').slice(1).join(' '))).toEqual([
      'stdout F a',
      'stdout P unfinished',
    ]);
  });

  test('splits a long line at 16 KiB and marks all parts but the last', async () => {
    const { lines, pod } = await run(sh('head -c 40000 /dev/zero | tr "\\0" x; echo; echo next'));
    const parts = lines.map((line) => line.split(' '));
    expect(parts.map(([, , tag, text = '']) => [tag, text.length])).toEqual([
      ['P', 16_384],
      ['P', 16_384],
      ['F', 40_000 - 2 * 16_384],
      ['F', 4],
    ]);
    expect(logText(fixture, pod)).toBe(`${'x'.repeat(40_000)}\nnext\n`);
  });

  test('takes a line of exactly 16 KiB as one', async () => {
    const { lines } = await run(
      sh('head -c 16384 /dev/zero | tr "\\0" y; echo; head -c 16385 /dev/zero | tr "\\0" z; echo'),
    );
    expect(lines.map((line) => [line.split(' ')[2], line.split(' ')[3]?.length])).toEqual([
      ['F', 16_384],
      ['P', 16_384],
      ['F', 1],
    ]);
  });

  test('keeps every byte that is no newline', async () => {
    const { lines } = await run(['printf', '\\001\\200\\377 \\t\\r|\n']);
    expect(lines).toHaveLength(1);
    const raw = readFileSync(join(fixture.base, 'logs', `pod-${podNumber()}`, 'c', '0.log'));
    expect([...raw.subarray(raw.indexOf(' F ') + 3, -1)]).toEqual([1, 0x80, 0xff, 0x20, 9, 13, 0x7c]);
  });

  test('has the terminal’s output in one stream', async () => {
    const { lines } = await run(sh('echo out; echo err >&2; test -t 1 && echo tty'), { tty: true });
    expect(lines.map((line) => line.split(' ').slice(1).join(' '))).toEqual([
      'stdout F out\r',
      'stdout F err\r',
      'stdout F tty\r',
    ]);
  });

  test('goes on where everybody has closed the terminal for a while', async () => {
    const { lines } = await run(
      sh('echo a; exec </dev/null >/dev/null 2>&1; sleep 0.3; exec >/dev/console; echo b'),
      { tty: true },
    );
    expect(lines.map((line) => line.split(' ').slice(3).join(' '))).toEqual(['a\r', 'b\r']);
  });

  test('holds a million lines in order, none lost, none torn', async () => {
    const { lines } = await run(['seq', '1', '1000000']);
    expect(lines).toHaveLength(1_000_000);
    let expected = 1;
    for (const line of lines) {
      if (!line.endsWith(` stdout F ${expected}`)) throw new Error(`line ${expected}: ${line}`);
      expected += 1;
    }
  }, 120_000);

  test('goes on in a new file after a rotation', async () => {
    const { podSandboxId, containerId, pod, path } = await start(
      sh('i=0; while [ ! -e /stop ]; do i=$((i+1)); echo $i; sleep 0.005; done'),
    );
    await new Promise<void>((resolve) => {
      const look = (): void => {
        if (statSync(path).size > 200) resolve();
        else setImmediate(look);
      };
      look();
    });
    renameSync(path, `${path}.1`);
    await fixture.runtime.reopenContainerLog({ containerId });
    await fixture.runtime.execSync({ containerId, cmd: ['touch', '/stop'] });
    await ended(fixture.runtime, containerId);
    const numbers = `${readFileSync(`${path}.1`, 'utf8')}${readFileSync(path, 'utf8')}`
      .trim()
      .split('\n')
      .map((line) => Number(line.split(' ')[3]));
    expect(numbers).toEqual(Array.from({ length: numbers.length }, (_, i) => i + 1));
    expect(statSync(path).mode & 0o777).toBe(0o640);
    expect(pod).not.toBe('');
    await fixture.runtime.removePodSandbox({ podSandboxId });
  });

  test('is not written through a link that somebody has put there', async () => {
    const config = sandboxConfig(fixture);
    const directory = join(config.logDirectory ?? '', 'c');
    mkdirSync(directory, { recursive: true });
    symlinkSync('/etc/hostname', join(directory, '0.log'));
    const podSandboxId = (await fixture.runtime.runPodSandbox({ config })).podSandboxId ?? '';
    const containerId =
      (await fixture.runtime.createContainer({ podSandboxId, config: containerConfig(['echo', 'x']) }))
        .containerId ?? '';
    await expect(fixture.runtime.startContainer({ containerId })).rejects.toThrow(
      /operation \d+ \(streams\).*ELOOP/,
    );
    unlinkSync(join(directory, '0.log'));
    await fixture.runtime.removePodSandbox({ podSandboxId });
  });

  test('that cannot be written on a full disk costs lines, never the container, and is well formed afterwards', async () => {
    const config = sandboxConfig(fixture);
    const directory = config.logDirectory ?? '';
    mkdirSync(directory, { recursive: true });
    check(native().mount('tmpfs', directory, 'tmpfs', 0, 'size=256k'), 'mount', directory);
    try {
      const podSandboxId = (await fixture.runtime.runPodSandbox({ config })).podSandboxId ?? '';
      const command = sh(
        'seq 1 50000; touch /full; while [ ! -e /go ]; do sleep 0.01; done; echo after; exit 6',
      );
      const containerId =
        (await fixture.runtime.createContainer({ podSandboxId, config: containerConfig(command) }))
          .containerId ?? '';
      const lost = new Promise<number>((resolve) => {
        fixture.runtime.context.model.sandbox(podSandboxId).shim?.logLost.on((event) => resolve(event.error));
      });
      await fixture.runtime.startContainer({ containerId });
      expect(await lost).toBe(28);
      await fixture.runtime.execSync({ containerId, cmd: sh('while [ ! -e /full ]; do sleep 0.01; done') });
      const path = join(directory, 'c', '0.log');
      // Room again: an administrator has moved the log away.
      renameSync(path, join(directory, 'old.log'));
      const old = readFileSync(join(directory, 'old.log'), 'utf8').split('\n');
      unlinkSync(join(directory, 'old.log'));
      await fixture.runtime.reopenContainerLog({ containerId });
      await fixture.runtime.execSync({ containerId, cmd: ['touch', '/go'] });
      await ended(fixture.runtime, containerId);
      expect((await fixture.runtime.containerStatus({ containerId })).status?.exitCode).toBe(6);
      expect(readFileSync(path, 'utf8')).toMatch(/ stdout F after\n$/);
      for (const line of old.slice(0, -1)) expect(line).toMatch(/^\S+ stdout F \d+$/);
      await fixture.runtime.removePodSandbox({ podSandboxId });
    } finally {
      native().umount2(directory, 2);
    }
  });
});

function podNumber(): number {
  const names = readdirSync(join(fixture.base, 'logs')).map((name) => Number(name.replace('pod-', '')));
  return Math.max(...names);
}
