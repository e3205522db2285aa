// `npm start`: sets up what is missing, runs the pod of examples/demo.yaml, shows what it is and how to look inside, and
// removes everything on Ctrl-C. Without a terminal it ends by itself after having shown everything.
// Plain Node, because nothing may be installed yet. `--name NAME` runs a second demo beside another.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { root as checkout, setup } from './setup.mjs';

const IMAGE = 'localhost/nodelet-demo';
const POD = 'demo';
const PORT = 8080;
/** The image is a copy of Node.js, unpacked and as a layer. */
const SPACE = 500 * 1024 ** 2;

const colours = process.stdout.isTTY && !process.env.NO_COLOR && process.env.TERM !== 'dumb';
const paint = (on, off) => (text) => (colours ? `\u001b[${on}m${text}\u001b[${off}m` : text);
const bold = paint(1, 22);
const dim = paint(2, 22);
const green = paint(32, 39);
const red = paint(31, 39);
const say = (text = '') => console.log(text);
const title = (text) => say(`\n${bold(text)}`);

const { name } = options(process.argv.slice(2));
const cgroupRoot = `/nodelet-${name}`;
const bridge = `nodelet-${name}`;
let place;
let tmpfs = false;
let run;
let asked = false;

function options(args) {
  let name = 'demo';
  for (let i = 0; i < args.length; i += 1) {
    if (args[i] === '--name' && /^[a-z][a-z0-9]{0,6}$/.test(args[i + 1] ?? '')) name = args[(i += 1)];
    else {
      console.error(`nodelet: cannot use ${JSON.stringify(args.slice(i).join(' '))}`);
      console.error('  hint: npm start [-- --name NAME], the name of 1 to 7 small letters and digits');
      process.exit(2);
    }
  }
  return { name };
}

/** Ends the demo: everything is removed, then this is said. */
class Failure extends Error {}

/** A command of nodelet to its end; its standard output. */
function nodelet(args, { where = place, status = [0] } = {}) {
  const result = spawnSync(process.execPath, ['bin/nodelet.mjs', '--root', where, ...args], {
    cwd: checkout,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 ** 2,
  });
  // Ctrl-C reaches it as well.
  if (asked || result.signal === 'SIGINT' || result.status === 130) throw new Stopped();
  if (!status.includes(result.status))
    throw new Failure(`"nodelet ${args.join(' ')}" failed: ${result.error?.message ?? result.stderr.trim()}`);
  return result.stdout;
}

const json = (args, options) => JSON.parse(nodelet([...args, '-o', 'json'], options));

// --- where containers' files can be, and addresses that nobody uses

/** The first directory on which the doctor can make an overlay, with enough space; else a tmpfs of our own. */
function choosePlace() {
  for (const parent of ['/var/lib', '/dev/shm', '/run']) {
    if (!existsSync(parent) || free(parent) < SPACE) continue;
    if (diagnose(join(parent, `nodelet-${name}`))) return;
  }
  const path = `/run/nodelet-${name}`;
  mkdirSync(path, { recursive: true, mode: 0o700 });
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1g,mode=0700', 'nodelet-demo', path]).status !== 0)
    throw new Failure(
      `no file system here can hold a container's files, and no tmpfs can be mounted on ${path}`,
    );
  tmpfs = true;
  if (!diagnose(path)) throw new Failure('not even a tmpfs can hold the files of a container here');
}

const free = (path) => {
  const { bavail, bsize } = statfsSync(path);
  return bavail * bsize;
};

/** True: here it is. False: not on this file system. Whatever else is lacking ends the demo, in the doctor's words. */
function diagnose(path) {
  const { findings } = json(['doctor', ...network()], { where: path, status: [0, 1] });
  const lacking = findings.filter(({ level, status }) => level === 'needed' && status !== 'ok');
  const others = lacking.filter(({ id }) => id !== 'overlay');
  if (others.length > 0) {
    const lines = others.map((one) => `  ${one.name}: ${one.found}\n    mend: ${one.mend}`);
    throw new Failure(
      `pods cannot run on this machine yet (nodelet doctor tells more):\n${lines.join('\n')}`,
    );
  }
  if (lacking.length > 0) return false;
  place = path;
  return true;
}

const number = (address) => address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);

