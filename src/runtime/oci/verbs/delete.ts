import { hasCode } from '../../../base/index.ts';
import type { ParsedArguments } from '../arguments.ts';
import { type OciConfig, readConfig } from '../config/index.ts';
import type { OciContext } from '../context.ts';
import { destroyContainer } from '../destroy.ts';
import { notFound, statusOf } from '../state.ts';
import { checkStatus } from '../transitions.ts';

export async function run(context: OciContext, args: ParsedArguments): Promise<number> {
  const id = args.operands[0] ?? '';
  const force = args.has('force');
  try {
    using _lock = context.store.lock(id);
    await remove(context, id, force);
  } catch (error) {
    if (!(force && hasCode(error, 'OCI_NOT_FOUND'))) throw error;
  }
  return 0;
}

async function remove(context: OciContext, id: string, force: boolean): Promise<void> {
  const record = readRecord(context, id, force);
  if (record === undefined) {
    // A create that was killed at its first step.
    if (!force) throw notFound(id);
    context.store.remove(id);
    return;
  }
  const status = statusOf(context.store, context.host, record);
  if (!force) checkStatus('delete', id, status);
  await destroyContainer(context, record, configOf(context, id));
}

function readRecord(context: OciContext, id: string, force: boolean) {
  try {
    return context.store.read(id);
  } catch (error) {
    if (force && (hasCode(error, 'OCI_STATE_DAMAGED') || error instanceof SyntaxError)) return undefined;
    throw error;
  }
}

function configOf(context: OciContext, id: string): OciConfig | undefined {
  try {
    return readConfig(context.store.config(id));
  } catch (error) {
    context.log.warn(`the hooks of container ${JSON.stringify(id)} are lost: ${String(error)}`);
    return undefined;
  }
}
