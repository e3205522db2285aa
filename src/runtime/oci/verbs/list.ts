import { hasCode } from '../../../base/index.ts';
import type { ParsedArguments } from '../arguments.ts';
import type { OciContext } from '../context.ts';
import { usage } from '../errors.ts';
import { writeAll } from '../log.ts';
import { stateOf, statusOf } from '../state.ts';
import { textTable } from '../table.ts';

export function run(context: OciContext, args: ParsedArguments): number {
  const format = args.text('format') ?? 'table';
  if (format !== 'table' && format !== 'json')
    throw usage(`--format: expected table or json, found ${JSON.stringify(format)}`);
  const states = context.store.list().flatMap((id) => stateIfThere(context, id));
  if (args.has('quiet')) writeAll(1, states.map(({ id }) => `${String(id)}\n`).join(''));
  else if (format === 'json') writeAll(1, `${JSON.stringify(states)}\n`);
  else {
    const columns = ['id', 'pid', 'status', 'bundle', 'created', 'owner'];
    writeAll(
      1,
      textTable([
        columns.map((column) => column.toUpperCase()),
        ...states.map((state) => columns.map((column) => String(state[column]))),
      ]),
    );
  }
  return 0;
}

/** One that is being created or deleted just now is left out. */
function stateIfThere({ store, host, log }: OciContext, id: string): Record<string, unknown>[] {
  try {
    const record = store.read(id);
    return record === undefined ? [] : [stateOf(record, statusOf(store, host, record))];
  } catch (error) {
    if (!hasCode(error, 'OCI_NOT_FOUND')) log.warn(String(error));
    return [];
  }
}
