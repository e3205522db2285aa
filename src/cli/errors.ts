/** Errors as lines: what failed, what to do, and with --debug where it came from. Pure but for `reportError`. */
import { codeOf, describeError, messageOf, NodeletError } from '../base/index.ts';
import { printable } from './format/text.ts';
import { type Style, styleFor } from './terminal/style.ts';

/** Line breaks stay (a manifest's problems come one a line); other control characters are shown, not sent. */
function lines(text: string): string {
  return text
    .split('\n')
    .map((line) => printable(line))
    .join('\n');
}

/** `nodelet: message`, then `  hint: …`; with `debug` code, details, cause and stack of each error in the chain. */
export function describeFailure(
  error: unknown,
  options: { readonly debug: boolean; readonly style: Style },
): string {
  const { style } = options;
  const text = [`${style.red('nodelet:')} ${lines(describeError(error))}`];
  const hint = hintOf(error);
  if (hint !== undefined) text.push(`  ${style.dim('hint:')} ${lines(hint)}`);
  if (options.debug) text.push(...debugLines(error));
  return text.join('\n');
}

/** The hint of the outermost error that has one. */
function hintOf(error: unknown): string | undefined {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth += 1) {
    if (at instanceof NodeletError && at.hint !== undefined) return at.hint;
  }
  return permissionHint(error);
}

function permissionHint(error: unknown): string | undefined {
  const code = codeOf(error);
  return (code === 'EACCES' || code === 'EPERM') && process.getuid?.() !== 0
    ? 'run it as root, with sudo'
    : undefined;
}

function debugLines(error: unknown): string[] {
  const text: string[] = [];
  for (let at: unknown = error, depth = 0; at != null && depth < 8; depth += 1) {
    const code = codeOf(at);
    text.push(
      `  ${depth === 0 ? 'error' : 'cause'}${code === undefined ? '' : ` ${code}`}: ${lines(messageOf(at))}`,
    );
    if (at instanceof NodeletError && Object.keys(at.details).length > 0)
      text.push(`    details: ${JSON.stringify(at.details)}`);
    if (at instanceof Error && at.stack !== undefined) {
      const frames = at.stack.split('\n').filter((line) => /^\s+at /.test(line));
      text.push(...frames.map((line) => `    ${line.trim()}`));
    }
    at = at instanceof Error ? at.cause : undefined;
  }
  return text;
}

/** Writes the error to standard error. */
export function reportError(error: unknown, debug: boolean): void {
  process.stderr.write(`${describeFailure(error, { debug, style: styleFor(process.stderr) })}\n`);
}

/** Ends the command with this exit code; everything to be said has been said. */
export class Exit extends Error {
  readonly exitCode: number;

  constructor(exitCode: number) {
    super(`exit ${exitCode}`);
    this.exitCode = exitCode;
  }
}
