import type { ParsedArguments } from '../arguments.ts';
import type { OciContext } from '../context.ts';
import { startKnown } from '../start.ts';

export async function run(context: OciContext, args: ParsedArguments): Promise<number> {
  await startKnown(context, args.operands[0] ?? '');
  return 0;
}
