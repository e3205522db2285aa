/** What the end of pods means for the exit status of `nodelet run`. Pure. */
import type { ContainerStatus, Pod } from '../../kube/index.ts';
import { EXIT } from '../exit-codes.ts';

export function hasEnded(pod: Pod): boolean {
  return pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';
}

/** Init containers first, then the others in the order of the manifest. */
function statusesInOrder(pod: Pod): ContainerStatus[] {
  const pick = (names: readonly string[], statuses: readonly ContainerStatus[]): ContainerStatus[] =>
    names.flatMap((name) => statuses.find((status) => status.name === name) ?? []);
  const names = (list: readonly { readonly name: string }[] | undefined): string[] =>
    (list ?? []).map((one) => one.name);
  return [
    ...pick(names(pod.spec?.initContainers), pod.status?.initContainerStatuses ?? []),
    ...pick(names(pod.spec?.containers), pod.status?.containerStatuses ?? []),
  ];
}

export interface FailedContainer {
  readonly name: string;
  readonly exitCode: number;
  readonly reason: string;
  readonly message: string;
}

/** The first container of a pod that ended with another code than 0. */
export function firstFailure(pod: Pod): FailedContainer | undefined {
  for (const { name, state, lastState } of statusesInOrder(pod)) {
    const end = state?.terminated ?? lastState?.terminated;
    if (end !== undefined && end.exitCode !== 0)
      return { name, exitCode: end.exitCode, reason: end.reason ?? '', message: end.message ?? '' };
  }
  return undefined;
}

/** 0 where every pod succeeded, else of the first that did not: its first failed container's code, or 125. */
export function exitStatus(pods: readonly Pod[]): number {
  const failed = pods.find((pod) => pod.status?.phase !== 'Succeeded');
  if (failed === undefined) return EXIT.ok;
  return firstFailure(failed)?.exitCode ?? EXIT.failure;
}

/** One line about a pod that did not succeed; undefined for one that did. */
export function describeEnd(pod: Pod): string | undefined {
  const { status, metadata } = pod;
  if (status?.phase === 'Succeeded') return undefined;
  const name = JSON.stringify(metadata?.name ?? '');
  if (status?.phase !== 'Failed') return `pod ${name} was removed before it ended`;
  const container = firstFailure(pod);
  const because = [status.reason, status.message]
    .filter((part) => part !== undefined && part !== '')
    .join(': ');
  if (container === undefined) return `pod ${name} failed${because === '' ? '' : `: ${because}`}`;
  const { exitCode, reason, message } = container;
  const why = reason === '' || reason === 'Error' ? '' : ` (${reason})`;
  // A start that failed says why; what a program leaves as its last words is shown by its log already.
  const words = reason === 'StartError' && message !== '' ? `: ${message}` : '';
  const own = because === '' ? '' : `; ${because}`;
  return `pod ${name} failed: container "${container.name}" exited with ${exitCode}${why}${words}${own}`;
}
