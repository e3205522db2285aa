/**
 * Kernel parameters of a pod. Only those that a namespace of the pod's own holds may be set; everything else would be set
 * for the whole machine (CVE-2022-0532). Pure.
 */
import { NodeletError } from '../base/index.ts';

/** Of the IPC namespace (ipc_namespaces(7)); exact names, because kernel.* has many that are nobody's but the host's. */
const IPC_SYSCTLS = new Set([
  'kernel/msgmax',
  'kernel/msgmnb',
  'kernel/msgmni',
  'kernel/sem',
  'kernel/shmall',
  'kernel/shmmax',
  'kernel/shmmni',
  'kernel/shm_rmid_forced',
]);

export interface SysctlNamespaces {
  /** The pod has a network namespace of its own. */
  readonly network: boolean;
  /** The pod has an IPC namespace of its own. */
  readonly ipc: boolean;
}

/** A network interface may be named almost anything; what leads elsewhere is refused by itself. */
const COMPONENT = /^[A-Za-z0-9_.:@+-]{1,64}$/;

function invalid(name: string, problem: string, hint?: string): NodeletError {
  return new NodeletError(
    'SYSCTL_REFUSED',
    `config.linux.sysctls: cannot set ${JSON.stringify(name.slice(0, 100))}: ${problem}`,
    { details: { sysctl: name.slice(0, 100) }, ...(hint === undefined ? {} : { hint }) },
  );
}

/**
 * A name as a path below /proc/sys. Whichever of "." and "/" comes first separates; the other one stands for itself
 * (sysctl.d(5)): `net/ipv4/conf/eth0.1/forwarding` is `net.ipv4.conf.eth0/1.forwarding`. Throws SYSCTL_REFUSED.
 */
export function sysctlPath(name: string): string {
  const first = /[./]/.exec(name)?.[0];
  const path =
    first === '.' ? name.replaceAll(/[./]/g, (separator) => (separator === '.' ? '/' : '.')) : name;
  const parts = path.split('/');
  if (parts.length < 2 || parts.some((part) => !COMPONENT.test(part) || part === '.' || part === '..'))
    throw invalid(name, 'this is no name of a kernel parameter', 'write it as "net.ipv4.ip_forward"');
  return path;
}

/** The parameters as paths below /proc/sys. Throws SYSCTL_REFUSED for the first that may not be set. */
export function checkSysctls(
  sysctls: Readonly<Record<string, string>>,
  own: SysctlNamespaces,
): Record<string, string> {
  const checked: Record<string, string> = {};
  for (const [name, value] of Object.entries(sysctls)) {
    const path = sysctlPath(name);
    if (value === '' || value.length > 4096 || /[\0\n]/.test(value))
      throw invalid(name, `${JSON.stringify(value.slice(0, 100))} is no value in one line`);
    if (path.startsWith('net/')) {
      if (!own.network)
        throw invalid(
          name,
          'the pod is on the network of the host, whose parameter it is',
          'set it on the host',
        );
    } else if (path.startsWith('fs/mqueue/') || IPC_SYSCTLS.has(path)) {
      if (!own.ipc)
        throw invalid(
          name,
          'the pod uses the IPC namespace of the host, whose parameter it is',
          'set it on the host',
        );
    } else {
      throw invalid(
        name,
        'it belongs to no namespace, so it would be set for the whole machine',
        'set it on the host; a pod may set net.*, fs.mqueue.*, kernel.shm*, kernel.msg* and kernel.sem',
      );
    }
    checked[path] = value;
  }
  return checked;
}
