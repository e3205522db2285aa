/** A terminal of somebody else, reached by a program that has none. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { NamespaceMode } from '../../src/cri/index.ts';
import { type Battlefield, inPod, openBattlefield } from '../fixtures/attack.ts';

let field: Battlefield;
beforeAll(async () => {
  field = await openBattlefield();
});
afterAll(async () => {
  await field?.close();
});

/** Session and controlling terminal of a process (proc(5): fields 6 and 7 of stat). */
function sessionOf(pid: number): { session: number; terminal: number } {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { session: Number(fields[3]), terminal: Number(fields[4]) };
}

describe('a program without a terminal', () => {
  // https://github.com/containers/bubblewrap/issues/142
  test.each([
    ['of its own', NamespaceMode.CONTAINER],
    ['of the pod', NamespaceMode.POD],
    ['of the host', NamespaceMode.NODE],
  ])('CVE-2017-5226: types into nobody’s, in the PID namespace %s', async (_name, pid) => {
    const namespaceOptions = { network: NamespaceMode.POD, ipc: NamespaceMode.POD, pid };
    await inPod(
      field,
      async (pod) => {
        const options = {
          security: { namespaceOptions: { pid }, capabilities: { addCapabilities: ['SYS_ADMIN'] } },
        };
        for (const stdin of [false, true]) {
          const { code, output } = await pod.run(['attacker', 'terminal'], { ...options, stdin });
          expect({ code, output }).toEqual({ code: 0, output: '' });
        }
        const running = await pod.start(['sleep', '1000'], options);
        const { record } = field.runtime.context.model.container(running);
        expect(sessionOf(record.pid)).toEqual({ session: record.pid, terminal: 0 });
        const session = await field.runtime.openExec({
          containerId: running,
          command: ['sleep', '1000'],
          terminal: false,
          stdin: true,
        });
        expect(sessionOf(session.pid)).toEqual({ session: session.pid, terminal: 0 });
        session.close();
        await session.exit;
        const { exitCode, stdout } = await field.runtime.execSync({
          containerId: running,
          cmd: ['attacker', 'terminal'],
        });
        expect({ exitCode, output: Buffer.from(stdout ?? []).toString() }).toEqual({
          exitCode: 0,
          output: '',
        });
      },
      { sandbox: { namespaceOptions } },
    );
  });
});
