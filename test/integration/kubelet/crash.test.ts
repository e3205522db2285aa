/** The agent is killed at each of its steps: the next one makes the pod run, or leaves nothing of it. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type BoundPod, bindPod, parseManifests } from '../../../src/kube/index.ts';
import { mountsUnder, readMountinfo } from '../../../src/linux/mountinfo.ts';
import { packageRoot } from '../../../src/linux/package-root.ts';
import { IMAGE, openRuntime, type RuntimeFixture } from '../../fixtures/runtime.ts';
import type { Task } from './kubelet-child.ts';

let folder: string;
let child: string;
let fixture: RuntimeFixture;
beforeAll(async () => {
  fixture = await openRuntime();
  // Inside the package, where the child finds the addon.
  folder = mkdtempSync(join(packageRoot(), 'build', 'kubelet-child-'));
  child = join(folder, 'child.mjs');
  await build({
    entryPoints: [join(import.meta.dirname, 'kubelet-child.ts')],
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    outfile: child,
    logLevel: 'error',
    // Some dependencies are CommonJS.
    banner: {
      js: "import { createRequire as make } from 'node:module'; const require = make(import.meta.url);",
    },
  });
});
afterAll(async () => {
  if (child !== undefined) agent({ known: [], add: [], until: 'gone' });
  await fixture?.close();
  rmSync(folder, { recursive: true, force: true });
});

const configMap = { metadata: { name: 'conf', namespace: 'default' }, data: { a: '1', b: '2' } };

interface Report {
  readonly sandboxes: number;
  readonly containers: readonly string[];
  readonly cgroups: readonly string[];
}

type Work = Pick<Task, 'known' | 'add' | 'until'>;

function spawn(work: Work, failpoints: string) {
  const task: Task = { base: fixture.base, cgroupRoot: fixture.cgroupRoot, configMap, ...work };
  return spawnSync(process.execPath, [child, JSON.stringify(task)], {
    encoding: 'utf8',
    env: { ...process.env, NODELET_FAILPOINTS: failpoints },
    timeout: 40_000,
    killSignal: 'SIGTERM',
  });
}

/** An agent that lives to see the end of its work. */
function agent(work: Work): Report {
  const { status, stdout, stderr, signal } = spawn(work, '');
  if (status !== 0) throw new Error(`agent: ${signal ?? status} ${stderr}`);
  return JSON.parse(stdout) as Report;
}

/** An agent that is killed at a failpoint. */
function killed(work: Work, failpoint: string): void {
  const { signal, stderr } = spawn(work, `${failpoint}=kill`);
  expect(signal, stderr).toBe('SIGKILL');
}

let counter = 0;

async function pod(): Promise<BoundPod> {
  counter += 1;
  const container = (name: string, script: string) => ({
    name,
    image: IMAGE,
    command: ['sh', '-c', script],
    volumeMounts: [
      { name: 'work', mountPath: '/work' },
      { name: 'conf', mountPath: '/conf' },
    ],
  });
  const manifest = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: `pod-${counter}` },
    spec: {
      hostNetwork: true,
      terminationGracePeriodSeconds: 0,
      initContainers: [container('init', 'cat /conf/a /conf/b > /work/made')],
      containers: [
        container('a', '[ "$(cat /work/made)" = 12 ] && exec sleep 1000'),
        container('b', 'exec sleep 1000'),
      ],
      volumes: [
        { name: 'work', emptyDir: {} },
        { name: 'memory', emptyDir: { medium: 'Memory' } },
        { name: 'conf', configMap: { name: 'conf' } },
      ],
    },
  };
  const [first] = (await parseManifests(JSON.stringify(manifest), { source: 'test' })).pods;
  if (first === undefined) throw new Error('no pod');
  return bindPod(first, { uid: `uid-${counter}`, nodeName: 'node-1', now: new Date() });
}

const RUNNING = 1;

function expectRunning(report: Report): void {
  const live = report.containers.filter((line) => line.endsWith(` ${RUNNING}`));
  expect(live.map((line) => line.split(' ')[0])).toEqual(['a', 'b']);
}

function expectNothingLeft(report: Report): void {
  expect(report).toEqual({ sandboxes: 0, containers: [], cgroups: [] });
  for (const name of ['kubelet/pods', 'pod-logs', 'state/sandboxes']) {
    const path = join(fixture.base, name);
    expect(existsSync(path) ? readdirSync(path) : [], path).toEqual([]);
  }
  expect(mountsUnder(readMountinfo(), fixture.base)).toEqual([]);
}

const STARTING = [
  'kubelet:after-directories',
  'kubelet:after-cgroup',
  'volumes:before-rename',
  'volumes:after-one',
  'atomic-writer:after-file',
  'atomic-writer:before-publish',
  'kubelet:before-create',
  'kubelet:after-create',
  'kubelet:after-start',
];

describe('killed while a pod is started', () => {
  it.each(STARTING)('%s: the next agent makes it run, and removes it', async (failpoint) => {
    const given = await pod();
    killed({ known: [], add: [given], until: 'running' }, failpoint);
    expectRunning(agent({ known: [given], add: [], until: 'running' }));
    expectNothingLeft(agent({ known: [given], add: [], until: 'gone' }));
  });

  it.each(STARTING)('%s: an agent that does not know it leaves nothing of it', async (failpoint) => {
    killed({ known: [], add: [await pod()], until: 'running' }, failpoint);
    expectNothingLeft(agent({ known: [], add: [], until: 'gone' }));
  });
});

describe('killed while a pod is removed', () => {
  it.each(['kubelet:after-volumes', 'kubelet:after-cgroup-removal', 'kubelet:after-logs'])(
    '%s: the next agent goes on with that, and does not start it again',
    async (failpoint) => {
      const given = await pod();
      expectRunning(agent({ known: [], add: [given], until: 'running' }));
      killed({ known: [given], add: [], until: 'gone' }, failpoint);
      // It was asked to remove the pod by the one before, and by nobody else.
      expectNothingLeft(agent({ known: [given], add: [], until: 'finished' }));
    },
  );

  it('kubelet:orphan-stopped: what was unknown still is, and goes', async () => {
    agent({ known: [], add: [await pod()], until: 'running' });
    killed({ known: [], add: [], until: 'gone' }, 'kubelet:orphan-stopped');
    expectNothingLeft(agent({ known: [], add: [], until: 'gone' }));
  });
});
