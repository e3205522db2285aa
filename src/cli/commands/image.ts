import type { Command } from 'commander';
import { registerHistory, registerInspect } from '../image/inspect.ts';
import { registerList } from '../image/list.ts';
import { registerPack } from '../image/pack.ts';
import { registerPull } from '../image/pull.ts';
import { registerPrune, registerRemove } from '../image/remove.ts';
import { registerPin, registerTag } from '../image/tag.ts';
import { registerExport, registerImport } from '../image/transfer.ts';

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
  registerPack(command);
  registerInspect(command);
  registerHistory(command);
  registerTag(command);
  registerPin(command);
  registerPrune(command);
}
