import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { AttachOptions, AttachSession } from '../../../src/cri/index.ts';
import type { Runtime } from '../../../src/runtime/index.ts';
import {
  containerConfig,
  ended,
  logText,
  openRuntime,
  type RuntimeFixture,
  sandboxConfig,
  sh,
} from '../../fixtures/runtime.ts';
import { bytesOf, settled, textOf, until } from '../../fixtures/streams.ts';

let fixture: RuntimeFixture;
let pods = 0;
beforeEach(async () => {
  fixture = await openRuntime();
});
afterEach(async () => {
  await fixture?.close();
});

interface Started {
  readonly pod: string;
  readonly containerId: string;
  readonly shimPid: number;
}

async function start(script: string, options: Parameters<typeof containerConfig>[1] = {}): Promise<Started> {
  const { runtime } = fixture;
  pods += 1;
  const pod = `attached-${pods}`;
  const { podSandboxId = '' } = await runtime.runPodSandbox({
    config: sandboxConfig(fixture, { name: pod }),
  });
  const config = containerConfig(sh(script), options);
  const { containerId = '' } = await runtime.createContainer({ podSandboxId, config });
  await runtime.startContainer({ containerId });
  return { pod, containerId, shimPid: runtime.context.model.sandbox(podSandboxId).record.shimPid };
}

function attach(
  { containerId }: Started,
  options: Partial<AttachOptions> = {},
  runtime: Runtime = fixture.runtime,
): Promise<AttachSession> {
  return runtime.openAttach({
    containerId,
    stdin: true,
    stdout: true,
    stderr: true,
    terminal: false,
    ...options,
  });
}

async function exitCode({ containerId }: Started, runtime: Runtime = fixture.runtime): Promise<number> {
  await ended(runtime, containerId);
  return (await runtime.containerStatus({ containerId })).status?.exitCode ?? -1;
}

