/** What running a pod would do, as a page to learn from. Pure. */
import type {
  PlannedPod,
  PlannedPodContainer,
  PlannedPodImage,
  PlannedPodMount,
  PlannedPodVolume,
} from '../../agent/index.ts';
import { NodeletError } from '../../base/index.ts';
import { formatSize } from '../format/size.ts';
import { type Column, renderTable } from '../format/table.ts';
import { count, printable } from '../format/text.ts';
import type { Style } from '../terminal/style.ts';
import { type OperationRow, operationParts, shortener } from './plan-operations.ts';

type CgroupStep = PlannedPod['cgroup']['steps'][number];

export interface PlanOptions {
  /** The operations of this container only. */
  readonly container: string | undefined;
  /** Every operation in a line of its own, names in full. */
  readonly all: boolean;
  readonly style: Style;
}

const indent = (lines: readonly string[]): string[] => lines.map((line) => (line === '' ? '' : `  ${line}`));

/** Throws CONTAINER_NOT_FOUND where no pod has the container that was asked for. */
export function planLines(pods: readonly PlannedPod[], options: PlanOptions): string[] {
  const { container } = options;
  if (container !== undefined) checkContainer(pods, container);
  const page = new Page(options);
  return [
    ...pods.flatMap((pod, i) => [...(i === 0 ? [] : ['', '']), ...page.pod(pod)]),
    '',
    options.style.dim('Nothing of this was done.'),
  ];
}

function checkContainer(pods: readonly PlannedPod[], name: string): void {
  const names = pods.flatMap((pod) => pod.containers.map((one) => one.name));
  if (names.includes(name)) return;
  throw new NodeletError('CONTAINER_NOT_FOUND', `cannot plan container ${JSON.stringify(name)}`, {
    hint: `there ${names.length === 1 ? 'is' : 'are'} ${names.join(', ')}`,
  });
}

class Page {
  readonly #style: Style;
  readonly #container: string | undefined;
  readonly #all: boolean;
  #step = 0;
  #short: (text: string) => string = (text) => text;

  constructor({ style, container, all }: PlanOptions) {
    this.#style = style;
    this.#container = container;
    this.#all = all;
  }

  pod(pod: PlannedPod): string[] {
    this.#step = 0;
    if (!this.#all) this.#short = shortener(pod.cgroup.path);
    const title = `Pod ${printable(pod.namespace)}/${printable(pod.name)}`;
    const many = pod.containers.length;
    return [
      `${this.#style.bold(title)}  ${pod.qos}, ${count(many, 'container')}`,
      ...this.#rejection(pod),
      ...this.#section('Images', 'found in the store, or pulled into it', this.#images(pod.images)),
      ...this.#section('Directories and volumes', "of the pod, on the host's disk", this.#files(pod)),
      ...this.#section(
        'Control group of the pod',
        'what all its containers together may use',
        this.#cgroup(pod),
      ),
      ...this.#sandbox(pod),
      ...this.#network(pod),
      ...this.#containers(pod),
    ];
  }

  #rejection({ rejection }: PlannedPod): string[] {
    if (rejection === undefined) return [];
    const text = `this node would refuse it: ${rejection.reason}: ${printable(rejection.message)}`;
    return ['', this.#style.red(text)];
  }

