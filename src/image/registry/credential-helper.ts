/**
 * Docker's credential helpers (docker/docker-credential-helpers): a program `docker-credential-NAME` that is asked
 * `get` with the server's name on its input and answers JSON.
 */
import { NodeletError, runProgram } from '../../base/index.ts';
import { quote } from '../digest.ts';
import type { PullAuth } from '../types.ts';

/** Milliseconds. A helper may ask a cloud for a token. */
const timeout = 30_000;
const maxOutput = 1024 * 1024;
/** The user name of a helper whose secret is an identity token. */
const tokenUser = '<token>';

/** What the helper has for `server`; undefined where it has nothing. Throws CREDENTIAL_HELPER_FAILED. */
export async function askHelper(
  name: string,
  server: string,
  signal?: AbortSignal,
): Promise<PullAuth | undefined> {
  const program = `docker-credential-${name}`;
  const fail = (reason: string, hint?: string): NodeletError =>
    new NodeletError(
      'CREDENTIAL_HELPER_FAILED',
      `cannot get credentials for ${quote(server)} from ${quote(program)}: ${reason}`,
      hint === undefined ? {} : { hint },
    );
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name)) throw fail('that is no name of a helper');
  const result = await runProgram(program, {
    args: ['get'],
    input: server,
    timeout,
    maxOutput,
    ...(signal === undefined ? {} : { signal }),
  });
  if (result.kind === 'failed') {
    throw fail(result.notFound ? 'there is no such program in $PATH' : result.reason, 'install the helper');
  }
  const said = result.stdout.trim();
  if (result.code !== 0) {
    // The protocol's own sentence; everything else is a failure.
    if (/credentials not found in native keychain/i.test(said)) return undefined;
    throw fail(`it ended with code ${result.code}${said === '' ? '' : ` (${quote(said)})`}`);
  }
  let answer: unknown;
  try {
    answer = JSON.parse(said);
  } catch {
    throw fail('its answer is not JSON');
  }
  const { Username: user, Secret: secret } = (
    typeof answer === 'object' && answer !== null ? answer : {}
  ) as Record<string, unknown>;
  if (typeof user !== 'string' || typeof secret !== 'string')
    throw fail('its answer has no "Username" and "Secret"');
  if (secret === '') return undefined;
  return user === tokenUser ? { identityToken: secret } : { username: user, password: secret };
}
