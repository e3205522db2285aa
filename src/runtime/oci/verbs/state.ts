import type { ParsedArguments } from '../arguments.ts';
import type { OciContext } from '../context.ts';
import { writeAll } from '../log.ts';
import { stateOf, statusOf } from '../state.ts';

export function run({ store, host }: OciContext, args: ParsedArguments): number {
  const record = store.get(args.operands[0] ?? '');
  writeAll(1, `${JSON.stringify(stateOf(record, statusOf(store, host, record)), null, 2)}\n`);
  return 0;
}
