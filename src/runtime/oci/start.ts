/** Lets a created container run, and hears from it until its program is executed. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { NodeletError } from '../../base/index.ts';
import { AT_FDCWD, O, POLL } from '../../linux/constants.ts';
import { Fd, FdWatcher } from '../../linux/fd.ts';
import { native } from '../../linux/native.ts';
import { check } from '../../linux/syscall-error.ts';
import { OPERATIONS } from '../launch/protocol.gen.ts';
import { type OciConfig, readConfig } from './config/index.ts';
import type { OciContext } from './context.ts';
import { runLateHooks } from './hooks.ts';
import { failureText } from './launch.ts';
import { type OciRecord, START_SOCKET, stateOf, statusOf } from './state.ts';
import { checkStatus } from './transitions.ts';

/** Throws OCI_STATE unless it is created, OCI_START_FAILED where it does not come to its program. */
export async function startContainer(
  context: OciContext,
  record: OciRecord,
  config: OciConfig,
): Promise<void> {
  checkStatus('start', record.id, statusOf(context.store, context.host, record));
  const failure = await release(context, record);
  if (failure !== '') throw new NodeletError('OCI_START_FAILED', explain(failure));
  await runLateHooks(config.hooks, 'poststart', stateOf(record, 'running'), context.log);
}

/** Everything that the child says before exec closes its end: nothing when it succeeds. */
async function release(context: OciContext, record: OciRecord): Promise<string> {
  const directory = context.store.directory(record.id);
  using folder = new Fd(
    check(native().openat2(AT_FDCWD, directory, O.PATH | O.DIRECTORY, 0, 0), 'open', directory),
  );
  using socket = new Fd(
    check(
      native().connectSeqpacket(`/proc/self/fd/${folder.number}/${START_SOCKET}`),
      'connect',
      join(directory, START_SOCKET),
    ),
  );
  // The state is what startContainer hooks read: they run before the program, so it is created still.
  check(
    native().sendmsg(socket.number, Buffer.from(JSON.stringify(stateOf(record, 'created'))), []),
    'sendmsg',
  );
  rmSync(join(directory, START_SOCKET), { force: true });
  return await new Promise<string>((resolve) => {
    const buffer = Buffer.alloc(1024);
    const watcher = new FdWatcher(socket.number, POLL.READABLE | POLL.DISCONNECT, () => {
      const got = native().recvmsg(socket.number, buffer);
      if (got === -11) return;
      watcher.close();
      resolve(typeof got === 'number' ? '' : buffer.toString('utf8', 0, got.size));
    });
  });
}

/** "operation code, errno, detail", as native/shim/ops_oci.c writes it. */
function explain(text: string): string {
  const match = /^(-?\d+) (-?\d+) (.*)$/s.exec(text);
  if (match === null) return `cannot start the container: ${text}`;
  return failureText({
    operation: operationName(Number(match[1])),
    errno: Number(match[2]),
    detail: match[3] ?? '',
    signal: 0,
  });
}

function operationName(code: number): string {
  return Object.entries(OPERATIONS).find(([, info]) => info.code === code)?.[0] ?? `operation ${code}`;
}

/** A container by its id, one call at a time. */
export async function startKnown(context: OciContext, id: string): Promise<void> {
  using _lock = context.store.lock(id);
  const record = context.store.get(id);
  await startContainer(context, record, readConfig(context.store.config(id)));
}
