/**
 * The entry of an OCI runtime. Nothing of the agent is loaded, and of the verbs only the one that is called: containers are
 * started by a program that lives for some milliseconds.
 */
import { describeError, hasCode, NodeletError } from '../../base/index.ts';
import { VERSION } from '../version.ts';
import { type OptionSpec, type ParsedArguments, parseArguments } from './arguments.ts';
import { OciContext } from './context.ts';
import { unsupported, usage } from './errors.ts';
import { OciLog, writeAll } from './log.ts';
import { GLOBAL_OPTIONS, VERBS, type VerbSpec } from './program.ts';

/** What runtime-spec's versions have in common is read; this is the newest whose words are all known. */
export const OCI_VERSION = '1.2.0';

const HELP: OptionSpec = { name: 'help', short: 'h', help: 'show help' };

/** The exit status of a command line. Never rejects. */
export async function ociMain(argv: readonly string[]): Promise<number> {
  let log = new OciLog({ file: undefined, format: 'text', debug: false });
  try {
    const globals = parseArguments(GLOBAL_OPTIONS, argv);
    if (globals.has('version')) {
      writeAll(1, `nodelet-oci version ${VERSION}\nspec: ${OCI_VERSION}\n`);
      return 0;
    }
    const [name, ...rest] = globals.operands;
    if (name === undefined || name === 'help' || globals.has('help')) {
      const { programHelp } = await import('./help.ts');
      writeAll(1, programHelp());
      return 0;
    }
    log = logOf(globals);
    checkGlobals(globals);
    const verb = VERBS.find((one) => one.name === name);
    if (verb === undefined)
      throw usage(
        `unknown command ${JSON.stringify(name)}`,
        `commands: ${VERBS.map((one) => one.name).join(', ')}`,
      );
    return await runVerb(verb, globals.text('root') ?? '/run/nodelet-oci', rest, log);
  } catch (error) {
    const hint = error instanceof NodeletError ? error.hint : undefined;
    log.error(`${describeError(error)}${hint === undefined ? '' : ` (${hint})`}`);
    return hasCode(error, 'OCI_USAGE') ? 2 : 1;
  }
}

async function runVerb(verb: VerbSpec, root: string, argv: readonly string[], log: OciLog): Promise<number> {
  const args = parseArguments([...verb.options, HELP], argv);
  if (args.has('help')) {
    const { verbHelp } = await import('./help.ts');
    writeAll(1, verbHelp(verb));
    return 0;
  }
  if (args.operands.length < verb.least || args.operands.length > verb.most)
    throw usage(`usage: ${verb.name} [options]${verb.operands === '' ? '' : ` ${verb.operands}`}`);
  const module = await verb.load();
  return await module.run(new OciContext(root, log), args);
}

function logOf(globals: ParsedArguments): OciLog {
  const format = globals.text('log-format') ?? 'text';
  if (format !== 'text' && format !== 'json')
    throw usage(`--log-format: expected text or json, found ${JSON.stringify(format)}`);
  return new OciLog({ file: globals.text('log'), format, debug: globals.has('debug') });
}

function checkGlobals(globals: ParsedArguments): void {
  if (globals.has('systemd-cgroup'))
    throw unsupported(
      '--systemd-cgroup',
      'cgroups are made directly; use the cgroupfs driver (podman: --cgroup-manager=cgroupfs, containerd: SystemdCgroup = false)',
    );
  const rootless = globals.text('rootless') ?? 'auto';
  if (!['auto', 'false', '0', 'f'].includes(rootless)) throw unsupported('--rootless', 'root is needed');
}
