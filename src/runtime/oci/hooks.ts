/** Hooks that run in the runtime's own namespaces. */
import { spawn } from 'node:child_process';
import { NodeletError } from '../../base/index.ts';
import type { OciHook, OciHookKind, OciHooks } from '../launch/spec.ts';
import type { OciLog } from './log.ts';

const OUTPUT_LIMIT = 4096;

/** Runs one after another, the state on their standard input. Throws OCI_HOOK_FAILED at the first that fails. */
export async function runHooks(hooks: OciHooks, kind: OciHookKind, state: unknown): Promise<void> {
  for (const [i, hook] of (hooks[kind] ?? []).entries()) await runHook(hook, `hooks.${kind}[${i}]`, state);
}

/** After the container was started or deleted nothing can be taken back: what fails is only said. */
export async function runLateHooks(
  hooks: OciHooks,
  kind: 'poststart' | 'poststop',
  state: unknown,
  log: OciLog,
): Promise<void> {
  for (const [i, hook] of (hooks[kind] ?? []).entries()) {
    try {
      await runHook(hook, `hooks.${kind}[${i}]`, state);
    } catch (error) {
      log.warn(error instanceof Error ? error.message : String(error));
    }
  }
}

async function runHook(hook: OciHook, name: string, state: unknown): Promise<void> {
  const [first, ...rest] = hook.args ?? [];
  const child = spawn(hook.path, rest, {
    argv0: first ?? hook.path,
    env: Object.fromEntries(
      (hook.env ?? []).map((entry) => {
        const equals = entry.indexOf('=');
        return equals < 0 ? [entry, ''] : [entry.slice(0, equals), entry.slice(equals + 1)];
      }),
    ),
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let output = '';
  const take = (data: Buffer) => {
    if (output.length < OUTPUT_LIMIT) output += data.toString('utf8');
  };
  child.stdout.on('data', take);
  child.stderr.on('data', take);
  // A hook need not read it.
  child.stdin.on('error', () => {});
  child.stdin.end(JSON.stringify(state));
  let late = false;
  const timer =
    hook.timeout === undefined
      ? undefined
      : setTimeout(
          () => {
            late = true;
            child.kill('SIGKILL');
          },
          Math.min(hook.timeout * 1000, 0x7fff_ffff),
        );
  const problem = await new Promise<string | undefined>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    // Not `close`: a child of the hook may keep its output open.
    child.once('exit', (code, signal) => {
      if (late) resolve(`not done in ${hook.timeout} s`);
      else if (signal !== null) resolve(`killed by ${signal}`);
      else resolve(code === 0 ? undefined : `exit status ${code}`);
    });
  });
  clearTimeout(timer);
  child.stdout.destroy();
  child.stderr.destroy();
  if (problem === undefined) return;
  const said = output.trim().slice(0, OUTPUT_LIMIT);
  throw new NodeletError(
    'OCI_HOOK_FAILED',
    `${name} ${JSON.stringify(hook.path)}: ${problem}${said === '' ? '' : `: ${said}`}`,
  );
}
