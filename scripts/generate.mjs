// `npm run generate` writes every generated source; `--check` only compares (part of `npm run verify`).
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { criSource, criTablesSource } from './gen/cri.mjs';
import { kubeTypesSource, kubeValidatorsSource } from './gen/kube.mjs';
import { protocolHeader, protocolModule } from './gen/protocol.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const outputs = [
  [`${root}/src/cri/api.gen.ts`, criSource],
  [`${root}/src/cri/wire/tables.gen.ts`, criTablesSource],
  [`${root}/src/kube/gen/types.gen.ts`, kubeTypesSource],
  [`${root}/src/kube/gen/validate.gen.ts`, kubeValidatorsSource],
  [`${root}/native/shim/protocol.gen.h`, protocolHeader],
  [`${root}/src/runtime/launch/protocol.gen.ts`, protocolModule],
];

const check = process.argv.includes('--check');
let stale = 0;
for (const [path, generate] of outputs) {
  const text = await generate(root);
  let old = '';
  try {
    old = readFileSync(path, 'utf8');
  } catch {}
  if (old === text) continue;
  if (check) {
    console.error(`${relative(root, path)} is not what its generator writes: run npm run generate`);
    stale += 1;
  } else {
    writeFileSync(path, text);
    console.log(`wrote ${relative(root, path)}`);
  }
}
process.exitCode = stale === 0 ? 0 : 1;
