/** `process` of config.json, which is also what `exec --process` reads. */
import { isAbsolute } from 'node:path';
import { exactInteger } from '../../../linux/exact-json.ts';
import type { OciCapabilities, OciProcess, OciScheduler } from '../../launch/spec.ts';
import { probeSecurityModules } from '../../security-modules.ts';
import { invalidConfig, unsupported } from '../errors.ts';
import { Fields, type Known, show } from './fields.ts';

const MAX_ID = 0xffff_fffe;

const PROCESS: Known = {
  terminal: true,
  consoleSize: true,
  user: true,
  args: true,
  env: true,
  cwd: true,
  capabilities: true,
  rlimits: true,
  noNewPrivileges: true,
  oomScoreAdj: true,
  apparmorProfile: true,
  selinuxLabel: 'this runtime sets no SELinux labels',
  scheduler: true,
  ioPriority: true,
  execCPUAffinity: 'it is a feature of runtime-spec 1.3',
  commandLine: 'it is for Windows; use args',
};

/** Throws OCI_CONFIG_INVALID, OCI_UNSUPPORTED. */
export function readProcess(value: unknown, at = 'process'): OciProcess {
  const fields = new Fields(value, at, PROCESS);
  const apparmorProfile = readAppArmor(fields);
  const user = fields.object('user', {
    uid: true,
    gid: true,
    umask: true,
    additionalGids: true,
    username: 'it is for Windows; use uid',
  });
  const args = fields.texts('args');
  if (args.length === 0 || args[0] === '') throw invalidConfig(fields.path('args'), 'names no program');
  const cwd = fields.required('cwd');
  if (!isAbsolute(cwd)) throw invalidConfig(fields.path('cwd'), `${show(cwd)} is no absolute path`);
  const size = fields.object('consoleSize', { height: true, width: true });
  const umask = user?.integer('umask', 0, 0o777);
  const oomScoreAdj = fields.integer('oomScoreAdj', -1000, 1000);
  const capabilities = readCapabilities(fields);
  const scheduler = readScheduler(fields);
  const ioPriority = readIoPriority(fields);
  return {
    terminal: fields.flag('terminal') ?? false,
    ...(size === undefined
      ? {}
      : {
          consoleSize: {
            height: size.integer('height', 0, 0xffff) ?? 0,
            width: size.integer('width', 0, 0xffff) ?? 0,
          },
        }),
    user: {
      uid: user?.integer('uid', 0, MAX_ID) ?? 0,
      gid: user?.integer('gid', 0, MAX_ID) ?? 0,
      ...(umask === undefined ? {} : { umask }),
      additionalGids: user?.integers('additionalGids', 0, MAX_ID) ?? [],
    },
    args,
    env: fields.texts('env'),
    cwd,
    ...(capabilities === undefined ? {} : { capabilities }),
    rlimits: readRlimits(fields),
    noNewPrivileges: fields.flag('noNewPrivileges') ?? false,
    ...(oomScoreAdj === undefined ? {} : { oomScoreAdj }),
    ...(apparmorProfile === undefined ? {} : { apparmorProfile }),
    ...(scheduler === undefined ? {} : { scheduler }),
    ...(ioPriority === undefined ? {} : { ioPriority }),
  };
}

/** A container that asks for a label which nobody enforces is not the container that was asked for. */
function readAppArmor(fields: Fields): string | undefined {
  const profile = fields.text('apparmorProfile') ?? '';
  if (profile === '' || profile === 'unconfined') return undefined;
  return checkAppArmor(profile, `config.json: ${fields.path('apparmorProfile')}`);
}

/** Throws OCI_UNSUPPORTED where the kernel cannot enforce it. */
export function checkAppArmor(profile: string, field: string): string {
  if (probeSecurityModules().apparmor) return profile;
  throw unsupported(`${field} ${show(profile)}`, 'the kernel of this machine has no AppArmor');
}

