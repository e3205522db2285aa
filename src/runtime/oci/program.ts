/** The verbs and their options: data, from which parser and help are made. */
import type { OptionSpec, ParsedArguments } from './arguments.ts';
import type { OciContext } from './context.ts';

export interface VerbModule {
  /** The exit status. */
  run(context: OciContext, args: ParsedArguments): Promise<number> | number;
}

export interface VerbSpec {
  readonly name: string;
  readonly operands: string;
  /** How many operands it takes. */
  readonly least: number;
  readonly most: number;
  readonly summary: string;
  readonly options: readonly OptionSpec[];
  readonly load: () => Promise<VerbModule>;
}

export const GLOBAL_OPTIONS: readonly OptionSpec[] = [
  { name: 'root', value: 'DIR', help: 'where containers are remembered (default /run/nodelet-oci)' },
  { name: 'log', value: 'FILE', help: 'what goes wrong is written there too (default standard error)' },
  { name: 'log-format', value: 'text|json', help: 'lines of that file (default text)' },
  { name: 'debug', help: 'say more in the log' },
  { name: 'systemd-cgroup', help: 'refused: cgroups are made directly' },
  { name: 'rootless', value: 'BOOL', help: 'refused unless false or auto: root is needed' },
  { name: 'criu', value: 'PATH', help: 'taken and not used: there is no checkpoint' },
  { name: 'help', short: 'h', help: 'show help' },
  { name: 'version', short: 'v', help: 'print the version' },
];

const CREATE: readonly OptionSpec[] = [
  { name: 'bundle', short: 'b', value: 'DIR', help: 'the directory of config.json (default: this one)' },
  { name: 'console-socket', value: 'PATH', help: 'a socket that takes the terminal' },
  { name: 'pid-file', value: 'PATH', help: 'where the pid of the first process is written' },
  { name: 'no-pivot', help: 'refused: the old root is always left by pivot_root' },
  { name: 'no-new-keyring', help: "keep the caller's session keyring" },
  { name: 'preserve-fds', value: 'N', help: 'descriptors after standard error that the program keeps' },
];

const UPDATE: readonly OptionSpec[] = [
  { name: 'resources', short: 'r', value: 'FILE', help: "linux.resources as JSON; '-' is standard input" },
  { name: 'memory', value: 'BYTES', help: 'memory limit, -1 for none' },
  { name: 'memory-reservation', value: 'BYTES', help: 'memory that reclaim spares' },
  { name: 'memory-swap', value: 'BYTES', help: 'memory and swap together, -1 for no limit' },
  { name: 'cpu-share', value: 'N', help: 'relative weight, 2 to 262144' },
  { name: 'cpu-quota', value: 'USEC', help: 'CPU time in a period, -1 for no limit' },
  { name: 'cpu-period', value: 'USEC', help: 'the period' },
  { name: 'cpu-burst', value: 'USEC', help: 'CPU time that may be saved up' },
  { name: 'cpu-rt-runtime', value: 'USEC', help: 'real-time CPU time in a period (cgroup v1)' },
  { name: 'cpu-rt-period', value: 'USEC', help: 'the real-time period (cgroup v1)' },
  { name: 'cpu-idle', value: '0|1', help: 'run only when nobody else wants the CPU' },
  { name: 'cpuset-cpus', value: 'LIST', help: 'CPUs, such as 0-3,8' },
  { name: 'cpuset-mems', value: 'LIST', help: 'memory nodes' },
  { name: 'pids-limit', value: 'N', help: 'processes and threads, -1 for no limit' },
  { name: 'blkio-weight', value: 'N', help: 'block I/O weight, 10 to 1000' },
];

const ID = 'CONTAINER';

