import { type Command, Option } from 'commander';
import { NodeletError } from '../../base/index.ts';
import { clientOf } from '../context.ts';
import { peekImages } from '../image/store.ts';
import { findObjects, type ObjectKind } from '../inspect.ts';
import { addExamples, addNamespace, addOutput } from '../options.ts';
import { note, writeStructured } from '../output.ts';

interface Options {
  readonly output: 'json' | 'yaml';
  readonly type?: ObjectKind;
  readonly namespace?: string;
}

export function configure(command: Command): void {
  command
    .argument('<name...>', 'pods, containers or images, by name or id')
    .addOption(new Option('--type <kind>', 'look among these only').choices(['pod', 'container', 'image']));
  addNamespace(command);
  addOutput(command, ['json', 'yaml']);
  command.addHelpText(
    'after',
    `
A pod is printed as the v1.Pod that the API of Kubernetes would show, with "runtime" added: its sandbox and containers.
A container is printed as crictl inspect prints it, an image as it is in the store. Where a name fits several kinds, a
pod goes before a container, a container before an image.`,
  );
  addExamples(command, [
    ['nodelet inspect web', 'a pod'],
    ['nodelet inspect 3f57d9401f8d -o yaml', 'a container or an image by the beginning of its id'],
    ['nodelet inspect web/nginx', "a pod's container"],
  ]);
  command.action(async (names: readonly string[], options: Options) => {
    const client = clientOf(command);
    const images = await peekImages(command);
    const found: unknown[] = [];
    for (const name of names) {
      const objects = await findObjects({ client, images }, name, options);
      const [first] = objects;
      if (first === undefined)
        throw new NodeletError(
          'OBJECT_NOT_FOUND',
          `cannot find ${JSON.stringify(name)}: no ${options.type ?? 'pod, container or image'} has that name or id`,
        );
      const others = objects.slice(1).map(({ kind }) => kind);
      if (others.length > 0)
        note(
          `${JSON.stringify(name)} is a ${first.kind}; it is ${others.map((kind) => `a ${kind}`).join(' and ')} too (--type ${others[0]})`,
        );
      found.push(await first.load());
    }
    await writeStructured(found.length === 1 ? found[0] : found, options.output);
  });
}
