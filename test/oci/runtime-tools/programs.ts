/** The validation programs of runtime-tools, built once for each content of the module beside this file. */
import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SOURCE = dirname(fileURLToPath(import.meta.url));
const CACHE = join(dirname(dirname(dirname(SOURCE))), '.cache/runtime-tools');
const MODULE = 'github.com/opencontainers/runtime-tools';

/** Every program that judges, as go.mod lists them. */
export const PROGRAMS: readonly string[] = [
  ...readFileSync(join(SOURCE, 'go.mod'), 'utf8').matchAll(/runtime-tools\/validation\/(\w+)$/gm),
].map((match) => match[1] ?? '');

const ENV = { ...process.env, CGO_ENABLED: '0', GOTOOLCHAIN: 'local', GOFLAGS: '-mod=readonly' };

function go(...args: readonly string[]): string {
  return execFileSync('go', args, {
    cwd: SOURCE,
    env: ENV,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

/** Why the programs cannot be built here; undefined where they can. */
export function obstacle(): string | undefined {
  try {
    go('version');
    return undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 'Go is not installed';
    return `this Go is too old: ${String((error as { stderr?: unknown }).stderr).trim()}`;
  }
}

/** The directory of the programs, of `runtimetest`, which runs in the containers, and of the root file system. */
export function buildPrograms(): string {
  const hash = createHash('sha256');
  for (const file of ['go.mod', 'go.sum']) hash.update(readFileSync(join(SOURCE, file)));
  const folder = join(CACHE, hash.digest('hex').slice(0, 16));
  if (existsSync(folder)) return folder;
  mkdirSync(CACHE, { recursive: true });
  const work = mkdtempSync(join(CACHE, 'build-'));
  try {
    go('build', '-trimpath', '-ldflags', '-s -w', '-o', `${work}/`, 'tool');
    const module = go('list', '-m', '-f', '{{.Dir}}', MODULE).trim();
    for (const name of readdirSync(module))
      if (/^rootfs-.*\.tar\.gz$/.test(name)) copyFileSync(join(module, name), join(work, name));
    renameSync(work, folder);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return folder;
}

export interface Verdict {
  /** What is not as the program wants it: its "not ok" lines, or how it ended. Empty where it passes. */
  readonly failures: readonly string[];
  /** All that it said. */
  readonly output: string;
}

/** Runs one program to its end; `temporary` is where it makes its bundles. */
export async function judge(
  folder: string,
  name: string,
  { runtime, temporary }: { runtime: string; temporary: string },
): Promise<Verdict> {
  const child = spawn(join(folder, name), [], {
    cwd: folder,
    env: { ...process.env, RUNTIME: runtime, TMPDIR: temporary },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.once('error', reject);
    // Not `close`: a container that it left would keep its output open.
    child.once('exit', (...ended) => resolve(ended));
  });
  child.stdout.destroy();
  child.stderr.destroy();
  return { failures: failuresOf(stdout, stderr, code, signal), output: `${stdout}${stderr}` };
}

/**
 * What a program counts as failed. Where it quotes what `runtimetest` found in the container, that is what counts, not the
 * sum of it. Programs of hooks count nothing: what they do not like stands in a block of its own.
 */
function failuresOf(
  stdout: string,
  stderr: string,
  code: number | null,
  signal: NodeJS.Signals | null,
): string[] {
  const failures: string[] = [];
  let counted = false;
  let inside: string[] = [];
  for (const line of stdout.split('\n')) {
    const quoted = /^ +"stdout": ("(?:[^"\\]|\\.)*")/.exec(line)?.[1];
    if (quoted !== undefined) inside = notOk(JSON.parse(quoted) as string);
    if (!/^(not )?ok\b/.test(line)) continue;
    counted = true;
    const own = notOk(line);
    failures.push(...(own.length > 0 && inside.length > 0 ? inside : own));
    inside = [];
  }
  if (!counted)
    for (const [, text = ''] of stdout.matchAll(/"error": "((?:[^"\\]|\\.)+)"/g)) failures.push(text);
  if (code !== 0) failures.push(`exit ${code ?? signal}: ${stderr.trim().split('\n').slice(-2).join(' ')}`);
  return failures;
}

/** "# TODO" marks what is not tested yet. */
function notOk(text: string): string[] {
  return [...text.matchAll(/^not ok\b(?: \d+)?(?: - )?(.*)$/gm)]
    .map(([, what = '']) => what)
    .filter((what) => !what.includes('# TODO'));
}
