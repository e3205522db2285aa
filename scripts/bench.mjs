// `node scripts/bench.mjs NAME`: bundles bench/NAME.ts and runs it (as root).
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { withBundle } from './bundle.mjs';
import { enclosed } from './enclosed.mjs';
import { root, setup } from './setup.mjs';

/** Benchmarks that start daemons of others beside ours: in namespaces that end with them. */
const WITH_PEERS = new Set(['cri']);

const name = process.argv[2] ?? '';
const entry = `bench/${name}.ts`;
if (!existsSync(join(root, entry))) {
  console.error(`no such benchmark: ${entry}`);
  process.exit(2);
}
const peers = WITH_PEERS.has(name);
setup({ test: true, vm: false, peers });
process.exitCode = await withBundle(entry, (file) => {
  const args = [file, ...process.argv.slice(3)];
  const [command, ...rest] = peers ? enclosed(process.execPath, args) : [process.execPath, ...args];
  return spawnSync(command, rest, { cwd: root, stdio: 'inherit' }).status ?? 1;
});
