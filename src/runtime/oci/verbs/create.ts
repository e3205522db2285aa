import type { ParsedArguments } from '../arguments.ts';
import type { OciContext } from '../context.ts';
import { type CreateOptions, createContainer } from '../create.ts';
import { unsupported } from '../errors.ts';

export function createOptions(args: ParsedArguments, detached: boolean): CreateOptions {
  if (args.has('no-pivot')) throw unsupported('--no-pivot', 'the old root is always left by pivot_root');
  return {
    id: args.operands[0] ?? '',
    bundle: args.text('bundle') ?? '.',
    pidFile: args.text('pid-file'),
    consoleSocket: args.text('console-socket'),
    preserve: args.integer('preserve-fds', 0) ?? 0,
    keyring: !args.has('no-new-keyring'),
    detached,
  };
}

export async function run(context: OciContext, args: ParsedArguments): Promise<number> {
  const { shim } = await createContainer(context, createOptions(args, true));
  await shim.leave();
  return 0;
}
