/** Options that several commands have, worded once. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { flagName, SETTINGS, type SettingName } from '../agent/index.ts';
import type { Log } from '../base/index.ts';
import type { Level } from './agent/log.ts';
import type { OutputFormat } from './output.ts';

/** `-o`; the first format is the default. */
export function addOutput(command: Command, formats: readonly OutputFormat[]): Command {
  const [first = 'table'] = formats;
  return command.addOption(
    new Option('-o, --output <format>', 'what to print').choices(formats).default(first),
  );
}

export function addNamespace(command: Command): Command {
  return command.option('-n, --namespace <name>', "the pod's namespace, where its name alone is not enough");
}

/** Settings that a command of its own option covers, or that are global. */
const NOT_HERE: ReadonlySet<SettingName> = new Set(['root', 'state']);

/** Settings that are switched on by their flag alone. */
const SWITCHES: ReadonlySet<SettingName> = new Set(['exitWhenEmpty']);

const VALUES = {
  path: 'path',
  socket: 'path',
  text: 'text',
  list: 'list',
  number: 'n',
  duration: 'time',
  boolean: 'true|false',
} as const;

/** Every setting of the agent as a flag, but for `without`. */
export function addSettings(command: Command, group: string, without: readonly SettingName[] = []): Command {
  command.optionsGroup(group);
  for (const name of Object.keys(SETTINGS) as SettingName[]) {
    if (NOT_HERE.has(name) || without.includes(name)) continue;
    const { kind, doc } = SETTINGS[name];
    const value = SWITCHES.has(name) ? '' : ` <${VALUES[kind]}>`;
    command.option(`--${flagName(name)}${value}`, doc);
  }
  return command;
}

export interface LogOptions {
  readonly logLevel: Level;
  readonly logFormat: 'auto' | 'json' | 'text';
}

/** For commands that serve until they are told to end. */
export function addLog(command: Command): Command {
  return command
    .addOption(
      new Option('--log-level <level>', 'what to log')
        .choices(['debug', 'info', 'warn', 'error'])
        .default('info'),
    )
    .addOption(
      new Option('--log-format <format>', 'text on a terminal, else JSON lines')
        .choices(['auto', 'json', 'text'])
        .default('auto'),
    );
}

/** The log that `addLog`'s options mean; pino is loaded then. */
export async function logOf({ logLevel, logFormat }: LogOptions): Promise<Log> {
  const { stderrLog } = await import('./agent/log.ts');
  const text = logFormat === 'text' || (logFormat === 'auto' && process.stderr.isTTY);
  return stderrLog(logLevel, text ? 'text' : 'json');
}

/** For options that may be given several times. */
export function collect(value: string, before: readonly string[] | undefined): string[] {
  return [...(before ?? []), value];
}

export function wholeNumber(value: string): number {
  if (!/^\d+$/.test(value) || !Number.isSafeInteger(Number(value)))
    throw new InvalidArgumentError('It is no whole number, 0 or more.');
  return Number(value);
}

/** `examples` below the options: command lines with a word about each. */
export function addExamples(command: Command, examples: readonly (readonly [string, string])[]): Command {
  const text = examples.map(([line, what]) => `  # ${what}\n  ${line}`).join('\n\n');
  return command.addHelpText('after', `\nExamples:\n${text}\n`);
}