  #section(title: string, what: string, lines: readonly string[]): string[] {
    this.#step += 1;
    const head = this.#style.bold(`${this.#step}. ${title}`);
    return ['', what === '' ? head : `${head} ${this.#style.dim(`(${what})`)}`, ...indent(lines)];
  }

  #table<Row>(columns: readonly Column<Row>[], rows: readonly Row[], heads = true): string[] {
    return renderTable(columns, rows, { gap: 2, heads, paintHead: this.#style.dim });
  }

  #images(images: readonly PlannedPodImage[]): string[] {
    const actions = {
      use: 'use',
      pull: 'pull',
      ask: 'use, unless the registry has another',
      missing: 'FAIL',
    };
    const lines = this.#table<PlannedPodImage>(
      [
        { head: 'CONTAINER', cell: ({ container }) => container },
        { head: 'IMAGE', cell: ({ reference }) => reference },
        { head: 'POLICY', cell: ({ pullPolicy }) => pullPolicy },
        {
          head: 'ACTION',
          cell: ({ action }) => actions[action],
          paint: (text, { action }) =>
            action === 'missing'
              ? this.#style.red(text)
              : action === 'pull'
                ? this.#style.yellow(text)
                : text,
        },
        { head: 'ID', cell: ({ id }) => id?.replace('sha256:', '').slice(0, 12) ?? '-' },
        { head: 'SIZE', cell: ({ size }) => (size === undefined ? '-' : formatSize(size)) },
        { head: 'LAYERS', cell: ({ layers }) => String(layers?.length ?? '-') },
      ],
      images,
    );
    const missing = images.filter(({ action }) => action === 'missing');
    for (const { container, reference } of missing)
      lines.push(
        `${container} cannot start: "${printable(reference)}" is not here, and imagePullPolicy Never forbids to pull it`,
      );
    return lines;
  }

  #files({ directories, volumes }: PlannedPod): string[] {
    const table = this.#table<PlannedPodVolume>(
      [
        { head: 'VOLUME', cell: ({ name }) => name },
        { head: 'KIND', cell: ({ kind, inMemory }) => (inMemory ? `${kind}, in memory` : kind) },
        { head: 'PATH', cell: ({ path }) => path },
      ],
      volumes,
    );
    return [
      ...directories.map((path) => `mkdir -p ${path}`),
      ...(volumes.length === 0 ? [] : ['', ...table]),
    ];
  }

  #cgroup({ cgroup }: PlannedPod): string[] {
    if (this.#all) return [cgroup.path, ...indent(cgroup.steps.map(stepLine))];
    const own = (path: string): boolean => path.endsWith(cgroup.path);
    const made = cgroup.steps.filter(({ op, path }) => op === 'mkdir' && own(path));
    const roots = made.map(({ path }) => path.slice(0, -cgroup.path.length));
    const values = cgroup.steps.filter(
      ({ op, path }) => op === 'write' && own(path.slice(0, path.lastIndexOf('/'))),
    );
    const others = cgroup.steps.length - made.length - values.length;
    return [
      ...roots.map((root) => `mkdir ${root}${cgroup.path}`),
      ...values.map((step) => this.#short(stepLine(step))),
      ...(others === 0
        ? []
        : [
            this.#style.dim(`and ${count(others, 'step')} for the control groups above it; --all shows them`),
          ]),
    ];
  }

  #sandbox({ sandbox }: PlannedPod): string[] {
    const lines = sandbox.plans.flatMap((plan, i) => [
      ...(i === 0 ? [] : ['']),
      ...(sandbox.plans.length > 1 ? [this.#style.dim(this.#short(plan.name))] : []),
      ...this.#operations([
        { title: '', rows: plan.operations.map((one) => ({ ...one, from: one.index, to: one.index })) },
      ]),
    ]);
    return this.#section('Sandbox', 'namespaces that the containers share, made before any of them', lines);
  }

  /** One table for all parts, so that their columns stand below each other. */
  #operations(
    parts: readonly { readonly title: string; readonly rows: readonly OperationRow[] }[],
  ): string[] {
    const lines = this.#table<OperationRow>(
      [
        { head: '#', cell: ({ from, to }) => (from === to ? String(from) : `${from}-${to}`), right: true },
        {
          head: 'WHO',
          cell: ({ where }) => where,
          paint: (text, { where }) => (where === 'shim' ? this.#style.blue(text) : this.#style.green(text)),
        },
        { head: 'OPERATION', cell: ({ op }) => op },
        { head: 'WHAT IT DOES', cell: ({ text }) => this.#short(text) },
      ],
      parts.flatMap(({ rows }) => rows),
    );
    const [head = '', ...rest] = lines;
    const result = [head];
    for (const { title, rows } of parts) {
      if (title !== '') result.push('', this.#style.bold(title));
      result.push(...rest.splice(0, rows.length));
    }
    return result;
  }

  #network({ network }: PlannedPod): string[] {
    if (network.kind === 'host') {
      const text = `none of its own: the pod uses the host's links, addresses (${network.addresses.join(', ') || 'none'}) and ports`;
      return this.#section('Network', '', [text]);
    }
    const lines =
      network.problem === undefined
        ? [
            `addresses  ${network.addresses.join(', ')} ${this.#style.dim('(the next free ones; another pod may take them first)')}`,
            '',
          ]
        : [this.#style.red(`the pod could not be connected: ${printable(network.problem)}`)];
    const steps = this.#table(
      [
        {
          head: 'WHERE',
          cell: ({ where }) => where,
          paint: (text, { where }) => (where === 'host' ? this.#style.blue(text) : this.#style.green(text)),
        },
        { head: 'STEP', cell: ({ action }) => this.#short(action) },
      ],
      network.steps,
    );
    return this.#section('Network', 'by netlink and nftables, written as ip, sysctl and nft would say it', [
      ...lines,
      ...(network.steps.length === 0 ? [] : steps),
    ]);
  }

  #containers({ containers, cgroup }: PlannedPod): string[] {
    const known = new Set(cgroup.steps.map(operationText));
    return containers
      .filter(({ name }) => this.#container === undefined || name === this.#container)
      .flatMap((one) => this.#one(one, known));
  }

  #one(container: PlannedPodContainer, known: ReadonlySet<string>): string[] {
    const { name, role, image, operations } = container;
    const what = { init: 'runs to its end first', sidecar: 'starts first and stays', main: '' }[role];
    const mounts = this.#table<PlannedPodMount>(
      [
        { head: 'MOUNT', cell: ({ containerPath }) => containerPath },
        { head: 'MODE', cell: ({ readOnly }) => (readOnly ? 'ro' : 'rw') },
        { head: 'FROM', cell: ({ hostPath }) => hostPath },
      ],
      container.mounts,
    );
    const list =
      operations === undefined
        ? [`"${printable(image)}" is not here: what starts the container can be told once it is pulled`]
        : this.#operations(
            operationParts(operations, {
              all: this.#all,
              known,
              knownAs: 'the control groups above its own, as in 3 (what is there stays as it is)',
              shorten: this.#short,
            }),
          );
    const gap = container.mounts.length === 0 ? [] : [''];
    return this.#section(`Container ${printable(name)}`, what, [...mounts, ...gap, ...list]);
  }
}

/** As the launch plan's operation of the same effect is described. */
function operationText(step: CgroupStep): string {
  return step.op === 'mkdir' ? `mkdir ${step.path}` : `echo ${step.value} > ${step.path}`;
}

function stepLine(step: CgroupStep): string {
  const why = step.why === undefined ? '' : `   # ${step.why}`;
  const optional = step.op === 'write' && step.optional === true ? ' (where the file exists)' : '';
  return `${printable(operationText(step))}${optional}${why}`;
}