/** Networks that this machine has a route to (but for "everything"), from /proc/net/route: little-endian hex. */
function routed() {
  const word = (text) => Buffer.from(text, 'hex').readUInt32LE();
  return readFileSync('/proc/net/route', 'utf8')
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => line.split('\t'))
    .filter(([link]) => link !== bridge)
    .map((fields) => ({ network: word(fields[1]), mask: word(fields[7]) }))
    .filter(({ mask }) => mask !== 0);
}

/** Demos that start at the same moment begin to look in different places. */
function freeSubnet() {
  const taken = routed();
  const first = name.split('').reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 256, 0);
  const both = (a, b) => (a & b) >>> 0;
  for (const start of ['10.90', '172.30', '192.168']) {
    for (let i = 0; i < 256; i += 1) {
      const third = (first + i) % 256;
      const subnet = number(`${start}.${third}.0`);
      if (
        !taken.some(
          ({ network, mask }) =>
            both(subnet, both(mask, 0xff_ff_ff_00)) === both(network, both(mask, 0xff_ff_ff_00)),
        )
      )
        return `${start}.${third}.0/24`;
    }
  }
  throw new Failure('every private subnet that the demo knows of has a route already');
}

let subnet;
const network = () => [
  '--bridge',
  bridge,
  '--pod-cidr',
  (subnet ??= freeSubnet()),
  '--cgroup-root',
  cgroupRoot,
];

// --- the pod

/** Starts `nodelet run`, shows what it says, and resolves with the client's line. */
function start() {
  // In a process group of its own: Ctrl-C reaches it through us, once.
  run = spawn(
    process.execPath,
    ['bin/nodelet.mjs', '--root', place, 'run', ...network(), 'examples/demo.yaml'],
    {
      cwd: checkout,
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    },
  );
  run.ended = new Promise((resolve) => {
    run.once('exit', (code, signal) => resolve(code ?? signal));
    run.once('error', (error) => resolve(error.message));
  });
  let quiet = false;
  run.hush = () => {
    quiet = true;
  };
  createInterface({ input: run.stderr }).on('line', (line) => {
    if (!quiet) say(`  ${dim(line)}`);
  });
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Failure('the client got no answer within a minute')), 60_000);
    const settle = (done) => (value) => {
      clearTimeout(timer);
      done(value);
    };
    createInterface({ input: run.stdout }).on('line', (line) => {
      if (quiet) return;
      say(`  ${line}`);
      const answer = /^\[client\]\s+(Hello .*)$/.exec(line)?.[1];
      if (answer !== undefined) settle(resolve)(answer);
    });
    run.ended.then((code) =>
      settle(reject)(
        asked ? new Stopped() : new Failure(`the pod ended (${code}) before the client had an answer`),
      ),
    );
  });
}

/** Somebody pressed Ctrl-C. */
class Stopped extends Error {}

async function whenClientEnded() {
  for (let i = 0; i < 100; i += 1) {
    const { status } = json(['pods', POD]);
    const client = status.containerStatuses.find((one) => one.name === 'client');
    if (client.state.terminated !== undefined) return status;
    await sleep(50);
  }
  throw new Failure('the client did not end');
}

async function show(toClient) {
  const status = await whenClientEnded();
  run.hush();
  title('The pod');
  say(`  address     ${green(status.podIP)} on the bridge ${bridge}`);
  for (const { name, state } of status.containerStatuses) {
    const { running, terminated } = state;
    say(`  ${name.padEnd(10)}  ${running ? 'runs' : `ended with ${terminated?.exitCode}`}`);
  }
  title('Its limits, read back from the control groups');
  const explained = json(['explain', POD]);
  limits('pod', explained.podLimits);
  for (const one of explained.containers) limits(one.name, one.limits);
  title("The server's answer");
  say(`  to the client, from within the pod:   ${green(toClient)}`);
  const response = await fetch(`http://${status.podIP}:${PORT}/from-the-host`);
  const toHost = (await response.text()).trim();
  say(`  to this machine, over the bridge:     ${green(toHost)}`);
  if (!toHost.startsWith('Hello')) throw new Failure('the server gave the host another answer');
  lookInside();
}

function limits(what, rows) {
  for (const { what: resource, limit, file } of rows) {
    if (resource !== 'memory' && resource !== 'CPU quota') continue;
    const value = readFileSync(file, 'utf8').trim();
    const said = resource === 'memory' ? `${Number(value) / 1024 ** 2} MiB` : limit;
    say(
      `  ${what.padEnd(10)}  ${resource.padEnd(9)}  ${green(value.padEnd(13))}  ${said.padEnd(22)}  ${dim(short(file))}`,
    );
  }
}