describe('attach', () => {
  test('gives several sessions the output from now on, and all of them the input', async () => {
    const started = await start('echo before; while read line; do echo "got $line"; echo "$line" >&2; done', {
      stdin: true,
    });
    const [one, two] = [await attach(started), await attach(started, { stderr: false })];
    const heard = [
      until(one.stdout, /second\n/),
      until(two.stdout, /second\n/),
      until(one.stderr, /second\n/),
    ];
    one.stdin?.write('first\n');
    await until(one.stdout, /got first\n/);
    two.stdin?.write('second\n');
    const [here, there, errors] = await Promise.all(heard);
    expect(here).toMatch(/^(before\n)?got first\ngot second\n$/);
    expect(there).toMatch(/got first\ngot second\n$/);
    expect(errors).toBe('first\nsecond\n');
    expect(two.stderr).toBeUndefined();
    one.close();
    two.close();
    await Promise.all([one.ended, two.ended]);
    expect(logText(fixture, started.pod)).toBe('before\ngot first\nfirst\ngot second\nsecond\n');
  });

  test('ends with the container, after its last words', async () => {
    const started = await start('read line; head -c 3000000 /dev/zero; exit 3', { stdin: true });
    const session = await attach(started);
    const slow = await attach(started, { stdin: false });
    session.stdin?.write('go\n');
    const whole = bytesOf(session.stdout);
    // The second holds the container, and so the first, until it is read.
    await settled(() => session.stdout?.readableLength ?? 0);
    expect([(await bytesOf(slow.stdout)).length, (await whole).length]).toEqual([3_000_000, 3_000_000]);
    await session.ended;
    expect(await exitCode(started)).toBe(3);
  });

  test('ends the input with the first session’s, where the container has stdinOnce', async () => {
    const started = await start('cat; echo over', { stdin: true, stdinOnce: true });
    const session = await attach(started);
    session.stdin?.end('some words\n');
    expect(await textOf(session.stdout)).toBe('some words\nover\n');
    expect(await exitCode(started)).toBe(0);
  });

  test('ends the session with its input elsewhere, and the next one writes on', async () => {
    const started = await start('while read line; do echo "got $line"; done', { stdin: true });
    const session = await attach(started);
    const heard = until(session.stdout, /got a\n/);
    session.stdin?.write('a\n');
    await heard;
    session.stdin?.end();
    await session.ended;
    const next = await attach(started);
    const again = until(next.stdout, /got b\n/);
    next.stdin?.write('b\n');
    await again;
    next.close();
  });

  test('has no input where the container has none', async () => {
    const started = await start('sleep 1000');
    const session = await attach(started);
    expect(session.stdin).toBeUndefined();
    session.close();
    await session.ended;
  });

  test('is a terminal where the container has one', async () => {
    const started = await start('while read line; do stty size; done; echo bye', { stdin: true, tty: true });
    const session = await attach(started, { terminal: true, stderr: false });
    session.resize({ width: 101, height: 33 });
    const size = until(session.stdout, /33 101\r\n/);
    session.stdin?.write('\n');
    await size;
    const rest = textOf(session.stdout);
    session.stdin?.write('\u0004');
    expect(await rest).toMatch(/bye\r\n$/);
    expect(await exitCode(started)).toBe(0);
  });

  test('is refused for a container that has ended', async () => {
    const started = await start('true');
    await ended(fixture.runtime, started.containerId);
    await expect(attach(started)).rejects.toMatchObject({ code: 'INVALID_STATE' });
  });

  test('is refused for the 17th session of one container, and given again when one has gone', async () => {
    const started = await start('sleep 1000');
    const sessions: AttachSession[] = [];
    for (let i = 0; i < 16; i++) sessions.push(await attach(started));
    await expect(attach(started)).rejects.toMatchObject({ code: 'SHIM_REFUSED' });
    sessions.pop()?.close();
    // The shim hears of it by the pipe.
    for (;;) {
      const again = await attach(started).catch(() => undefined);
      if (again !== undefined) {
        sessions.push(again);
        break;
      }
      await sleep(5);
    }
    for (const session of sessions) session.close();
  });

  test('works again after the agent has gone; stdinOnce has ended with it', async () => {
    const lines = await start('while read line; do echo "got $line"; done', { stdin: true });
    const once = await start('cat; exit 5', { stdin: true, stdinOnce: true });
    await attach(lines);
    const first = await attach(once);
    await fixture.runtime.close();
    const runtime = await fixture.restart();
    const session = await attach(lines, {}, runtime);
    const heard = until(session.stdout, /got again\n/);
    session.stdin?.write('again\n');
    await heard;
    session.close();
    const left = await attach(once, {}, runtime).catch(() => undefined);
    expect(left?.stdin).toBeUndefined();
    left?.close();
    // The first agent was this process, and what it holds goes only now.
    first.close();
    expect(await exitCode(once, runtime)).toBe(5);
  });
});

describe('a session that does not read', () => {
  test('holds the container for ten seconds, then is let go', async () => {
    const started = await start('while true; do head -c 1000000 /dev/zero | tr "\\0" x; echo; done');
    const log = join(fixture.base, 'logs', started.pod, 'c', '0.log');
    const size = (): number => statSync(log).size;
    const session = await attach(started);
    session.stdout?.pause();
    const last = await settled(size);
    const held = Date.now();
    while (size() === last) await sleep(20);
    // Held at least as long as was seen, and no longer than the shim's patience.
    expect(Date.now() - held).toBeLessThan(12_000);
    expect(Date.now() - held).toBeGreaterThan(7_000);
    for (const stream of [session.stdout, session.stderr]) stream?.resume();
    await expect(session.ended).rejects.toMatchObject({ code: 'ATTACH_LOST' });
  });

  test('costs the shim no memory', async () => {
    const started = await start('while true; do head -c 1000000 /dev/zero; done');
    const pss = (): number =>
      Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${started.shimPid}/smaps_rollup`, 'utf8'))?.[1]);
    const session = await attach(started);
    let bytes = 0;
    for await (const chunk of session.stdout as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > 50_000_000) break;
    }
    expect(pss()).toBeLessThan(1024);
    session.close();
  });
});
