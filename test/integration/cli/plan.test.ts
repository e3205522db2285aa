/** `nodelet plan`: what it says, that it is what happens, and that it does nothing. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { PlannedOperation, PlannedPod, TraceResponse } from '../../../src/agent/index.ts';
import { IMAGE, type Outcome, podOf, type RunOptions, shell, World } from '../../fixtures/agent.ts';

let world: World;
beforeAll(async () => {
  world = await World.open({ programs: 'sh sleep' });
});
afterAll(async () => await world?.close());

/** Every file below the world's directory, and everything that the world could have on this machine. */
function everything(): string[] {
  const files = readdirSync(world.base, { recursive: true, encoding: 'utf8' });
  return [...files.sort(), ...world.shared(), ...world.leftovers()];
}

/** In a mount namespace that nobody else changes: exit 99 where the command left another list of mounts. */
const SAME_MOUNTS = [
  'unshare',
  '--mount',
  'sh',
  '-c',
  'before=$(cat /proc/self/mountinfo); "$@"; code=$?; [ "$before" = "$(cat /proc/self/mountinfo)" ] || exit 99; exit $code',
  'sh',
];

async function plan(
  content: object | string,
  words: readonly string[] = [],
  options: RunOptions = {},
): Promise<Outcome> {
  const file = world.manifest(content);
  const before = everything();
  const outcome = await world.cli(['plan', ...world.settings, ...words, file], {
    before: SAME_MOUNTS,
    ...options,
  });
  expect(everything()).toEqual(before);
  return outcome;
}

const web = podOf(
  'web',
  [
    shell('sleep 1000', {
      resources: { limits: { memory: '32Mi', cpu: '250m' } },
      volumeMounts: [{ name: 'data', mountPath: '/data' }],
    }),
  ],
  { volumes: [{ name: 'data', emptyDir: {} }], terminationGracePeriodSeconds: 0 },
);

async function planned(content: object): Promise<PlannedPod> {
  const { code, stdout, stderr } = await plan(content, ['-o', 'json']);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const [pod] = (JSON.parse(stdout) as { items: PlannedPod[] }).items;
  if (pod === undefined) throw new Error('no pod');
  return pod;
}

describe('a pod whose image is here', () => {
  it('is told in the order in which it is made, and nothing is done', async () => {
    const { code, stdout, stderr } = await plan(web);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const order = [
      /^Pod default\/web {2}Guaranteed, 1 container$/m,
      /^1\. Images/m,
      new RegExp(`^ +c +${IMAGE} +\\w+ +use +[0-9a-f]{12} `, 'm'),
      /^2\. Directories and volumes/m,
      /^ +data +emptyDir +\S+\/kubernetes\.io~empty-dir\/data$/m,
      /^3\. Control group of the pod/m,
      /^ +echo 33554432 > \S+\/…\/pod<uid>\/memory\.\S+ +\(32MiB\)$/m,
      /^4\. Sandbox/m,
      /^ +\d+ +shim +unshare +unshare net,ipc,uts$/m,
      /^5\. Network/m,
      /^ +addresses +10\.\d+\.\d+\.2 /m,
      /^ +host +ip link add nde[0-9a-f]+ .*type bridge/m,
      /^ +host +nft add rule .* masquerade/m,
      /^ +pod +ip route add default via /m,
      /^6\. Container c$/m,
      /^ +\/data +rw +\S+$/m,
      /^ +\d+ +shim +clone +clone with new pid into /m,
      /^ +\d+ +child +overlay +make overlay of 1 layer/m,
      /^ +[\d-]+ +child +mask +hide \/proc\/\w+, /m,
      /^ +\d+ +child +seccomp +seccomp filter of \d+ instructions$/m,
      /^ +\d+ +child +execute +exec sh -c "sleep 1000"$/m,
      /^Nothing of this was done\.$/m,
    ];
    let at = 0;
    for (const pattern of order) {
      const found = pattern.exec(stdout.slice(at));
      expect(found, `${String(pattern)} after\n${stdout.slice(Math.max(0, at - 300), at)}`).not.toBeNull();
      at += found?.index ?? 0;
    }
  });

  it('with --all in full: each operation in its own line', async () => {
    const pod = await planned(web);
    const { stdout } = await plan(web, ['--all']);
    for (const { index, op } of pod.containers[0]?.operations ?? [])
      expect(stdout).toMatch(new RegExp(`^ +${index} +(shim|child) +${op} `, 'm'));
    expect(stdout).not.toContain('…');
  });

  it('as YAML, and from standard input', async () => {
    const { code, stdout } = await world.cli(['plan', ...world.settings, '-o', 'yaml', '-'], {
      input: JSON.stringify(web),
    });
    expect(code).toBe(0);
    expect(stdout).toMatch(/^items:\n {2}- namespace: default\n {4}name: web$/m);
  });

  it('is what run does: the operations of a start are those of the plan', async () => {
    const before = await planned(web);
    const run = world.start(['run', ...world.settings, world.manifest(web)]);
    await run.until(/Started +pod\/web\[c\]/, 'stderr');
    const { stdout } = await world.cli(['trace', 'web', '-o', 'json']);
    const { spans } = JSON.parse(stdout) as TraceResponse;
    run.signal('SIGINT');
    await run.exit;
    const uid = /pod([0-9a-f-]{36})/.exec(stdout)?.[1] ?? '';
    const done = spans
      .filter(({ category }) => category === 'shim')
      .map(({ detail = '' }) => same(detail, uid));
    const operations = before.containers[0]?.operations ?? [];
    // What the kubelet has made by then is not made again: from the log and the exit record on it is the same.
    const from = operations.findIndex(({ op }) => op === 'exit-record');
    const expected = operations
      .slice(from)
      .filter(isTimed)
      .map(({ text }) => same(text, uid));
    const first = done.indexOf(expected[0] ?? '');
    expect(first).toBeGreaterThan(0);
    expect(done.slice(first, first + expected.length)).toEqual(expected);
  });
});

