/** Programs run in a container by a client who floods, stalls or goes away. */
import { readdirSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Battlefield, inPod, openBattlefield, ROUNDS } from '../fixtures/attack.ts';
import { file } from '../fixtures/registry-images.ts';

let field: Battlefield;
beforeAll(async () => {
  field = await openBattlefield();
});
afterAll(async () => {
  await field?.close();
});

const CAP = 16 << 20;
const descriptors = (): number => readdirSync('/proc/self/fd').length;

/** Memory outside the heap and in it, settled as far as it can be. */
function memory(): number {
  const { arrayBuffers, heapUsed } = process.memoryUsage();
  return arrayBuffers + heapUsed;
}

describe('a program without end', () => {
  // GHSA-5ffw-gxpp-mxpf (containerd), GHSA-fcm2-6c3h-pg6j (CRI-O)
  test('CVE-2022-31030: is read on past what is kept, which is 16 MiB a stream, and our memory stays flat', async () => {
    await inPod(field, async (pod) => {
      const id = await pod.start(['sleep', '1000']);
      const { runtime } = field;
      // It writes 64 MiB to each stream and then says so: whoever stops reading never hears it.
      const script = 'yes | head -c 67108864; yes | head -c 67108864 >&2; exit 7';
      const { stdout, stderr, exitCode } = await runtime.execSync({
        containerId: id,
        cmd: ['sh', '-c', script],
      });
      expect({ exitCode, out: stdout?.length, err: stderr?.length }).toEqual({
        exitCode: 7,
        out: CAP,
        err: CAP,
      });

      const before = memory();
      let peak = 0;
      const watch = setInterval(() => {
        peak = Math.max(peak, memory());
      }, 20);
      try {
        const floods = Array.from({ length: 2 }, () =>
          runtime
            .execSync({ containerId: id, cmd: ['sh', '-c', 'yes & yes >&2'], timeout: 3 })
            .catch((error: unknown) => error),
        );
        for (const end of await Promise.all(floods)) expect(end).toMatchObject({ code: 'DEADLINE_EXCEEDED' });
      } finally {
        clearInterval(watch);
      }
      // Two calls of two streams, chunks on their way and what was not collected yet: bounded, and far below what came.
      expect(peak - before).toBeLessThan(4 * CAP + 128 * 1024 * 1024);
    });
  }, 120_000);
});

describe('a client who goes away', () => {
  // GHSA-2qjp-425j-52j9 (a terminal whose resizes nobody read), GHSA-m6hq-p25p-ffr2 (attach)
  test.each([
    ['with a terminal', true],
    ['without one', false],
  ])(
    'CVE-2022-23471: a thousand times, %s, leaves no descriptor, no process and no promise',
    async (_name, terminal) => {
      await inPod(field, async (pod) => {
        const id = await pod.start(['sleep', '1000']);
        const { runtime } = field;
        const { shim } = runtime.context.model.sandbox(pod.id);
        const shimPid = runtime.context.model.sandbox(pod.id).record.shimPid;
        const drop = async (round: number): Promise<void> => {
          const session = await runtime.openExec({
            containerId: id,
            command: ['sh', '-c', 'echo x; exec sleep 1000'],
            terminal,
            stdin: true,
            ...(terminal ? { size: { width: 80, height: 24 } } : {}),
          });
          // At different moments: before the first byte, in the middle of input, after a resize.
          if (round % 3 === 1) session.stdin?.write('y'.repeat(100_000));
          if (round % 3 === 2) session.resize({ width: 100, height: 30 });
          session.close();
          session.close();
          // killed, or hung up on, or writing to nobody
          expect([129, 137, 141]).toContain(await session.exit);
        };
        for (let i = 0; i < 10; i++) await drop(i);
        const before = { ours: descriptors(), shim: readdirSync(`/proc/${shimPid}/fd`).length };
        let round = 0;
        const lane = async (): Promise<void> => {
          while (round < ROUNDS) await drop(++round);
        };
        await Promise.all(Array.from({ length: 4 }, lane));
        expect(await shim?.list()).toMatchObject([{ name: id }]);
        expect(shim?.exited.size).toBe(1);
        expect(descriptors()).toBeLessThanOrEqual(before.ours + 2);
        expect(readdirSync(`/proc/${shimPid}/fd`).length).toBeLessThanOrEqual(before.shim);
        const { pid } = runtime.context.model.container(id).record;
        const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
        expect(children).toBe('');
      });
    },
    300_000,
  );
});

describe('who looks at a container', () => {
  // https://bugzilla.redhat.com/show_bug.cgi?id=2070368: `top` ran a program of the container's, as root
  test('CVE-2022-1227: runs nothing of its own: state and figures are read from outside', async () => {
    const evil = '#!/bin/sh\necho ran >> /ran\n';
    const names = ['ps', 'top', 'nsenter', 'stat', 'cat2', 'id2'];
    const image = await field.image(
      'test.local/evil-tools:1',
      names.map((name) => file(`usr/bin/${name}`, evil, { mode: 0o755 })),
    );
    await inPod(field, async (pod) => {
      const id = await pod.start(['sleep', '1000'], {
        image: { image },
        envs: [{ key: 'PATH', value: '/usr/bin:/bin' }],
      });
      const { runtime } = field;
      await runtime.containerStats({ containerId: id });
      await runtime.listContainerStats({});
      await runtime.podSandboxStats({ podSandboxId: pod.id });
      await runtime.listPodSandboxStats({});
      await runtime.containerStatus({ containerId: id, verbose: true });
      await runtime.podSandboxStatus({ podSandboxId: pod.id, verbose: true });
      const { exitCode } = await runtime.execSync({ containerId: id, cmd: ['test', '-e', '/ran'] });
      expect(exitCode).toBe(1);
    });
  });
});
