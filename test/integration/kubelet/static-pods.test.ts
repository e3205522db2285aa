/** Manifests in a directory, watched. */
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Emitter, type Log, silentLog } from '../../../src/base/index.ts';
import { StaticPodSource, syncStaticPods } from '../../../src/kubelet/index.ts';
import type { StaticPods } from '../../../src/kubelet/sources/file.ts';
import { next, type Scratch, scratch } from './scratch.ts';

let world: Scratch;
let folder: string;
let source: StaticPodSource;
const changes = new Emitter<StaticPods>();
const warnings = new Emitter<string>();
const log: Log = { ...silentLog, warn: (_fields, message) => warnings.emit(message) };

beforeEach(() => {
  world = scratch();
  folder = join(world.root, 'manifests');
  mkdirSync(folder);
  source = make(folder);
});
afterEach(() => {
  source.close();
  world[Symbol.dispose]();
});

function make(path: string, rescanAfter?: number): StaticPodSource {
  const onChange = (pods: StaticPods) => changes.emit(pods);
  return new StaticPodSource({
    path,
    nodeName: 'Node-1',
    log,
    onChange,
    ...(rescanAfter ? { rescanAfter } : {}),
  });
}

const manifest = (name: string, image = 'app:1') =>
  `apiVersion: v1\nkind: Pod\nmetadata: {name: ${name}}\nspec: {containers: [{name: a, image: "${image}"}]}\n`;
const put = (file: string, text: string) => writeFileSync(join(folder, file), text);
const names = ({ pods }: StaticPods) => pods.map(({ metadata }) => metadata.name);
const changed = (done: (pods: StaticPods) => boolean = () => true) =>
  next((listener) => changes.on(listener), done);
const warned = () =>
  next<string>(
    (listener) => warnings.on(listener),
    () => true,
  );

describe('what the files say', () => {
  it('becomes pods of this node, marked as coming from files', async () => {
    put('b.yaml', manifest('two'));
    put('a.yaml', manifest('one'));
    put('.hidden.yaml', manifest('hidden'));
    mkdirSync(join(folder, 'folder.yaml'));
    const { pods } = await source.load();
    expect(pods.map(({ metadata }) => metadata.name)).toEqual(['one-node-1', 'two-node-1']);
    const [pod] = pods;
    expect(pod?.metadata.uid).toMatch(/^[0-9a-f]{32}$/);
    expect(pod?.metadata.annotations).toMatchObject({
      'kubernetes.io/config.source': 'file',
      'kubernetes.io/config.hash': pod?.metadata.uid,
    });
    expect(pod?.spec.nodeName).toBe('Node-1');
    expect(pod?.spec.tolerations).toContainEqual({ operator: 'Exists', effect: 'NoExecute' });
  });

  it('the same file is the same pod for the next agent, another content another pod', async () => {
    put('a.yaml', manifest('one'));
    const first = (await source.load()).pods[0]?.metadata.uid;
    expect((await make(folder).load()).pods[0]?.metadata.uid).toBe(first);
    put('a.yaml', manifest('one', 'app:2'));
    expect((await make(folder).load()).pods[0]?.metadata.uid).not.toBe(first);
  });

  it('ConfigMaps and Secrets may stand beside', async () => {
    put(
      'a.yaml',
      `${manifest('one')}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: conf}\ndata: {a: "1"}\n`,
    );
    expect((await source.load()).configMaps.map(({ metadata }) => metadata?.name)).toEqual(['conf']);
  });

  it('one manifest instead of a directory', async () => {
    put('a.yaml', manifest('one'));
    expect(names(await make(join(folder, 'a.yaml')).load())).toEqual(['one-node-1']);
  });

  it('a file that cannot be used is told of, and the others count', async () => {
    put('a.yaml', 'kind: [');
    put('b.yaml', manifest('two'));
    const warning = warned();
    expect(names(await source.load())).toEqual(['two-node-1']);
    expect(await warning).toContain('cannot use the static manifest');
  });
});

describe('what changes', () => {
  it('comes, is replaced and goes', async () => {
    await source.load();
    source.start();
    let heard = changed();
    put('a.yaml', manifest('one'));
    expect(names(await heard)).toEqual(['one-node-1']);
    heard = changed();
    writeFileSync(join(folder, '.a.tmp'), manifest('other'));
    renameSync(join(folder, '.a.tmp'), join(folder, 'a.yaml'));
    expect(names(await heard)).toEqual(['other-node-1']);
    heard = changed();
    rmSync(join(folder, 'a.yaml'));
    expect(names(await heard)).toEqual([]);
  });

  it('a file that is broken meanwhile keeps the pod that it last described', async () => {
    put('a.yaml', manifest('one'));
    await source.load();
    source.start();
    const warning = warned();
    put('a.yaml', 'kind: [');
    await warning;
    const heard = changed();
    put('b.yaml', manifest('two'));
    expect(names(await heard)).toEqual(['one-node-1', 'two-node-1']);
  });

  it('a directory that comes into being later is found', async () => {
    source.close();
    rmSync(folder, { recursive: true });
    source = make(folder, 20);
    expect(names(await source.load())).toEqual([]);
    source.start();
    const heard = changed();
    mkdirSync(folder);
    put('a.yaml', manifest('one'));
    expect(names(await heard)).toEqual(['one-node-1']);
  });
});

describe('bringing a kubelet from one set to the next', () => {
  it('removes what is gone, adds what is new, and leaves a name’s change to the kubelet', async () => {
    put('keep.yaml', manifest('keep'));
    put('change.yaml', manifest('change'));
    put('drop.yaml', manifest('drop'));
    const before = await source.load();
    put('change.yaml', manifest('change', 'app:2'));
    put('new.yaml', manifest('new'));
    rmSync(join(folder, 'drop.yaml'));
    const after = await make(folder).load();
    const calls: string[] = [];
    const nameOf = (uid: string) =>
      [...before.pods, ...after.pods].find(({ metadata }) => metadata.uid === uid)?.metadata.name;
    const sink = {
      objects: { putConfigMap() {}, putSecret() {} },
      add: (pod: { metadata: { name: string } }) => calls.push(`add ${pod.metadata.name}`),
      has: () => true,
      remove: async (uid: string) => {
        calls.push(`remove ${nameOf(uid)}`);
      },
    };
    syncStaticPods(sink, before, after, silentLog);
    expect(calls).toEqual(['remove drop-node-1', 'add change-node-1', 'add keep-node-1', 'add new-node-1']);
  });
});
