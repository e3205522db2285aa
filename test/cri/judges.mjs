// Builds critest and crictl from the Go module beside this file. They are kept in the project's cache by the content of
// the module and the version of Go, so that they are built once.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const module = dirname(fileURLToPath(import.meta.url));
const CRI_TOOLS = 'sigs.k8s.io/cri-tools';

const sources = () =>
  readdirSync(module)
    .filter((name) => /^go\.(mod|sum)$|\.go$/.test(name))
    .sort();

/** The `go` line of go.mod, for example "1.26.2". */
function wanted() {
  return /^go (\S+)$/m.exec(readFileSync(join(module, 'go.mod'), 'utf8'))?.[1] ?? '';
}

const numbers = (version) => version.split('.').map(Number);

/** `a` is at least `b`, as versions. */
export function atLeast(a, b) {
  const [left, right] = [numbers(a), numbers(b)];
  for (let i = 0; i < right.length; i++) if (left[i] !== right[i]) return (left[i] ?? 0) > right[i];
  return true;
}

/** This machine's Go, or undefined. */
function version() {
  // Never another version from the network: it would be downloaded without a word.
  const env = { ...process.env, GOTOOLCHAIN: 'local' };
  const { stdout } = spawnSync('go', ['env', 'GOVERSION'], { cwd: '/', env, encoding: 'utf8' });
  return /^go([\d.]+)/.exec(stdout ?? '')?.[1];
}

/** Debian's Go, for those who could install it, or undefined. */
function candidate() {
  const { stdout } = spawnSync('apt-cache', ['policy', 'golang-go'], { encoding: 'utf8' });
  return /Candidate: (?:\d+:)?([\d.]+)/.exec(stdout ?? '')?.[1];
}

/** Why the judges cannot be built here, or undefined. */
function obstacle(found) {
  const need = wanted();
  if (found !== undefined && atLeast(found, need)) return undefined;
  const has = found === undefined ? 'this machine has no Go' : `this machine has Go ${found}`;
  const offer = candidate();
  const mend =
    offer !== undefined && atLeast(offer, need)
      ? `apt-get install golang-go brings ${offer}`
      : `install Go ${need} or newer${offer === undefined ? '' : ` (the distribution's is ${offer})`}`;
  return `the judges are built with Go ${need}, ${has}: ${mend}`;
}

/**
 * `{ critest, crictl }`, paths of the programs, or `{ obstacle }`, why there are none. Throws where a build fails.
 * `cache` is a directory; `say` is told of what takes long.
 */
export function judges(cache, say) {
  const found = version();
  const reason = obstacle(found);
  if (reason !== undefined) return { obstacle: reason };
  const hash = createHash('sha256').update(`${found} ${process.arch}`);
  for (const name of sources()) hash.update(`\0${name}\0`).update(readFileSync(join(module, name)));
  const folder = join(cache, hash.digest('hex').slice(0, 16));
  const built = { critest: join(folder, 'critest'), crictl: join(folder, 'crictl') };
  if (existsSync(folder)) return built;
  say(`building critest and crictl with Go ${found}; kept in ${folder}`);
  mkdirSync(cache, { recursive: true });
  const work = mkdtempSync(join(cache, 'build-'));
  try {
    go(['test', '-c', '-trimpath', '-o', join(work, 'critest'), '.']);
    const release = /cri-tools v(\S+)/.exec(readFileSync(join(module, 'go.mod'), 'utf8'))?.[1];
    const stamp = `-X ${CRI_TOOLS}/pkg/version.Version=${release}`;
    go(['build', '-trimpath', '-ldflags', stamp, '-o', join(work, 'crictl'), `${CRI_TOOLS}/cmd/crictl`]);
    renameSync(work, folder);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return built;
}

function go(args) {
  const env = { ...process.env, CGO_ENABLED: '0', GOTOOLCHAIN: 'local', GOFLAGS: '-mod=readonly' };
  const { status, error } = spawnSync('go', args, { cwd: module, env, stdio: 'inherit' });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`"go ${args.join(' ')}" failed (exit ${status})`);
}
