/** A process that works on the network and may be killed at a failpoint; bundled by crash.test.ts. */
import { openSync } from 'node:fs';
import { codeOf } from '../../../src/base/index.ts';
import { createBridgeNetwork, type PortMapping } from '../../../src/cni/index.ts';

interface Task {
  readonly verb: 'setUp' | 'add' | 'remove' | 'collect';
  readonly host: string;
  readonly pod: string;
  readonly dataDir: string;
  readonly id: string;
  readonly portMappings: readonly PortMapping[];
}

const task = JSON.parse(process.argv[2] ?? '') as Task;
const network = createBridgeNetwork({
  name: 'pods',
  subnets: ['10.88.0.0/16', 'fd00:88::/64'],
  dataDir: task.dataDir,
  hostNetnsFd: openSync(task.host, 'r'),
});
const attachment = {
  id: task.id,
  netnsFd: openSync(task.pod, 'r'),
  podNamespace: 'default',
  podName: 'pod',
  podUid: 'uid',
  portMappings: task.portMappings,
};
try {
  if (task.verb === 'setUp') await network.setUp();
  else if (task.verb === 'add') await network.add(attachment);
  else if (task.verb === 'remove') await network.remove(attachment);
  else await network.collect(new Set());
} catch (error) {
  process.stdout.write(`failed ${codeOf(error)}`);
}