function readCapabilities(fields: Fields): OciCapabilities | undefined {
  const sets = fields.object('capabilities', {
    bounding: true,
    effective: true,
    permitted: true,
    inheritable: true,
    ambient: true,
  });
  if (sets === undefined) return undefined;
  return {
    bounding: sets.texts('bounding'),
    effective: sets.texts('effective'),
    permitted: sets.texts('permitted'),
    inheritable: sets.texts('inheritable'),
    ambient: sets.texts('ambient'),
  };
}

function readRlimits(fields: Fields): NonNullable<OciProcess['rlimits']> {
  const seen = new Set<string>();
  return fields.list('rlimits', (value, at) => {
    const limit = new Fields(value, at, { type: true, soft: true, hard: true });
    const type = limit.required('type');
    if (seen.has(type)) throw invalidConfig(at, `${type} is given twice`);
    seen.add(type);
    const soft = rlimit(limit, 'soft');
    const hard = rlimit(limit, 'hard');
    return { type, soft, hard };
  });
}

function rlimit(limit: Fields, key: string): number {
  const value = exactInteger(limit.raw(key));
  if (value === undefined || value < -1n || value > 0xffff_ffff_ffff_ffffn)
    throw invalidConfig(limit.path(key), `expected a number of 64 bits, found ${show(limit.raw(key))}`);
  return Number(value);
}

/** sched.h and sched/types.h of Linux. */
const POLICIES = {
  SCHED_OTHER: 0,
  SCHED_FIFO: 1,
  SCHED_RR: 2,
  SCHED_BATCH: 3,
  SCHED_ISO: 4,
  SCHED_IDLE: 5,
  SCHED_DEADLINE: 6,
} as const;
const SCHED_FLAGS: Readonly<Record<string, number>> = {
  SCHED_FLAG_RESET_ON_FORK: 0x01,
  SCHED_FLAG_RECLAIM: 0x02,
  SCHED_FLAG_DL_OVERRUN: 0x04,
  SCHED_FLAG_KEEP_POLICY: 0x08,
  SCHED_FLAG_KEEP_PARAMS: 0x10,
  SCHED_FLAG_UTIL_CLAMP_MIN: 0x20,
  SCHED_FLAG_UTIL_CLAMP_MAX: 0x40,
};

function readScheduler(process: Fields): OciScheduler | undefined {
  const fields = process.object('scheduler', {
    policy: true,
    nice: true,
    priority: true,
    flags: true,
    runtime: true,
    deadline: true,
    period: true,
  });
  if (fields === undefined) return undefined;
  const policy = fields.oneOf('policy', Object.keys(POLICIES) as (keyof typeof POLICIES)[]);
  if (policy === undefined) throw invalidConfig(fields.path('policy'), 'is needed');
  const flags = fields.texts('flags').reduce((bits, name) => {
    const bit = SCHED_FLAGS[name];
    if (bit === undefined) throw invalidConfig(fields.path('flags'), `unknown flag ${show(name)}`);
    return bits | bit;
  }, 0);
  return {
    policy: POLICIES[policy],
    flags,
    nice: fields.integer('nice', -20, 19) ?? 0,
    priority: fields.integer('priority', 0, 99) ?? 0,
    runtime: fields.integer('runtime', 0) ?? 0,
    deadline: fields.integer('deadline', 0) ?? 0,
    period: fields.integer('period', 0) ?? 0,
  };
}

const IO_CLASSES = { IOPRIO_CLASS_RT: 1, IOPRIO_CLASS_BE: 2, IOPRIO_CLASS_IDLE: 3 } as const;

function readIoPriority(process: Fields): number | undefined {
  const fields = process.object('ioPriority', { class: true, priority: true });
  if (fields === undefined) return undefined;
  const name = fields.oneOf('class', Object.keys(IO_CLASSES) as (keyof typeof IO_CLASSES)[]);
  if (name === undefined) throw invalidConfig(fields.path('class'), 'is needed');
  return (IO_CLASSES[name] << 13) | (fields.integer('priority', 0, 7) ?? 0);
}
