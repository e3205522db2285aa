import type { Command } from 'commander';
import type { AgentClient } from '../../agent/index.ts';
import { NodeletError } from '../../base/index.ts';
import { clientOf } from '../context.ts';
import { parseDuration } from '../format/duration.ts';
import { addExamples, addNamespace, wholeNumber } from '../options.ts';
import { note } from '../output.ts';
import { containerNames, findPod, type KnownPod } from '../pods.ts';
import { LineSplitter } from '../run/lines.ts';
import { writeTo } from '../terminal/write.ts';

interface Options {
  readonly follow?: boolean;
  readonly previous?: boolean;
  readonly container?: string;
  readonly allContainers?: boolean;
  readonly prefix?: boolean;
  readonly tail?: string;
  readonly since?: string;
  readonly sinceTime?: string;
  readonly timestamps?: boolean;
  readonly limitBytes?: number;
  readonly namespace?: string;
}

export function configure(command: Command): void {
  command
    .argument('<pod>')
    .argument('[container]', 'as -c')
    .option('-f, --follow', 'go on until the container has ended')
    .option('-p, --previous', 'of the instance before the last restart')
    .option('-c, --container <name>', 'which container; the first one by default')
    .option('--all-containers', 'of every container of the pod')
    .option('--prefix', 'begin each line with [pod/NAME/CONTAINER]')
    .option('--tail <lines>', 'the last lines only; -1 for all')
    .option('--since <duration>', 'not older than this: 30s, 5m, 2h')
    .option('--since-time <time>', 'from this time on (RFC 3339)')
    .option('--timestamps', 'begin each line with its time')
    .option('--limit-bytes <n>', 'stop after so many bytes', wholeNumber);
  addNamespace(command);
  addExamples(command, [
    ['nodelet logs web', "the log of the pod's first container"],
    ['nodelet logs -f --tail 10 web -c nginx', 'the last ten lines, and what comes'],
    ['nodelet logs -p web', 'what the container said before it was restarted'],
  ]);
  command.action(async (name: string, container: string | undefined, options: Options) => {
    const client = clientOf(command);
    const pod = await findPod(client, name, options.namespace);
    const containers = chooseContainers(pod, { ...options, container: options.container ?? container });
    const query = queryOf(options);
    const mixed = options.prefix === true || (options.follow === true && containers.length > 1);
    const print = async (one: string): Promise<void> => {
      const prefix = options.prefix === true ? `[pod/${pod.metadata.name}/${one}] ` : '';
      await printLog(client, pod, one, query, mixed ? prefix : undefined);
    };
    if (options.follow === true) await Promise.all(containers.map(print));
    else for (const one of containers) await print(one);
  });
}

/** Throws CONTAINER_NOT_FOUND, and INVALID_ARGUMENT where the options contradict each other. */
function chooseContainers(pod: KnownPod, options: Options): string[] {
  const names = containerNames(pod);
  if (options.allContainers === true) {
    if (options.container === undefined) return names;
    throw new NodeletError('INVALID_ARGUMENT', 'cannot use --all-containers together with a container');
  }
  return [chooseContainer(pod, options.container)];
}

/** The named container; else the annotated or first one, and says so where there are several. */
export function chooseContainer(pod: KnownPod, wanted: string | undefined): string {
  const names = containerNames(pod);
  if (wanted !== undefined) {
    if (names.includes(wanted)) return wanted;
    throw new NodeletError(
      'CONTAINER_NOT_FOUND',
      `cannot find container ${JSON.stringify(wanted)} in pod "${pod.metadata.name}"`,
      { hint: `there are ${names.join(', ')}` },
    );
  }
  const annotated = pod.metadata.annotations?.['kubectl.kubernetes.io/default-container'];
  if (annotated !== undefined && names.includes(annotated)) return annotated;
  const [first = ''] = (pod.spec?.containers ?? []).map((one) => one.name);
  if (names.length > 1) note(`Defaulted container "${first}" out of: ${names.join(', ')}`);
  return first;
}

type LogQuery = Readonly<Record<string, string | number | boolean | undefined>>;

/** Throws INVALID_ARGUMENT. */
function queryOf(options: Options): LogQuery {
  const { since, sinceTime, tail } = options;
  if (since !== undefined && sinceTime !== undefined)
    throw new NodeletError('INVALID_ARGUMENT', 'cannot use --since together with --since-time');
  if (tail !== undefined && !/^(-1|\d+)$/.test(tail))
    throw new NodeletError('INVALID_ARGUMENT', `cannot use ${JSON.stringify(tail)} for --tail`, {
      hint: 'give a whole number of lines, or -1 for all',
    });
  return {
    follow: options.follow === true ? true : undefined,
    previous: options.previous === true ? true : undefined,
    timestamps: options.timestamps === true ? true : undefined,
    tailLines: tail === undefined || tail === '-1' ? undefined : tail,
    sinceSeconds:
      since === undefined
        ? undefined
        : Math.max(1, Math.ceil(parseDuration(since, 'value of --since') / 1000)),
    sinceTime,
    limitBytes: options.limitBytes,
  };
}

/** As it comes, or line by line with a prefix where lines of several containers are mixed. */
async function printLog(
  client: AgentClient,
  pod: KnownPod,
  container: string,
  query: LogQuery,
  prefix: string | undefined,
): Promise<void> {
  const { namespace, name } = pod.metadata;
  const splitter = new LineSplitter();
  for await (const chunk of client.logs(namespace, name, container, query)) {
    if (prefix === undefined) await writeTo(process.stdout, chunk);
    else
      for (const line of splitter.push(chunk))
        await writeTo(process.stdout, Buffer.concat([Buffer.from(prefix), line]));
  }
  const rest = splitter.end();
  if (prefix !== undefined && rest.length > 0)
    await writeTo(process.stdout, Buffer.concat([Buffer.from(prefix), rest]));
}
