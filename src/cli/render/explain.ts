/** What a pod is made of, as a page to learn from. Pure. */
import type {
  ExplainedContainer,
  ExplainedLimit,
  ExplainedMount,
  PodExplanation,
} from '../../agent/index.ts';
import { NodeletError } from '../../base/index.ts';
import { CAPABILITIES } from '../../linux/capabilities.ts';
import { formatMemory } from '../format/size.ts';
import { type Column, renderTable } from '../format/table.ts';
import { count, printable, shellWords, wrap } from '../format/text.ts';
import type { Style } from '../terminal/style.ts';

export interface ExplainOptions {
  readonly container: string | undefined;
  readonly style: Style;
}

/** What each kind of namespace keeps apart (namespaces(7)). */
const KINDS: Readonly<Record<string, string>> = {
  user: 'user and group ids, and what capabilities count for',
  pid: 'process numbers: the first process is 1',
  mnt: 'mounts: what "/" is',
  net: 'links, addresses, routes, ports, firewall rules',
  ipc: 'System V IPC, POSIX message queues, /dev/shm',
  uts: 'host name and domain name',
  cgroup: 'which cgroup is seen as the root',
  time: 'the monotonic and boot clocks',
};

const indent = (lines: readonly string[]): string[] => lines.map((line) => (line === '' ? '' : `  ${line}`));

/** Throws CONTAINER_NOT_FOUND. */
export function explanationLines(pod: PodExplanation, options: ExplainOptions): string[] {
  const containers = chosen(pod, options.container);
  const page = new Page(options.style);
  return [
    ...page.head(pod),
    ...page.section('Namespaces: what the processes see', page.namespaces(pod, containers)),
    ...page.section('Control groups: what they may use', page.limits(pod, containers)),
    ...containers.flatMap((one) => page.container(one, pod)),
    ...page.section('Network: how they are connected', page.network(pod)),
  ];
}

function chosen(pod: PodExplanation, name: string | undefined): readonly ExplainedContainer[] {
  if (name === undefined) return pod.containers;
  const found = pod.containers.filter((one) => one.name === name);
  if (found.length > 0) return found;
  throw new NodeletError(
    'CONTAINER_NOT_FOUND',
    `container ${JSON.stringify(name)} of pod "${pod.pod}" does not run`,
    {
      hint: `these do: ${pod.containers.map((one) => one.name).join(', ') || 'none'}`,
    },
  );
}

class Page {
  readonly #style: Style;

  constructor(style: Style) {
    this.#style = style;
  }

