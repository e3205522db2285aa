/** The command line as a whole: global options, the commands in their groups, how wrong usage is said. */
import { Command, Option } from 'commander';
import { COMMANDS, type CommandSpec } from './commands.ts';
import { styleFor } from './terminal/style.ts';
import { ownVersion } from './version.ts';

const EPILOGUE = `
Exit status:
  0      done; run: every pod has succeeded
  1      doctor: something that is needed is missing
  124    run --timeout: the time was up
  125    nodelet itself has failed: wrong usage, a bad manifest, no root, no agent
  126    run, exec: the program cannot be executed
  127    run, exec: the program was not found
  130    run: interrupted by Ctrl-C
  other  run: the exit code of the first container that failed; exec: the program's

NODELET_ROOT and NODELET_STATE stand for --root and --state. NO_COLOR switches colours off.
'nodelet COMMAND --help' tells more about a command, with examples.`;

/**
 * The program for one command line. Every command is known by name; the options and the code of those that the line
 * mentions are loaded, since the others are not going to be asked.
 */
export async function createProgram(argv: readonly string[]): Promise<Command> {
  const program = new Command('nodelet');
  addGlobals(program);
  for (const spec of COMMANDS) {
    const command = program.command(spec.name).description(spec.summary).helpGroup(spec.group);
    if (spec.aliases !== undefined) command.aliases(spec.aliases);
    if (isMentioned(spec, argv)) (await spec.load()).configure(command);
  }
  return program;
}

/** With everything loaded: for completion. */
export async function createWholeProgram(): Promise<Command> {
  return await createProgram(COMMANDS.map(({ name }) => name));
}

function isMentioned({ name, aliases = [] }: CommandSpec, argv: readonly string[]): boolean {
  return [name, ...aliases].some((word) => argv.includes(word));
}

function addGlobals(program: Command): void {
  program
    .description(
      'Runs Kubernetes pods on this machine: kubelet, container runtime, images and pod network in one program.',
    )
    .usage('COMMAND [options]')
    .version(ownVersion(), '-V, --version', "print this program's version")
    .helpOption('-h, --help', 'show help')
    .optionsGroup('Global options:')
    .addOption(
      new Option('--root <path>', "the agent's images, snapshots and volumes (default /var/lib/nodelet)").env(
        'NODELET_ROOT',
      ),
    )
    .addOption(
      new Option(
        '--state <path>',
        "the agent's records and socket (default /run/nodelet, or ROOT/state with --root)",
      ).env('NODELET_STATE'),
    )
    .option('--debug', 'show the code, the causes and the stack of an error')
    .showSuggestionAfterError()
    .exitOverride()
    .configureOutput({
      outputError: (text, write) =>
        write(text.replace(/^error: /, `${styleFor(process.stderr).red('nodelet:')} `)),
    })
    .configureHelp({
      showGlobalOptions: true,
      subcommandTerm: (command) => [command.name(), ...command.aliases()].join(', '),
      styleTitle: (text) => styleFor(process.stdout).bold(text),
    })
    .addHelpText('after', EPILOGUE);
  program.addHelpCommand(
    new Command('help').argument('[command]').description('show help for a command').helpGroup('Other:'),
  );
}
