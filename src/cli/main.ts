/** The entry of `nodelet`: parses, runs, and turns what was thrown into one line and an exit status. */
import { CommanderError } from 'commander';
import { Exit, reportError } from './errors.ts';
import { EXIT } from './exit-codes.ts';
import { createProgram } from './program.ts';

/** The exit status of a command line. Never rejects. */
export async function main(argv: readonly string[]): Promise<number> {
  if (argv[0] === 'oci') return await (await import('./commands/oci.ts')).oci(argv.slice(1));
  const program = await createProgram(argv);
  try {
    await program.parseAsync(argv, { from: 'user' });
    return EXIT.ok;
  } catch (error) {
    if (error instanceof Exit) return error.exitCode;
    // Commander has said what was wrong, or has shown the help that was asked for.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.failure;
    reportError(error, program.opts<{ readonly debug?: boolean }>().debug === true);
    return EXIT.failure;
  }
}

/** A reader that has gone (`nodelet logs | head`) is no failure to be reported: end as a program that got SIGPIPE. */
function endQuietly(error: NodeJS.ErrnoException): void {
  if (error.code === 'EPIPE') process.exit(EXIT.brokenPipe);
  throw error;
}

process.stdout.on('error', endQuietly);
process.stderr.on('error', endQuietly);
process.exit(await main(process.argv.slice(2)));