/** The last one replaces the program that would tell of it. */
const isTimed = ({ op }: PlannedOperation): boolean => op !== 'execute';

/** Without what is drawn when a pod is made. */
function same(text: string, uid: string): string {
  return text
    .replaceAll(uid, '<uid>')
    .replaceAll(/\b[0-9a-f]{64}\b/g, 'ID')
    .replaceAll(/_ses\.\w+/g, '_ses')
    .replaceAll(/(containers\/c\/)[^/ ]+/g, '$1RANDOM');
}

describe('a machine where nothing of nodelet is there yet', () => {
  it('stays as it is', async () => {
    const root = join(world.base, 'fresh', 'root');
    const settings = world.settings.map((word) => (word === world.root ? root : word));
    const file = world.manifest(web);
    const { code, stdout } = await world.cli(['plan', ...settings, '--state', join(root, 'state'), file]);
    expect(code).toBe(0);
    expect(stdout).toMatch(new RegExp(`${IMAGE} +IfNotPresent +pull `));
    expect(stdout).toContain('can be told once it is pulled');
    expect(existsSync(join(world.base, 'fresh'))).toBe(false);
    expect(world.shared()).toEqual([]);
  });

  it('an image that may not be pulled', async () => {
    const pod = podOf('web', [shell('true', { image: 'localhost/none', imagePullPolicy: 'Never' })]);
    const { code, stdout } = await plan(pod);
    expect(code).toBe(0);
    expect(stdout).toMatch(/localhost\/none +Never +FAIL/);
    expect(stdout).toContain('"localhost/none" is not here, and imagePullPolicy Never forbids to pull it');
  });
});

describe('wrong input', () => {
  it.each([
    ['a misspelt field', podOf('web', [shell('true')], { contianers: [] }), /spec\.contianers/],
    ['no YAML', 'a: [', /YAML/i],
    ['no pod', { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'x' } }, /no Pod is in it/],
  ])('%s: 125, and nothing is left', async (_, content, message) => {
    const { code, stdout, stderr } = await plan(content);
    expect({ code, stdout }).toEqual({ code: 125, stdout: '' });
    expect(stderr).toMatch(message);
  });

  it.each([
    [['/none.yaml'], /cannot read "\/none\.yaml": there is no such file/],
    [['--al', '-'], /unknown option '--al'\n\(Did you mean --all\?\)/],
    [[], /missing required argument 'file'/],
    [['--bridge', 'a-name-that-is-too-long', '-'], /cannot name a bridge "a-name-that-is-too-long"/],
    [['-c', 'none', '-'], /cannot plan container "none"\n {2}hint: there is c$/m],
  ])('%j: 125', async (words, message) => {
    const { code, stdout, stderr } = await world.cli(['plan', ...words], { input: JSON.stringify(web) });
    expect({ code, stdout }).toEqual({ code: 125, stdout: '' });
    expect(stderr).toMatch(message);
  });

  it('without root: what cannot be seen is said', async () => {
    const before = ['setpriv', '--reuid', '65534', '--clear-groups'];
    const input = JSON.stringify(web);
    // The store of the images is root's alone.
    const closed = await world.cli(['plan', ...world.settings, '-'], { input, before });
    expect(closed).toMatchObject({ code: 125, stdout: '' });
    expect(closed.stderr).toMatch(/^nodelet: EACCES: .*\n {2}hint: run it as root, with sudo$/m);
    const none = await world.cli(['plan', '--root', '/nonexistent', '-'], { input, before });
    expect(none.code).toBe(0);
    expect(none.stderr).toContain('Warning: without root parts of this machine cannot be looked at');
    expect(none.stdout).toContain('the pod could not be connected: ');
  });
});
