import type { Command } from 'commander';
import { runOci } from '../../agent/index.ts';

/** Its command line is runc's, with options of the same names as ours: it is not parsed here but handed on as it is. */
export async function oci(argv: readonly string[]): Promise<number> {
  return await runOci(argv);
}

export function configure(command: Command): void {
  command
    .usage('[options] COMMAND [options] [CONTAINER]')
    .allowUnknownOption()
    .argument('[words...]', "runc's command line: 'nodelet oci --help' lists it")
    .action(() => command.error("nodelet: 'oci' has to be the first word: nodelet oci [options] COMMAND"));
}