export const VERBS: readonly VerbSpec[] = [
  {
    name: 'create',
    operands: ID,
    least: 1,
    most: 1,
    summary: 'make a container; its program waits for start',
    options: CREATE,
    load: () => import('./verbs/create.ts'),
  },
  {
    name: 'start',
    operands: ID,
    least: 1,
    most: 1,
    summary: 'let the program of a created container run',
    options: [],
    load: () => import('./verbs/start.ts'),
  },
  {
    name: 'run',
    operands: ID,
    least: 1,
    most: 1,
    summary: 'create, start, wait for the end, delete',
    options: [
      ...CREATE,
      { name: 'detach', short: 'd', help: 'leave it running' },
      { name: 'keep', help: 'do not delete it at the end' },
      { name: 'no-subreaper', help: 'taken and not used: the shim is the parent' },
    ],
    load: () => import('./verbs/run.ts'),
  },
  {
    name: 'exec',
    operands: `${ID} COMMAND [ARG...]`,
    least: 1,
    most: Number.POSITIVE_INFINITY,
    summary: 'run a program in a running container',
    options: [
      { name: 'process', short: 'p', value: 'FILE', help: 'the process as JSON, instead of a command' },
      { name: 'cwd', value: 'DIR', help: 'working directory' },
      { name: 'env', short: 'e', value: 'NAME=VALUE', many: true, help: 'environment, more than once' },
      { name: 'tty', short: 't', help: 'give it a terminal' },
      { name: 'user', short: 'u', value: 'UID[:GID]', help: 'whose rights it has' },
      { name: 'additional-gids', short: 'g', value: 'GID', many: true, help: 'more groups' },
      { name: 'detach', short: 'd', help: 'leave it running' },
      { name: 'pid-file', value: 'PATH', help: 'where its pid is written' },
      { name: 'console-socket', value: 'PATH', help: 'a socket that takes the terminal' },
      { name: 'process-label', value: 'LABEL', help: 'refused: no SELinux labels are set' },
      { name: 'apparmor', value: 'PROFILE', help: 'the AppArmor profile that it begins under' },
      { name: 'no-new-privs', help: 'set no_new_privs' },
      { name: 'cap', short: 'c', value: 'NAME', many: true, help: 'a capability more' },
      { name: 'preserve-fds', value: 'N', help: 'descriptors after standard error that it keeps' },
      { name: 'cgroup', value: 'PATH', many: true, help: "refused: it joins the container's own" },
      { name: 'ignore-paused', help: 'also in a paused container, where it waits' },
    ],
    load: () => import('./verbs/exec.ts'),
  },
  {
    name: 'state',
    operands: ID,
    least: 1,
    most: 1,
    summary: 'print what a container is doing',
    options: [],
    load: () => import('./verbs/state.ts'),
  },
  {
    name: 'kill',
    operands: `${ID} [SIGNAL]`,
    least: 1,
    most: 2,
    summary: 'send a signal (default TERM) to the first process',
    options: [{ name: 'all', short: 'a', help: 'to every process of the container' }],
    load: () => import('./verbs/kill.ts'),
  },
  {
    name: 'delete',
    operands: ID,
    least: 1,
    most: 1,
    summary: 'remove a container that has ended',
    options: [{ name: 'force', short: 'f', help: 'end it first; one that does not exist is fine' }],
    load: () => import('./verbs/delete.ts'),
  },
  {
    name: 'list',
    operands: '',
    least: 0,
    most: 0,
    summary: 'list containers',
    options: [
      { name: 'format', short: 'f', value: 'table|json', help: 'how (default table)' },
      { name: 'quiet', short: 'q', help: 'ids only' },
    ],
    load: () => import('./verbs/list.ts'),
  },
  {
    name: 'ps',
    operands: `${ID} [PS-OPTION...]`,
    least: 1,
    most: Number.POSITIVE_INFINITY,
    summary: 'list the processes of a container',
    options: [{ name: 'format', short: 'f', value: 'table|json', help: 'how (default table)' }],
    load: () => import('./verbs/ps.ts'),
  },
  {
    name: 'pause',
    operands: ID,
    least: 1,
    most: 1,
    summary: 'stop all processes where they are',
    options: [],
    load: () => import('./verbs/pause.ts'),
  },
  {
    name: 'resume',
    operands: ID,
    least: 1,
    most: 1,
    summary: 'let them go on',
    options: [],
    load: () => import('./verbs/resume.ts'),
  },
  {
    name: 'update',
    operands: ID,
    least: 1,
    most: 1,
    summary: 'change the limits of a container',
    options: UPDATE,
    load: () => import('./verbs/update.ts'),
  },
  {
    name: 'events',
    operands: ID,
    least: 1,
    most: 1,
    summary: 'print what a container uses, as JSON lines',
    options: [
      { name: 'stats', help: 'once, not again and again' },
      { name: 'interval', value: 'DURATION', help: 'how often (default 5s)' },
    ],
    load: () => import('./verbs/events.ts'),
  },
  {
    name: 'features',
    operands: '',
    least: 0,
    most: 0,
    summary: 'print what this runtime can do, as JSON',
    options: [],
    load: () => import('./verbs/features.ts'),
  },
  {
    name: 'spec',
    operands: '',
    least: 0,
    most: 0,
    summary: 'write a config.json to begin with',
    options: [
      { name: 'bundle', short: 'b', value: 'DIR', help: 'where (default: this directory)' },
      { name: 'rootless', help: 'refused: root is needed' },
    ],
    load: () => import('./verbs/spec.ts'),
  },
];
