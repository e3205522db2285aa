import { readFileSync } from 'node:fs';
import { messageOf } from '../../../base/index.ts';
import { parseCapability } from '../../../linux/capabilities.ts';
import { parseExactJson } from '../../../linux/exact-json.ts';
import type { OciCapabilities, OciProcess } from '../../launch/spec.ts';
import type { ParsedArguments } from '../arguments.ts';
import { readConfig } from '../config/index.ts';
import { checkAppArmor, readProcess } from '../config/process.ts';
import type { OciContext } from '../context.ts';
import { invalidConfig, unsupported, usage } from '../errors.ts';
import { execProcess } from '../exec.ts';

const MAX_ID = 0xffff_fffe;

export async function run(context: OciContext, args: ParsedArguments): Promise<number> {
  for (const [flag, reason] of [
    ['process-label', 'no SELinux labels are set'],
    ['cgroup', "it joins the container's own cgroup"],
  ] as const)
    if (args.text(flag) !== undefined) throw unsupported(`exec --${flag}`, reason);
  const [id = '', ...command] = args.operands;
  const config = readConfig(context.store.config(context.store.get(id).id));
  return await execProcess(context, {
    id,
    config,
    process: processOf(args, command, config.process),
    detached: args.has('detach'),
    pidFile: args.text('pid-file'),
    consoleSocket: args.text('console-socket'),
    preserve: args.integer('preserve-fds', 0) ?? 0,
    ignorePaused: args.has('ignore-paused'),
  });
}

function processOf(args: ParsedArguments, command: readonly string[], own: OciProcess): OciProcess {
  const file = args.text('process');
  if (file !== undefined) {
    const given = readProcess(parse(file), 'process');
    return { ...given, capabilities: given.capabilities ?? own.capabilities ?? {} };
  }
  if (command.length === 0) throw usage('exec: no command', 'name one after the container, or use --process');
  const more = args.list('cap').map((name) => parseCapability(name));
  const cwd = args.text('cwd');
  if (cwd !== undefined && !cwd.startsWith('/'))
    throw usage(`--cwd: ${JSON.stringify(cwd)} is no absolute path`);
  for (const entry of args.list('env'))
    if (!entry.includes('=')) throw usage(`--env: expected NAME=VALUE, found ${JSON.stringify(entry)}`);
  const { consoleSize: _, ...rest } = own;
  const profile = args.text('apparmor');
  return {
    ...rest,
    ...(profile === undefined ? {} : { apparmorProfile: checkAppArmor(profile, '--apparmor') }),
    args: command,
    cwd: cwd ?? own.cwd,
    env: [...own.env, ...args.list('env')],
    terminal: args.has('tty'),
    user: userOf(args, own),
    noNewPrivileges: args.has('no-new-privs') || own.noNewPrivileges === true,
    ...(more.length === 0 ? {} : { capabilities: withCapabilities(own.capabilities ?? {}, more) }),
  };
}

function parse(file: string): unknown {
  try {
    return parseExactJson(readFileSync(file, 'utf8'));
  } catch (error) {
    throw invalidConfig('process', `cannot read ${JSON.stringify(file)}: ${messageOf(error)}`);
  }
}

function userOf(args: ParsedArguments, own: OciProcess): OciProcess['user'] {
  const id = (text: string, option: string) => {
    const number = Number(text);
    if (!/^\d+$/.test(text) || number > MAX_ID)
      throw usage(`--${option}: expected a number from 0 to ${MAX_ID}, found ${JSON.stringify(text)}`);
    return number;
  };
  const asked = args.text('user');
  const groups = args.list('additional-gids').map((text) => id(text, 'additional-gids'));
  const [uid, gid] = asked?.split(':') ?? [];
  return {
    ...own.user,
    ...(uid === undefined ? {} : { uid: id(uid, 'user') }),
    ...(gid === undefined ? {} : { gid: id(gid, 'user') }),
    additionalGids: [...(own.user.additionalGids ?? []), ...groups],
  };
}

function withCapabilities(own: OciCapabilities, more: readonly string[]): OciCapabilities {
  const add = (names: readonly string[] = []) => [...new Set([...names, ...more])];
  return {
    ...own,
    bounding: add(own.bounding),
    effective: add(own.effective),
    permitted: add(own.permitted),
  };
}
