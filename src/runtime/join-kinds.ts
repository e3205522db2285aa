/** Which namespaces a program that joins a container has to enter. */
import { NodeletError } from '../base/index.ts';
import { CLONE } from '../linux/constants.ts';
import { differingNamespaces, readNamespaces } from '../linux/namespaces.ts';

const KIND_BITS = {
  mnt: CLONE.NEWNS,
  pid: CLONE.NEWPID,
  net: CLONE.NEWNET,
  ipc: CLONE.NEWIPC,
  uts: CLONE.NEWUTS,
  user: CLONE.NEWUSER,
  cgroup: CLONE.NEWCGROUP,
} as const;

/**
 * CLONE_NEW* bits of the namespaces in which a process differs from us, and so from its shim: joining one's own user
 * namespace is an error.
 */
export function differingKinds(pid: number): number {
  const ours = readNamespaces('self') ?? {};
  const theirs = readNamespaces(pid);
  if (theirs === undefined) throw new NodeletError('INVALID_STATE', 'the container has just ended');
  let kinds = 0;
  for (const kind of differingNamespaces(ours, theirs))
    if (kind in KIND_BITS) kinds |= KIND_BITS[kind as keyof typeof KIND_BITS];
  return kinds;
}
