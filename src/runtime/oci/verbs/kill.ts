import { killCgroup, processesIn } from '../../../linux/cgroups/index.ts';
import { SIGNALS, signalNumber } from '../../../linux/constants.ts';
import { Fd } from '../../../linux/fd.ts';
import { native } from '../../../linux/native.ts';
import type { ParsedArguments } from '../arguments.ts';
import { readConfig } from '../config/index.ts';
import type { OciContext } from '../context.ts';
import { signalFirst } from '../destroy.ts';
import { usage } from '../errors.ts';
import { type OciRecord, statusOf } from '../state.ts';
import { checkStatus } from '../transitions.ts';

export function run(context: OciContext, args: ParsedArguments): number {
  const [id = '', text = 'TERM'] = args.operands;
  const signal = signalNumber(text);
  if (signal === undefined) throw usage(`unknown signal ${JSON.stringify(text)}`);
  const record = context.store.get(id);
  if (args.has('all')) {
    signalAll(context, record, signal);
    return 0;
  }
  checkStatus('kill', id, statusOf(context.store, context.host, record));
  if (!signalFirst(record, signal)) checkStatus('kill', id, 'stopped');
  // Without a PID namespace of its own the end of the first process ends nobody else.
  if (signal === SIGNALS.SIGKILL && !hasOwnPids(context, id)) killCgroup(context.host, record.cgroup);
  return 0;
}

function hasOwnPids({ store }: OciContext, id: string): boolean {
  return readConfig(store.config(id)).linux.namespaces.some(
    ({ type, path }) => type === 'pid' && path === undefined,
  );
}

/** Also what is left when the first process has ended. */
function signalAll({ host }: OciContext, record: OciRecord, signal: number): void {
  if (signal === SIGNALS.SIGKILL) {
    killCgroup(host, record.cgroup);
    return;
  }
  for (const pid of processesIn(host, record.cgroup)) {
    const opened = native().pidfdOpen(pid);
    if (opened < 0) continue;
    using pidfd = new Fd(opened);
    // Still a member after it was opened: no other process that has the number by now.
    if (processesIn(host, record.cgroup).includes(pid)) native().pidfdSendSignal(pidfd.number, signal);
  }
}
