/** System calls, namespaces and what may be had of them, each tried. */
import { readFileSync } from 'node:fs';
import { AT_EMPTY_PATH, FSCONFIG, MOUNT_ATTR, O, RESOLVE } from '../../linux/constants.ts';
import { Fd } from '../../linux/fd.ts';
import { native } from '../../linux/native.ts';
import { kernelVersion } from '../../linux/procfs.ts';
import { check } from '../../linux/syscall-error.ts';
import { type KernelFacts, type Outcome, TRIED_NAMESPACES, type TriedNamespace } from './facts.ts';
import { tryUnshare, works } from './tools.ts';

const FLAGS: Readonly<Record<TriedNamespace, string>> = {
  mnt: '--mount',
  pid: '--pid',
  net: '--net',
  ipc: '--ipc',
  uts: '--uts',
  cgroup: '--cgroup',
  user: '--user',
};

/** The text of a file; undefined where it cannot be read. */
export function readIf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
}

export function readNumberIf(path: string): number | undefined {
  const text = readIf(path);
  return text === undefined || !/^\d+$/.test(text) ? undefined : Number(text);
}

export async function probeKernel(): Promise<KernelFacts> {
  const namespaces: Partial<Record<TriedNamespace, Outcome>> = {};
  const limits: Partial<Record<TriedNamespace, number>> = {};
  await Promise.all(
    TRIED_NAMESPACES.map(async (kind) => {
      namespaces[kind] = await tryUnshare(FLAGS[kind], ...(kind === 'pid' ? ['--fork'] : []));
      const limit = readNumberIf(`/proc/sys/user/max_${kind}_namespaces`);
      if (limit !== undefined) limits[kind] = limit;
    }),
  );
  const [proc, userProc] = await Promise.all([
    tryUnshare('--mount', '--pid', '--fork', '--mount-proc'),
    tryUnshare('--user', '--map-root-user', '--mount', '--pid', '--fork', '--mount-proc'),
  ]);
  return {
    release: kernelVersion().release,
    calls: await tryCalls(),
    namespaces: namespaces as Record<TriedNamespace, Outcome>,
    limits,
    proc,
    userProc,
    seccompActions: readIf('/proc/sys/kernel/seccomp/actions_avail')?.split(/\s+/),
  };
}

async function tryCalls(): Promise<Record<string, Outcome>> {
  return {
    'openat2 (Linux 5.6)': await works(() => {
      const flags = O.PATH | O.CLOEXEC;
      const resolve = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS;
      using _ = new Fd(check(native().openat2(-100, '/', flags, 0, resolve), 'openat2', '/'));
    }),
    'pidfd_open (5.3)': await works(() => {
      using _ = new Fd(check(native().pidfdOpen(process.pid), 'pidfd_open'));
    }),
    'fsopen, fsmount and mount_setattr (5.12)': await works(mountByDescriptor),
  };
}

function mountByDescriptor(): void {
  const n = native();
  using context = new Fd(check(n.fsopen('tmpfs'), 'fsopen', 'tmpfs'));
  check(n.fsconfig(context.number, FSCONFIG.CREATE, null, null, 0), 'fsconfig');
  using tree = new Fd(check(n.fsmount(context.number, 0), 'fsmount'));
  check(n.mountSetattr(tree.number, '', AT_EMPTY_PATH, MOUNT_ATTR.RDONLY, 0, 0, -1), 'mount_setattr');
}
