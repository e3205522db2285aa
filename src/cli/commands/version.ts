import { release } from 'node:os';
import type { Command } from 'commander';
import type { VersionResponse } from '../../agent/index.ts';
import { codeOf } from '../../base/index.ts';
import { clientOf } from '../context.ts';
import { formatMemory } from '../format/size.ts';
import { addOutput } from '../options.ts';
import { type OutputFormat, writeLine, writeLines, writeStructured } from '../output.ts';
import { ownVersion } from '../version.ts';

interface Options {
  readonly output: OutputFormat;
  readonly short?: boolean;
}

/** The release of Kubernetes whose API is spoken. */
const KUBERNETES = '1.36';

export function configure(command: Command): void {
  command.option('--short', "this program's number only");
  addOutput(command, ['table', 'json', 'yaml']);
  command.action(async (options: Options) => {
    const version = ownVersion();
    if (options.short === true) return writeLine(version);
    const client = { version, kubernetes: KUBERNETES, node: process.version, kernel: release() };
    const agent = await running(command);
    if (options.output === 'json' || options.output === 'yaml')
      return await writeStructured({ client, ...(agent === undefined ? {} : { agent }) }, options.output);
    return writeLines([
      `nodelet ${version} (Kubernetes ${KUBERNETES}, Node.js ${process.version}, Linux ${client.kernel})`,
      agent === undefined
        ? 'agent: none answers'
        : `agent: ${agent.version}, pid ${agent.pid}, node ${agent.node}, root ${agent.root}, ${formatMemory(agent.memory)} resident`,
    ]);
  });
}

async function running(command: Command): Promise<VersionResponse | undefined> {
  try {
    return await clientOf(command).version();
  } catch (error) {
    // No agent, or not for us: that is for other commands to complain about.
    if (codeOf(error) === undefined) throw error;
    return undefined;
  }
}
