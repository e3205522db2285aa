import type { OptionSpec } from './arguments.ts';
import { GLOBAL_OPTIONS, VERBS, type VerbSpec } from './program.ts';

function optionLines(options: readonly OptionSpec[]): string[] {
  return options.map(({ name, short, value, help }) => {
    const names = `${short === undefined ? '    ' : `-${short}, `}--${name}${value === undefined ? '' : ` ${value}`}`;
    return `  ${names.padEnd(32)} ${help}`;
  });
}

export function programHelp(): string {
  return [
    'Usage: nodelet oci [options] COMMAND [options] [CONTAINER] [...]',
    '',
    "Runs containers from OCI bundles with runc's command line, so that podman (conmon) and containerd can use it in runc's",
    'place: podman --runtime .../bin/nodelet-oci. See docs/oci.md.',
    '',
    'Options:',
    ...optionLines(GLOBAL_OPTIONS),
    '',
    'Commands:',
    ...VERBS.map(({ name, summary }) => `  ${name.padEnd(32)} ${summary}`),
    '',
    "'nodelet oci COMMAND --help' tells more about a command.",
    '',
  ].join('\n');
}

export function verbHelp(verb: VerbSpec): string {
  const options = [...verb.options, { name: 'help', short: 'h', help: 'show help' }];
  return [
    `Usage: nodelet oci ${verb.name} [options]${verb.operands === '' ? '' : ` ${verb.operands}`}`,
    '',
    `${verb.summary.charAt(0).toUpperCase()}${verb.summary.slice(1)}.`,
    '',
    'Options:',
    ...optionLines(options),
    '',
  ].join('\n');
}
