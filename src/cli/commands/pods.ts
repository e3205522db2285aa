import type { Command } from 'commander';
import { clientOf } from '../context.ts';
import { ageOf } from '../format/duration.ts';
import type { Column } from '../format/table.ts';
import { addExamples, addNamespace, addOutput } from '../options.ts';
import { listOf, type OutputFormat, printList } from '../output.ts';
import { allPods, choosePod, type KnownPod, podName } from '../pods.ts';
import { restartsText, statusMood, summarizePod } from '../render/pod-status.ts';
import { styleFor } from '../terminal/style.ts';

interface Options {
  readonly output: OutputFormat;
  readonly namespace?: string;
  readonly allNamespaces?: boolean;
}

export function configure(command: Command): void {
  command
    .argument('[pod...]', 'these only; all of them where none is named')
    .option('-A, --all-namespaces', 'show the column NAMESPACE in any case');
  addNamespace(command);
  addOutput(command, ['table', 'wide', 'json', 'yaml', 'name']);
  command.addHelpText(
    'after',
    '\nPods of every namespace are listed. The column NAMESPACE appears where one is outside "default".',
  );
  addExamples(command, [
    ['nodelet pods', 'all pods, as kubectl get pods shows them'],
    ['nodelet pods -o wide', 'with address and node'],
    ['nodelet rm $(nodelet pods -o name)', 'remove every pod'],
  ]);
  command.action(async (names: readonly string[], options: Options) => {
    const everything = await allPods(clientOf(command));
    const inNamespace = everything.filter(
      (pod) => options.namespace === undefined || pod.metadata.namespace === options.namespace,
    );
    const pods =
      names.length === 0 ? inNamespace : names.map((name) => choosePod(everything, name, options.namespace));
    const foreign = pods.some((pod) => pod.metadata.namespace !== (options.namespace ?? 'default'));
    await printList({
      format: options.output,
      rows: pods,
      columns: columns(options.allNamespaces === true || foreign, Date.now()),
      structured: () => (names.length === 1 && pods.length === 1 ? pods[0] : listOf(pods)),
      name: podName,
      none: 'No pods found.',
    });
  });
}

function columns(namespaces: boolean, now: number): Column<KnownPod>[] {
  const style = styleFor(process.stdout);
  const mood = { good: style.green, waiting: style.yellow, bad: style.red };
  return [
    ...(namespaces ? [{ head: 'NAMESPACE', cell: (pod: KnownPod) => pod.metadata.namespace }] : []),
    { head: 'NAME', cell: (pod) => pod.metadata.name },
    {
      head: 'READY',
      cell: (pod) => {
        const { ready, total } = summarizePod(pod);
        return `${ready}/${total}`;
      },
    },
    {
      head: 'STATUS',
      cell: (pod) => summarizePod(pod).status,
      paint: (text) => mood[statusMood(text)](text),
    },
    { head: 'RESTARTS', cell: (pod) => restartsText(summarizePod(pod), now) },
    { head: 'AGE', cell: (pod) => ageOf(pod.metadata.creationTimestamp, now) },
    { head: 'IP', wide: true, cell: (pod) => pod.status?.podIPs?.map(({ ip }) => ip).join(',') || '<none>' },
    { head: 'NODE', wide: true, cell: (pod) => pod.spec?.nodeName ?? '<none>' },
    { head: 'QOS', wide: true, cell: (pod) => pod.status?.qosClass ?? '' },
  ];
}
