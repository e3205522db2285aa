/** What `stop` and `rm` share: several pods at once, each said when it is done, and every failure told. */
import type { AgentClient } from '../agent/index.ts';
import { hasCode, NodeletError } from '../base/index.ts';
import { Exit, reportError } from './errors.ts';
import { EXIT } from './exit-codes.ts';
import { note, writeLine } from './output.ts';
import { allPods, choosePod, type KnownPod, podName } from './pods.ts';

export interface EndOptions {
  readonly all?: boolean;
  readonly namespace?: string;
  /** A pod that is not there is no failure. */
  readonly ignoreNotFound?: boolean;
}

/** Throws INVALID_ARGUMENT; ends the command with 125 where one of the pods could not be ended. */
export async function endPods(
  client: AgentClient,
  names: readonly string[],
  options: EndOptions,
  done: string,
  end: (client: AgentClient, pod: KnownPod['metadata']) => Promise<void>,
): Promise<void> {
  if (options.all === true && names.length > 0)
    throw new NodeletError('INVALID_ARGUMENT', 'cannot use --all together with names of pods');
  if (options.all !== true && names.length === 0)
    throw new NodeletError('INVALID_ARGUMENT', 'no pod is named', {
      hint: 'name pods, or use --all for every pod',
    });
  const pods = await allPods(client);
  const chosen =
    options.all === true ? new Set(pods.filter(inNamespace(options))) : choose(pods, names, options);
  if (chosen.size === 0 && options.all === true) note('No pods found.');
  const results = await Promise.allSettled(
    [...chosen].map(async (pod) => {
      await end(client, pod.metadata);
      writeLine(`${podName(pod)} ${done}`);
    }),
  );
  const failures = results.filter((result) => result.status === 'rejected');
  for (const { reason } of failures) reportError(reason, false);
  if (failures.length > 0) throw new Exit(EXIT.failure);
}

function inNamespace({ namespace }: EndOptions): (pod: KnownPod) => boolean {
  return (pod) => namespace === undefined || pod.metadata.namespace === namespace;
}

/** Nothing is ended where one of the names means nothing. */
function choose(pods: readonly KnownPod[], names: readonly string[], options: EndOptions): Set<KnownPod> {
  const chosen = new Set<KnownPod>();
  for (const name of names) {
    try {
      chosen.add(choosePod(pods, name, options.namespace));
    } catch (error) {
      if (options.ignoreNotFound !== true || !hasCode(error, 'POD_NOT_FOUND')) throw error;
    }
  }
  return chosen;
}
