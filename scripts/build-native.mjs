// Builds the addon and the shim with node-gyp. Node's headers are taken from beside the node binary where they
// stand there, so that the build needs no network; a missing compiler is said by name.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** What is missing for the native build, each with the package that brings it. */
function missingTools() {
  const missing = [];
  const has = (command) => spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0;
  if (!has('cc') && !has('gcc')) missing.push('a C compiler (gcc)');
  if (!has('c++') && !has('g++')) missing.push('a C++ compiler (g++)');
  if (!has('make')) missing.push('make');
  if (!has('python3')) missing.push('python3 (node-gyp runs on it)');
  return missing;
}

/** The prefix whose include/node holds the headers of exactly this Node, or undefined. */
function localHeaders() {
  const prefix = dirname(dirname(process.execPath));
  const header = join(prefix, 'include', 'node', 'node_version.h');
  if (!existsSync(header)) return undefined;
  const text = readFileSync(header, 'utf8');
  const part = (name) => new RegExp(`#define NODE_${name}_VERSION (\\d+)`).exec(text)?.[1];
  const version = `v${part('MAJOR')}.${part('MINOR')}.${part('PATCH')}`;
  return version === process.version ? prefix : undefined;
}

const missing = missingTools();
if (missing.length > 0) {
  console.error(`cannot build nodelet's native parts: this machine lacks ${missing.join(', ')}`);
  console.error('install them with: apt-get install -y build-essential python3');
  process.exit(1);
}
const gyp = join(root, 'node_modules', 'node-gyp', 'bin', 'node-gyp.js');
if (!existsSync(gyp)) {
  console.error('cannot build: node-gyp is not installed; run npm ci first');
  process.exit(1);
}
const headers = localHeaders();
const args = [gyp, process.argv.includes('--clean') ? 'rebuild' : 'build', '--loglevel=error'];
// The Makefile holds paths and Node's own settings: a checkout that was moved, or another Node, begins anew.
const made = join(root, 'build', 'made-for');
const here = `${root} ${process.version} ${process.arch}\n`;
if (!existsSync(made) || readFileSync(made, 'utf8') !== here) args[1] = 'rebuild';
if (headers !== undefined) args.push(`--nodedir=${headers}`);
const built = spawnSync(process.execPath, args, {
  cwd: root,
  encoding: 'utf8',
  env: { ...process.env, npm_config_loglevel: 'error' },
});
if (built.status !== 0) {
  process.stderr.write(`${built.stdout}${built.stderr}\ncannot build nodelet's native parts (see above)\n`);
  process.exit(1);
}
writeFileSync(made, here);
// make leaves alone what has not changed; setup compares times of all sources with both.
const now = new Date();
for (const name of ['nodelet.node', 'nodelet-shim'])
  utimesSync(join(root, 'build', 'Release', name), now, now);
console.log(
  `built build/Release/nodelet.node and build/Release/nodelet-shim${headers === undefined ? '' : ` with the headers of ${headers}`}`,
);
