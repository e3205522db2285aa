// The import rule of docs/ARCHITECTURE.md: which room may import which, and only by its door.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const src = join(root, 'src');

/** room → rooms that it may import (itself always). */
const allowed = {
  base: [],
  linux: ['base'],
  cri: ['base'],
  kube: ['base'],
  image: ['linux', 'base', 'cri'],
  cni: ['linux', 'base'],
  proxy: ['kube', 'linux', 'base'],
  runtime: ['image', 'cni', 'cri', 'linux', 'base'],
  kubelet: ['cri', 'kube', 'linux', 'base'],
  agent: ['kubelet', 'runtime', 'proxy', 'image', 'cni', 'cri', 'kube', 'linux', 'base'],
  cli: ['agent', 'image', 'kube', 'linux', 'base'],
  // the library's door
  'index.ts': ['agent', 'runtime', 'kubelet', 'image', 'cni', 'cri', 'kube', 'linux', 'base'],
};

/** Rooms whose files (or sub-rooms' doors) are imported by name. */
const libraries = new Set(['base', 'linux']);

/** Rooms whose sub-rooms have doors of their own, so that a server is loaded only where one is wanted. */
const divided = new Set(['cri']);

function* files(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* files(path);
    else if (entry.name.endsWith('.ts')) yield path;
  }
}

const problems = [];
for (const file of files(src)) {
  const from = relative(src, file).split('/')[0];
  const text = readFileSync(file, 'utf8');
  for (const match of text.matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)'/g)) {
    const target = relative(src, resolve(dirname(file), match[1]));
    if (target.startsWith('..')) {
      if (!target.endsWith('package.json'))
        problems.push(`${relative(root, file)}: imports ${match[1]}, outside src/`);
      continue;
    }
    const [to, ...inner] = target.split('/');
    if (to === from) continue;
    if (allowed[from] === undefined || !allowed[from].includes(to)) {
      problems.push(`${relative(root, file)}: room "${from}" may not import room "${to}" (${match[1]})`);
      continue;
    }
    const depth = inner.length;
    const door = inner.at(-1) === 'index.ts';
    if (libraries.has(to)) {
      if (to === 'base' && !door)
        problems.push(`${relative(root, file)}: ${match[1]} reaches past the door of "base"`);
      if (depth > 1 && !door)
        problems.push(`${relative(root, file)}: ${match[1]} reaches past a door in "${to}"`);
    } else if (!door || depth > (divided.has(to) ? 2 : 1)) {
      problems.push(
        `${relative(root, file)}: ${match[1]} reaches past the door of "${to}" (import its index.ts)`,
      );
    }
  }
}
for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exitCode = 1;
else console.log('imports: every room is entered by its door, in the allowed direction');
