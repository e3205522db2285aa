/** What of ours a container can get hold of: programs, roots and descriptors of processes on their way into it. */
import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { NamespaceMode } from '../../src/cri/index.ts';
import { nativeFile } from '../../src/linux/native.ts';
import { ATTACKERS, type Battlefield, inPod, openBattlefield, type Pod, ROUNDS } from '../fixtures/attack.ts';
import { file } from '../fixtures/registry-images.ts';
import { containerConfig, ended } from '../fixtures/runtime.ts';

let field: Battlefield;
beforeAll(async () => {
  field = await openBattlefield();
});
afterAll(async () => {
  await field?.close();
});

const SHARED = {
  namespaceOptions: { network: NamespaceMode.POD, pid: NamespaceMode.POD, ipc: NamespaceMode.POD },
};
const TRACER = { capabilities: { addCapabilities: ['SYS_PTRACE'] } };

/** Runs one after another, two at a time, as long as the watcher has found nothing. */
async function often(pod: Pod, watcher: string, once: (round: number) => Promise<void>): Promise<number> {
  const { record } = pod.runtime.context.model.container(watcher);
  let round = 0;
  const lane = async (): Promise<void> => {
    while (round < ROUNDS && record.state === 'running') await once(++round);
  };
  await Promise.all([lane(), lane()]);
  return round;
}

/** Ends the watcher, which says what it has seen. */
async function verdict(pod: Pod, watcher: string): Promise<string> {
  const { runtime } = pod;
  if (runtime.context.model.container(watcher).record.state === 'running')
    await runtime.execSync({ containerId: watcher, cmd: ['touch', '/stop'] });
  await ended(runtime, watcher);
  return pod
    .output(watcher)
    .split('\n')
    .filter((line) => !/^saw the program of \d+, sealed$/.test(line))
    .join('\n');
}

describe('a tracer in the container', () => {
  // GHSA-gp4j-w3vj-7299: descriptors of the host's directories were open in the process that joins
  test('CVE-2016-9962: finds no way to the host through a program that is run beside it', async () => {
    await inPod(field, async (pod) => {
      const watcher = await pod.start(['attacker', 'watch', field.secret, '/stop'], { security: TRACER });
      const rounds = await often(pod, watcher, async () => {
        await field.runtime.execSync({ containerId: watcher, cmd: ['true'] }).catch(() => {});
      });
      expect(await verdict(pod, watcher)).toBe('watching\n');
      expect(rounds).toBe(ROUNDS);
    });
  }, 300_000);

  test('CVE-2016-9962: nor through a container that starts in its PID namespace', async () => {
    await inPod(
      field,
      async (pod) => {
        const namespaceOptions = { pid: NamespaceMode.POD };
        const watcher = await pod.start(['attacker', 'watch', field.secret, '/stop'], {
          security: { ...TRACER, namespaceOptions },
        });
        const { runtime } = field;
        const rounds = await often(pod, watcher, async (round) => {
          const { containerId = '' } = await runtime.createContainer({
            podSandboxId: pod.id,
            config: containerConfig(['true'], {
              name: `n${round}`,
              image: { image: ATTACKERS },
              logPath: '',
              security: { namespaceOptions },
            }),
          });
          await runtime.startContainer({ containerId });
          await ended(runtime, containerId);
          await runtime.removeContainer({ containerId });
        });
        expect(await verdict(pod, watcher)).toBe('watching\n');
        expect(rounds).toBe(ROUNDS);
      },
      { sandbox: SHARED },
    );
  }, 300_000);
});

describe('our own programs', () => {
  const programs = (): string[] => [nativeFile('nodelet-shim'), process.execPath];
  const state = (): string[] =>
    programs().map((path) => {
      const { mode, uid, mtimeMs } = statSync(path);
      return [path, mode, uid, mtimeMs, createHash('sha256').update(readFileSync(path)).digest('hex')].join(
        ' ',
      );
    });

  const startsAnother = async (): Promise<void> =>
    await inPod(field, async (pod) => {
      expect((await pod.run(['echo', 'well'])).output).toBe('well\n');
    });

  // https://www.openwall.com/lists/oss-security/2019/02/11/2
  test('CVE-2019-5736: are as they were after an image has run them inside', async () => {
    const before = state();
    const script = file('bin/entry', '#!/proc/self/exe x /tmp/socket\n', { mode: 0o755 });
    const image = await field.image('test.local/self:1', [script]);
    for (const command of [['/proc/self/exe'], ['/proc/self/exe', 'x', '/tmp/socket'], ['/bin/entry']]) {
      await inPod(field, async (pod) => {
        await pod.start(command, { image: { image } }).catch(() => {});
        await pod.run(['attacker', 'image'], { image: { image } });
      });
    }
    await startsAnother();
    expect(state()).toEqual(before);
  });

  test('CVE-2019-5736: nor are they written, or kept from running, by who can open the pod’s first process', async () => {
    const before = state();
    const namespaceOptions = { pid: NamespaceMode.POD };
    await inPod(
      field,
      async (pod) => {
        const { code, output } = await pod.run(['attacker', 'image'], {
          security: { ...TRACER, namespaceOptions },
        });
        // 2: it could not be opened at all
        expect([0, 2]).toContain(code);
        expect(output).not.toContain('written');
        await startsAnother();
      },
      { sandbox: SHARED },
    );
    expect(state()).toEqual(before);
  });
});
