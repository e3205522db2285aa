import { freeze } from '../../../linux/cgroups/index.ts';
import type { ParsedArguments } from '../arguments.ts';
import type { OciContext } from '../context.ts';
import { statusOf } from '../state.ts';
import { checkStatus } from '../transitions.ts';

export async function run({ store, host }: OciContext, args: ParsedArguments): Promise<number> {
  const id = args.operands[0] ?? '';
  using _lock = store.lock(id);
  const record = store.get(id);
  checkStatus('pause', id, statusOf(store, host, record));
  await freeze(host, record.cgroup);
  return 0;
}
