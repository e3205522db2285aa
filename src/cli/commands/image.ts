import type { Command } from 'commander';
import { registerCopy } from '../image/copy.ts';
import { registerDiff } from '../image/diff.ts';
import { registerHistory, registerInspect } from '../image/inspect.ts';
import { registerList } from '../image/list.ts';
import { registerMount, registerUnmount } from '../image/mount.ts';
import { registerPack } from '../image/pack.ts';
import { registerPull } from '../image/pull.ts';
import { registerPrune, registerRemove } from '../image/remove.ts';
import { registerPin, registerTag } from '../image/tag.ts';
import { registerExport, registerImport } from '../image/transfer.ts';
import { registerTree } from '../image/tree.ts';
import { registerVerify } from '../image/verify.ts';

export function configure(command: Command): void {
  command.addHelpText(
    'after',
    '\nThese commands work on the store below --root directly: no agent has to run, and one that runs sees what they do.',
  );
  registerPull(command);
  registerList(command);
  registerRemove(command);
  registerImport(command);
  registerExport(command);
  registerCopy(command);
  registerPack(command);
  registerInspect(command);
  registerHistory(command);
  registerTree(command);
  registerDiff(command);
  registerMount(command);
  registerUnmount(command);
  registerTag(command);
  registerPin(command);
  registerPrune(command);
  registerVerify(command);
}
