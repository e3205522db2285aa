/** `npm start`, as scripts/demo.mjs: alone, on a terminal, on a machine whose disk is an overlay, and beside itself. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { readCgroupHost } from '../../../src/linux/cgroups/index.ts';
import { Rtnetlink } from '../../../src/linux/netlink/index.ts';
import { Nftables } from '../../../src/linux/nftables/index.ts';
import { packageRoot } from '../../../src/linux/package-root.ts';
import { Program } from '../../fixtures/agent.ts';

let counter = 0;
const names: string[] = [];
const children: ChildProcess[] = [];

afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGTERM');
      await new Promise((resolve) => {
        child.once('close', resolve);
      });
    }
  }
  expect(names.splice(0).flatMap(remains)).toEqual([]);
});

const random = randomBytes(2).toString('hex');

/** They differ in one letter only, so that the demos begin to look for addresses in different places. */
function newName(): string {
  counter += 1;
  const name = `t${random}${counter}`;
  names.push(name);
  return name;
}

function remains(name: string): string[] {
  using rt = new Rtnetlink();
  using nft = new Nftables();
  const host = readCgroupHost();
  const tops = new Set([host.unified, ...Object.values(host.controllers).map((one) => one.root)]);
  const table = nft.table({ family: 'inet', name: `nodelet-nodelet-${name}` });
  return [
    ...rt.links().flatMap((link) => (link.name === `nodelet-${name}` ? [`link ${link.name}`] : [])),
    ...(table === undefined ? [] : [`table ${table.name}`]),
    ...[...tops].map((top) => `${top}/nodelet-${name}`).filter((path) => existsSync(path)),
    ...['/var/lib', '/dev/shm', '/run']
      .map((folder) => `${folder}/nodelet-${name}`)
      .filter((path) => existsSync(path)),
    ...readFileSync('/proc/self/mounts', 'utf8')
      .split('\n')
      .filter((line) => line.includes(`nodelet-${name}`)),
    ...processes(`nodelet-${name}`),
  ];
}

function processes(marker: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
        return line.includes(marker) ? [`${pid} ${line}`] : [];
      } catch {
        return [];
      }
    });
}

function start(line: readonly string[]): Program {
  const child = spawn(line[0] ?? '', line.slice(1), {
    cwd: packageRoot(),
    env: { ...process.env, NO_COLOR: '1', TERM: 'xterm' },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  children.push(child);
  return new Program(child, 'demo');
}

const demo = (...words: readonly string[]): string[] => [
  process.execPath,
  join('scripts', 'demo.mjs'),
  ...words,
];

/** By `exec`: a shell that stays (dash, where SHELL is not set) would end by the Ctrl-C itself, with 130. */
function onTerminal(words: readonly string[]): string[] {
  const line = ['exec', ...words.map((word) => `'${word}'`)].join(' ');
  return ['script', '--quiet', '--return', '--flush', '--command', line, '/dev/null'];
}

const SHOWN = [
  /^nodelet demo: .*\nInstalls what is missing: /,
  /^ {2}\[client\] Hello from pod demo: I am PID 1, uid 1000; you are \d+\.\d+\.\d+\.2$/m,
  /^ {2}address +(\d+\.\d+\.\d+\.2) on the bridge nodelet-t/m,
  /^ {2}client +ended with 0\n {2}server +runs$/m,
  /^ {2}pod +memory +234881024 +224 MiB +\/sys\/fs\/cgroup\/\S+$/m,
  /^ {2}server +memory +134217728 +128 MiB +\/sys\/fs\/cgroup\/\S+$/m,
  /^ {2}server +CPU quota +50000\b/m,
  /^ {2}to this machine, over the bridge: +Hello from pod demo: .* you are \d+\.\d+\.\d+\.1$/m,
  /^ {2}bin\/nodelet\.mjs --root \S+ explain demo$/m,
];
const REMOVED = 'Removed: the pod, its bridge, rules, control groups and files.';

function expectShown(stdout: string): void {
  for (const pattern of SHOWN) expect(stdout).toMatch(pattern);
}

describe('npm start', () => {
  it('without a terminal: shows everything, removes it and ends with 0; two at once', async () => {
    const both = [newName(), newName()].map((name) => start(demo('--name', name)));
    for (const { exit } of both) {
      const { code, stdout, stderr } = await exit;
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      expectShown(stdout);
      expect(stdout.trimEnd()).toMatch(new RegExp(`${REMOVED.replaceAll('.', String.raw`\.`)}$`));
    }
  });

  it('on a terminal: what it says to look inside works, and Ctrl-C removes everything', async () => {
    const name = newName();
    const terminal = start(onTerminal(demo('--name', name)));
    await terminal.until(/Ctrl-C ends the pod and removes everything\./);
    expectShown(terminal.stdout.replaceAll('\r', ''));
    const commands = terminal.stdout.replaceAll('\r', '').match(/^ {2}bin\/nodelet\.mjs .*$/gm) ?? [];
    expect(commands.map((text) => / (exec|logs|explain|trace|plan) /.exec(text)?.[1])).toEqual([
      'exec',
      'logs',
      'explain',
      'trace',
      'plan',
    ]);
    for (const text of commands) {
      const { code, stdout, stderr } = await start(['sh', '-c', text]).exit;
      expect({ text, code, stderr }).toEqual({ text, code: 0, stderr: '' });
      expect(stdout).toMatch(
        / exec /.test(text) ? /^\d+ demo\n$/ : / logs /.test(text) ? /GET \/from-the-host from/ : /demo/,
      );
    }
    terminal.child.stdin?.write('\u0003');
    const { code, stdout } = await terminal.exit;
    expect(code).toBe(0);
    expect(stdout).toContain(REMOVED);
  });

  it('on a terminal: Ctrl-C before everything was shown ends with 130', async () => {
    const terminal = start(onTerminal(demo('--name', newName())));
    await terminal.until(/Created +pod\/demo/);
    terminal.child.stdin?.write('\u0003');
    const { code, stdout } = await terminal.exit;
    expect(code).toBe(130);
    expect(stdout).toContain(REMOVED);
  });

  it('where the disk is an overlay, and so is what is below /run: on a tmpfs', async () => {
    const name = newName();
    const script = `set -e
      mount -t tmpfs tmpfs /mnt
      for place in /var/lib /run; do
        base=/mnt$place; mkdir -p $base/upper $base/work
        mount -t overlay overlay -o lowerdir=$place,upperdir=$base/upper,workdir=$base/work $place
      done
      mount -t tmpfs -o size=64m tmpfs /dev/shm
      exec "$@"`;
    const { code, stdout, stderr } = await start([
      'unshare',
      '--mount',
      'sh',
      '-c',
      script,
      'sh',
      ...demo('--name', name),
    ]).exit;
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expectShown(stdout);
    expect(stdout).toContain(`in /run/nodelet-${name}`);
    expect(stdout).toContain(REMOVED);
  });

  it('wrong usage, and no root', async () => {
    const wrong = await start(demo('--nmae', 'x')).exit;
    expect(wrong).toMatchObject({ code: 2, stdout: '' });
    expect(wrong.stderr).toContain('cannot use "--nmae x"');
    const before = ['setpriv', '--reuid', '65534', '--clear-groups'];
    const nobody = await start([...before, ...demo('--name', newName())]).exit;
    expect(nobody.code).toBe(1);
    expect(nobody.stderr).toContain('root is needed');
  });
});