/** The hierarchy and the file, without the long way between. */
const short = (file) => file.replace(`${cgroupRoot}/`, '/…/').replace(/\/…\/.*\//, '/…/');

function lookInside() {
  const with_ = `bin/nodelet.mjs --root ${place}`;
  title(`Look inside (another terminal, as root, in ${checkout})`);
  const commands = [
    ['run a program in it', `${with_} exec ${POD} -c server -- node -p "process.pid + ' ' + os.hostname()"`],
    ['what the server wrote', `${with_} logs ${POD} -c server`],
    ['namespaces, limits, mounts, rights', `${with_} explain ${POD}`],
    ['its start as a time line', `${with_} trace ${POD}`],
    ['every step, before it is done', `${with_} plan ${network().join(' ')} examples/demo.yaml`],
  ];
  for (const [what, command] of commands) say(`  ${dim(`# ${what}`)}\n  ${command}`);
}

// --- the end

async function stopPod() {
  if (run === undefined || run.exitCode !== null || run.signalCode !== null) return;
  run.hush();
  run.kill('SIGINT');
  const late = setTimeout(() => run.kill('SIGINT'), 15_000);
  await run.ended;
  clearTimeout(late);
}

/** What is still there of the demo; nothing, as a rule. */
function remains() {
  const links = existsSync(`/sys/class/net/${bridge}`) ? [`link ${bridge}`] : [];
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  const groups = mounts
    .filter((line) => / - cgroup2? /.test(line))
    .map((line) => `${line.split(' ')[4]}${cgroupRoot}`)
    .filter((path) => existsSync(path));
  return [...links, ...groups];
}

async function end() {
  if (place === undefined && !tmpfs) return;
  await stopPod();
  const left = run === undefined ? [] : remains();
  if (left.length > 0) throw new Failure(`still there: ${left.join(', ')}; files are kept in ${place}`);
  const path = place ?? `/run/nodelet-${name}`;
  if (tmpfs) spawnSync('umount', [path]);
  rmSync(path, { recursive: true, force: true });
  if (run !== undefined) say('\nRemoved: the pod, its bridge, rules, control groups and files.');
}

async function untilInterrupted() {
  if (asked) return;
  title('Ctrl-C ends the pod and removes everything.');
  await Promise.race([
    new Promise((resolve) => {
      process.once('demo-end', resolve);
    }),
    run.ended,
  ]);
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    if (asked) return;
    asked = true;
    if (run !== undefined) say(`\n${dim('Stopping.')}`);
    run?.kill('SIGINT');
    process.emit('demo-end');
  });
}
// Whatever becomes of us, the pod does not stay.
process.on('exit', () => {
  if (run !== undefined && run.exitCode === null && run.signalCode === null) run.kill('SIGINT');
});

/** What runs there belongs to another demo, or to one that was killed: its files are not ours to remove. */
function refuseTwice() {
  const { agent } = json(['version']);
  if (agent === undefined) return;
  const taken = place;
  place = undefined;
  throw new Failure(
    `a demo runs already in ${taken}: end it (kill -INT ${agent.pid}), or run another beside it: npm start -- --name other`,
  );
}

async function demo() {
  say(bold('nodelet demo: a pod of two containers, a web server and a client that asks it once'));
  say('Installs what is missing: compilers (as Debian packages), npm modules; then builds.');
  say('The pod and all that belongs to it are removed at the end; IP forwarding stays switched on.');
  setup({ test: false });
  choosePlace();
  refuseTwice();
  title("An image of this machine's own Node.js (no registry is needed)");
  const id = nodelet([
    'image',
    'pack',
    IMAGE,
    `${process.execPath}:/usr/local/bin/node`,
    'examples/demo:/app',
  ]);
  say(`  ${IMAGE} ${dim(id.trim().slice(0, 19))} in ${place}`);
  if (asked) throw new Stopped();
  title('nodelet run examples/demo.yaml');
  await show(await start());
  if (process.stdin.isTTY && process.stdout.isTTY) await untilInterrupted();
}

let code = 0;
for (const step of [demo, end]) {
  try {
    await step();
  } catch (error) {
    if (error instanceof Stopped) {
      code = 130;
      continue;
    }
    code = 1;
    console.error(`${red('nodelet:')} ${error instanceof Failure ? error.message : error.stack}`);
  }
}
process.exit(code);
