import type { ParsedArguments } from '../arguments.ts';
import type { OciContext } from '../context.ts';
import { createContainer } from '../create.ts';
import { destroyContainer } from '../destroy.ts';
import { Foreground } from '../foreground.ts';
import { startContainer } from '../start.ts';
import { createOptions } from './create.ts';

export async function run(context: OciContext, args: ParsedArguments): Promise<number> {
  const detach = args.has('detach');
  const { record, config, shim, terminal } = await createContainer(context, createOptions(args, detach));
  // An end that comes before anybody waits for it is not lost.
  const foreground = detach ? undefined : new Foreground(shim.client, record.id);
  try {
    if (terminal !== undefined) foreground?.attach(terminal);
    await startContainer(context, record, config);
    if (foreground === undefined) {
      await shim.leave();
      return 0;
    }
    // Should this program be killed, the container goes on.
    await shim.client.leave(true);
    const code = await foreground.wait();
    if (!args.has('keep')) await destroyContainer(context, record, config);
    return code;
  } catch (error) {
    await destroyContainer(context, record, config);
    throw error;
  } finally {
    foreground?.close();
    await shim.end();
  }
}
