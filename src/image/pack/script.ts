/** The first line of a script (execve(2), env(1)). Pure. */

export interface ScriptInterpreter {
  readonly program: string;
  /** With `#!/usr/bin/env NAME`: what env will run, a name or a path. */
  readonly viaEnv: string | undefined;
}

/** Reads `#!`; undefined where the file does not begin with it. The kernel looks at 256 bytes. */
export function scriptInterpreter(head: Buffer): ScriptInterpreter | undefined {
  if (head[0] !== 0x23 || head[1] !== 0x21) return undefined;
  const [line = ''] = head.toString('utf8', 2, 256).split('\n', 1);
  const match = /^[ \t]*(\/\S+)(?:[ \t]+(.*?))?[ \t\r]*$/.exec(line);
  if (match === null) return undefined;
  const program = match[1] ?? '';
  if (!/(^|\/)env$/.test(program)) return { program, viaEnv: undefined };
  return { program, viaEnv: envCommand(match[2] ?? '') };
}

/** env's options and assignments stand before the command; -S splits what follows. */
function envCommand(text: string): string | undefined {
  const words = text.split(/[ \t]+/).filter((word) => word !== '');
  for (let i = 0; i < words.length; i += 1) {
    const word = words[i] ?? '';
    if (word === '-u' || word === '--unset' || word === '-C' || word === '--chdir') {
      i += 1;
      continue;
    }
    if (/^-S./.test(word)) return word.slice(2);
    if (word.startsWith('-') || /^[A-Za-z_]\w*=/.test(word)) continue;
    return word;
  }
  return undefined;
}
