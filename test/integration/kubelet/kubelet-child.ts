/** An agent's kubelet and runtime in a process that may be killed at a failpoint; bundled by crash.test.ts. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { silentLog } from '../../../src/base/index.ts';
import { CriImageService, openImages } from '../../../src/image/index.ts';
import type { BoundPod, ConfigMap } from '../../../src/kube/index.ts';
import { Kubelet, LinuxPodCgroups, probeNode } from '../../../src/kubelet/index.ts';
import { Runtime } from '../../../src/runtime/index.ts';

export interface Task {
  readonly base: string;
  readonly cgroupRoot: string;
  /** What an agent remembers of its pods when it starts. */
  readonly known: readonly BoundPod[];
  /** Taken in once it has started. */
  readonly add: readonly BoundPod[];
  readonly configMap: ConfigMap;
  /** `running`: until the pods run. `gone`: removes them. `finished`: until none is left of those that were being removed. */
  readonly until: 'running' | 'gone' | 'finished';
}

const task = JSON.parse(process.argv[2] ?? '') as Task;
const { base, cgroupRoot } = task;
const images = openImages({ root: join(base, 'root'), log: silentLog });
const runtime = new Runtime({
  root: join(base, 'root'),
  state: join(base, 'state'),
  cgroupRoot,
  images,
  network: undefined,
  log: silentLog,
});
await runtime.recover();
const root = join(base, 'kubelet');
mkdirSync(root, { recursive: true });
const cgroups = new LinuxPodCgroups(cgroupRoot);
const kubelet = new Kubelet({
  runtime,
  images: new CriImageService(images),
  cgroups,
  directories: { root, podLogs: join(base, 'pod-logs') },
  node: probeNode({ root, cgroups, name: 'node-1' }),
  crashLoop: { initial: 100, max: 400 },
  retryAfter: 200,
  log: silentLog,
});
kubelet.objects.putConfigMap(task.configMap);
const settled = new Promise<void>((resolve) => {
  const check = () => {
    const pods = kubelet.list();
    const up = pods.length > 0 && pods.every(({ status }) => status?.phase === 'Running');
    const done = task.until === 'running' ? up : pods.length === 0;
    if (done) resolve();
  };
  kubelet.onStatus(check);
  // Heard before the kubelet itself has let go of it.
  kubelet.onRemoved(() => setImmediate(check));
});
await kubelet.start(task.known);
for (const pod of task.add) kubelet.add(pod);
if (task.until === 'gone') {
  await Promise.all(kubelet.list().map(({ metadata }) => kubelet.remove(metadata?.uid ?? '', { grace: 0 })));
} else await settled;
const { containers = [] } = await runtime.listContainers({});
const { items = [] } = await runtime.listPodSandbox({});
const report = {
  sandboxes: items.length,
  containers: containers
    .map(({ metadata, state }) => `${metadata?.name} #${metadata?.attempt} ${state}`)
    .sort(),
  cgroups: await cgroups.list(),
};
await kubelet.close();
await runtime.close();
await images.close();
process.stdout.write(JSON.stringify(report));
