// `npm run test:cri [-- --report FILE] [-- --focus REGEX]`: critest and crictl of cri-tools against `nodelet cri`; see
// docs/conformance.md. With --peer, critest against Debian's containerd, which tells what it finds elsewhere. Exit
// status 0: all passed, 77: this machine cannot, said why. The last line is "N passed, N failed, N skipped".
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { judges } from '../test/cri/judges.mjs';
import { withBundle } from './bundle.mjs';
import { enclosed } from './enclosed.mjs';
import { root, setup } from './setup.mjs';

const args = process.argv.slice(2);
setup({ test: true, vm: false, peers: args.includes('--peer') });
const built = judges(join(root, '.cache/cri'), (text) => console.log(`cri: ${text}`));
if (built.obstacle === undefined) {
  process.exitCode = await withBundle('test/cri/main.ts', (file) => {
    const [command, ...rest] = enclosed(process.execPath, [file, ...args]);
    const env = { ...process.env, CRITEST: built.critest, CRICTL: built.crictl };
    return spawnSync(command, rest, { cwd: root, stdio: 'inherit', env }).status ?? 1;
  });
} else {
  console.log(`cri: skipped: ${built.obstacle}`);
  process.exitCode = 77;
}