  section(title: string, lines: readonly string[]): string[] {
    return ['', this.#style.bold(title), ...indent(lines)];
  }

  #table<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string[] {
    return renderTable(columns, rows, { gap: 2, paintHead: this.#style.dim });
  }

  head(pod: PodExplanation): string[] {
    const { style } = { style: this.#style };
    const processes = [
      `shim ${pod.shimPid} (parent of the containers, outside their cgroups)`,
      ...(pod.pausePid > 0
        ? [`pause ${pod.pausePid} (PID 1 of the PID namespace that the containers share)`]
        : []),
      ...pod.containers.map((one) => `${one.name} ${one.pid}`),
    ];
    return [
      `${style.bold(`Pod ${printable(pod.pod)}`)}  ${pod.phase}, ${pod.qosClass}`,
      `  uid        ${pod.uid}`,
      `  sandbox    ${pod.sandboxId || 'none'}`,
      `  processes  ${processes.join(', ')}`,
    ];
  }

  /** One row a kind, one column a container; where two are in the same namespace they show the same number. */
  namespaces(pod: PodExplanation, containers: readonly ExplainedContainer[]): string[] {
    const inode = (one: ExplainedContainer, kind: string): string => {
      const found = one.namespaces.find((each) => each.kind === kind);
      if (found === undefined) return '';
      return found.sharedWith.includes('host') ? "the host's" : String(found.inode);
    };
    const columns: Column<PodExplanation['host']['namespaces'][number]>[] = [
      { head: 'KIND', cell: ({ kind }) => kind },
      { head: 'HOST', cell: (row) => String(row.inode) },
      ...containers.map((one) => ({
        head: one.name.toUpperCase(),
        cell: ({ kind }: { readonly kind: string }) => inode(one, kind),
        paint: (text: string) => (text === "the host's" ? this.#style.yellow(text) : this.#style.green(text)),
      })),
      { head: 'KEEPS APART', cell: ({ kind }) => KINDS[kind] ?? '' },
    ];
    const shared = sharedKinds(pod);
    return [
      ...this.#table(columns, pod.host.namespaces),
      ...(shared.length === 0 ? [] : ['', `Shared by the containers of the pod: ${shared.join(', ')}.`]),
      'The numbers are inodes: ls -l /proc/PID/ns shows them.',
    ];
  }

  limits(pod: PodExplanation, containers: readonly ExplainedContainer[]): string[] {
    return [
      `the pod: ${pod.cgroup}`,
      ...indent(this.#limitTable(pod.podLimits)),
      ...containers.flatMap((one) => [
        '',
        `${one.name}: ${one.cgroup.startsWith(pod.cgroup) ? `…${one.cgroup.slice(pod.cgroup.length)}` : one.cgroup}`,
        ...indent(this.#limitTable(one.limits)),
      ]),
    ];
  }

  #limitTable(limits: readonly ExplainedLimit[]): string[] {
    return this.#table(
      [
        { head: 'WHAT', cell: ({ what }) => what },
        { head: 'LIMIT', cell: ({ what, limit }) => amount(what, limit) },
        { head: 'USED', cell: ({ what, used }) => amount(what, used) },
        { head: 'FILE', cell: ({ file }) => shortFile(file) },
      ],
      limits,
    );
  }

  container(one: ExplainedContainer, pod: PodExplanation): string[] {
    return [
      ...this.section(`Container ${one.name}: what it may do`, this.#privileges(one, pod)),
      ...this.section(`Container ${one.name}: what it finds`, this.#files(one)),
    ];
  }

  #privileges(one: ExplainedContainer, pod: PodExplanation): string[] {
    const { capabilities: caps } = one;
    const has = new Set(caps.effective);
    const missing = CAPABILITIES.filter((name) => !has.has(name));
    const sets = (['permitted', 'inheritable', 'bounding', 'ambient'] as const).map(
      (name) => `${name} ${caps[name].length}`,
    );
    const seccomp = ['off: every system call is let through', 'strict'][one.seccompMode];
    return [
      ...fact('runs', printable(shellWords(one.command))),
      ...fact('process', `${one.pid} on the host, ${one.innerPid} inside`),
      ...fact('user', `uid ${one.uid}, gid ${one.gid}, groups ${one.groups.join(' ') || 'none'}`),
      ...idMapFacts(one),
      ...fact(
        'capabilities',
        `${caps.effective.length} of ${CAPABILITIES.length} (the host can give ${pod.host.capabilities}): ${short(caps.effective)}`,
      ),
      ...fact('  without', short(missing)),
      ...fact('  other sets', sets.join(', ')),
      ...fact('seccomp', seccomp ?? `on: ${count(one.seccompFilters, 'filter')} (mode 2)`),
      ...fact(
        'no_new_privs',
        one.noNewPrivileges
          ? 'on: a setuid program gives nothing'
          : "off: a setuid program gives its owner's rights",
      ),
      ...fact('oom_score_adj', `${one.oomScoreAdj} (1000 is killed first when memory runs out, -1000 never)`),
    ];
  }

  #files(one: ExplainedContainer): string[] {
    const columns: Column<ExplainedMount>[] = [
      { head: 'ON', cell: ({ path }) => path },
      { head: 'TYPE', cell: ({ type }) => type },
      { head: 'OPTIONS', cell: ({ options }) => options.join(',') },
      { head: 'PROPAGATION', cell: ({ propagation }) => propagation },
      { head: 'FROM', cell: sourceOf },
    ];
    const hidden = new Set(one.maskedPaths);
    const readOnly = new Set(one.readonlyPaths);
    const mounts = one.mounts.filter(({ path }) => !hidden.has(path) && !readOnly.has(path));
    return [
      'mounts',
      ...indent(this.#table(columns, mounts)),
      '',
      ...fact('hidden', one.maskedPaths.join(' ') || 'nothing'),
      ...fact('read-only', one.readonlyPaths.join(' ') || 'nothing besides'),
      ...fact('devices', one.devices.join(' ') || 'none'),
    ];
  }

  network(pod: PodExplanation): string[] {
    const { network } = pod;
    if (network.hostNetwork) return ["the host's: every link and port of the host is the pod's too"];
    return [
      ...this.#table(
        [
          { head: 'LINK', cell: ({ name }) => name },
          { head: 'STATE', cell: ({ up }) => (up ? 'up' : 'down') },
          { head: 'ADDRESSES', cell: ({ addresses }) => addresses.join(' ') },
          { head: 'MAC', cell: ({ mac }) => mac },
          { head: 'MTU', cell: ({ mtu }) => String(mtu) },
        ],
        network.links,
      ),
      ...(network.hostLink === ''
        ? []
        : [
            '',
            `eth0 is one end of a pair; the other, ${network.hostLink}, is a port of the bridge ${network.bridge} on the host`,
          ]),
      '',
      'routes',
      ...indent(network.routes),
    ];
  }
}

const NAME = 15;
const WIDTH = 110;

/** `name  text`, longer texts in several lines. */
function fact(name: string, text: string): string[] {
  return wrap(`${name.padEnd(NAME - 1)} ${text}`, WIDTH, ' '.repeat(NAME));
}

function short(names: readonly string[]): string {
  return names.map((name) => name.replace(/^CAP_/, '')).join(' ') || 'none';
}

function idMapFacts(one: ExplainedContainer): string[] {
  if (one.uidMap.length === 0) return fact('  ids', "as on the host: uid 0 is the host's root");
  return one.uidMap.flatMap(({ inside, outside, count: size }) =>
    fact('  ids', `${inside}-${inside + size - 1} inside are ${outside}-${outside + size - 1} on the host`),
  );
}

/** Kinds of namespace that several containers of the pod are in, and the host is not. */
function sharedKinds(pod: PodExplanation): string[] {
  const [first] = pod.containers;
  return (first?.namespaces ?? [])
    .filter(({ sharedWith }) => sharedWith.length > 0 && !sharedWith.includes('host'))
    .map(({ kind }) => kind);
}

/** Bytes as people write them; anything else as it stands. */
function amount(what: string, text: string): string {
  return /^(memory|swap)$/.test(what) && /^\d+$/.test(text)
    ? `${formatMemory(Number(text))} (${text})`
    : text;
}

/** The hierarchy and the file; the path between them stands above the table. */
function shortFile(file: string): string {
  const hierarchy = /^\/sys\/fs\/cgroup\/(?:(\w[\w,]*)\/)?/.exec(file)?.[1];
  const name = file.slice(file.lastIndexOf('/') + 1);
  const known = ['unified', 'memory', 'cpu', 'cpuset', 'pids', 'hugetlb', 'blkio'];
  return hierarchy !== undefined && known.includes(hierarchy) ? `${hierarchy}/…/${name}` : name;
}

function sourceOf({ type, source, root }: ExplainedMount): string {
  if (type === 'overlay' || root === '/') return source;
  return `${source}[${root}]`;
}
