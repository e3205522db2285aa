/** Every command: its name, its line in the help, and where its options and code are. */
import type { Command } from 'commander';

export interface CommandSpec {
  readonly name: string;
  readonly aliases?: readonly string[];
  readonly summary: string;
  readonly group: string;
  readonly load: () => Promise<{ configure(command: Command): void }>;
}

const PODS = 'Pods:';
const UNDERSTAND = 'Understanding:';
const MACHINE = 'This machine:';
const OTHER = 'Other:';

export const COMMANDS: readonly CommandSpec[] = [
  {
    name: 'run',
    summary: 'run the pods of manifests and watch them to their end',
    group: PODS,
    load: () => import('./commands/run.ts'),
  },
  {
    name: 'pods',
    summary: 'list pods',
    group: PODS,
    load: () => import('./commands/pods.ts'),
  },
  {
    name: 'logs',
    summary: "print a container's log",
    group: PODS,
    load: () => import('./commands/logs.ts'),
  },
  {
    name: 'exec',
    summary: 'run a program in a running container',
    group: PODS,
    load: () => import('./commands/exec.ts'),
  },
  {
    name: 'attach',
    summary: "join a running container's own input and output",
    group: PODS,
    load: () => import('./commands/attach.ts'),
  },
  {
    name: 'port-forward',
    summary: 'forward local ports to a pod',
    group: PODS,
    load: () => import('./commands/port-forward.ts'),
  },
  {
    name: 'stop',
    summary: 'end the containers of pods; what there is to look at stays',
    group: PODS,
    load: () => import('./commands/stop.ts'),
  },
  {
    name: 'rm',
    summary: 'end pods and remove everything of them',
    group: PODS,
    load: () => import('./commands/rm.ts'),
  },
  {
    name: 'ps',
    summary: 'list containers',
    group: UNDERSTAND,
    load: () => import('./commands/ps.ts'),
  },
  {
    name: 'stats',
    summary: 'show what containers use: CPU, memory, disk, processes',
    group: UNDERSTAND,
    load: () => import('./commands/stats.ts'),
  },
  {
    name: 'events',
    summary: 'show what has happened to pods',
    group: UNDERSTAND,
    load: () => import('./commands/events.ts'),
  },
  {
    name: 'inspect',
    summary: 'print everything that is known of a pod, container or image',
    group: UNDERSTAND,
    load: () => import('./commands/inspect.ts'),
  },
  {
    name: 'explain',
    summary: 'show what a running pod is made of, from the kernel',
    group: UNDERSTAND,
    load: () => import('./commands/explain.ts'),
  },
  {
    name: 'plan',
    summary: 'show every step that run would take; nothing is done',
    group: UNDERSTAND,
    load: () => import('./commands/plan.ts'),
  },
  {
    name: 'trace',
    summary: "show a pod's start as a time line",
    group: UNDERSTAND,
    load: () => import('./commands/trace.ts'),
  },
  {
    name: 'agent',
    summary: 'be the node: look after pods until told to end',
    group: MACHINE,
    load: () => import('./commands/agent.ts'),
  },
  {
    name: 'cri',
    summary: 'serve the container runtime to a kubelet or crictl, without a kubelet of its own',
    group: MACHINE,
    load: () => import('./commands/cri.ts'),
  },
  {
    name: 'image',
    aliases: ['images'],
    summary: 'pull, list, pack, import, export and remove images',
    group: MACHINE,
    load: () => import('./commands/image.ts'),
  },
  {
    name: 'oci',
    summary: "run containers from OCI bundles, by runc's command line",
    group: MACHINE,
    load: () => import('./commands/oci.ts'),
  },
  {
    name: 'doctor',
    summary: 'say what this machine has and lacks, and how to mend it',
    group: MACHINE,
    load: () => import('./commands/doctor.ts'),
  },
  {
    name: 'version',
    summary: 'print the versions of this program and of the agent',
    group: OTHER,
    load: () => import('./commands/version.ts'),
  },
  {
    name: 'completion',
    summary: 'print a completion script for bash',
    group: OTHER,
    load: () => import('./commands/completion.ts'),
  },
];
