/** The spans of a pod's start, those of launch plans with what each operation was about. */
import type { Span } from '../base/index.ts';
import type { Pod } from '../kube/index.ts';
import type { Runtime } from '../runtime/index.ts';
import type { Agent } from './agent.ts';
import type { TraceResponse } from './api/types.ts';

type KnownPod = Pod & {
  readonly metadata: { readonly uid: string; readonly name: string; readonly namespace: string };
};

export function tracePod(agent: Agent, pod: KnownPod): TraceResponse {
  const { uid, namespace, name } = pod.metadata;
  const runtime = agent.local?.runtime;
  const spans: Span[] = [...agent.kubelet.spans(uid)];
  for (const { id } of agent.kubelet.observed(uid)?.sandboxes ?? []) {
    const sandbox = runtime?.context.model.findSandbox(id);
    // Of another runtime only the kubelet's own steps are known.
    if (runtime === undefined || sandbox === undefined) continue;
    spans.push(...sandbox.record.spans);
    for (const container of sandbox.containers.values())
      spans.push(...withWords(runtime, container.id, container.record.spans));
  }
  return { pod: `${namespace}/${name}`, uid, spans: spans.sort((a, b) => a.start - b.start) };
}

/** The shim reports its operations in the order of the plan, each once. */
function withWords(runtime: Runtime, id: string, spans: readonly Span[]): readonly Span[] {
  let operations: ReturnType<Runtime['describeLaunch']>;
  try {
    operations = runtime.describeLaunch(id);
  } catch {
    return spans; // its image or snapshot is gone; the names of the operations have to do
  }
  let next = 0;
  return spans.map((span) => {
    if (span.category !== 'shim') return span;
    // One that was cut off before its end has no span.
    const found = operations.findIndex((operation, i) => i >= next && operation.op === span.name);
    if (found < 0) return span;
    next = found + 1;
    return { ...span, detail: operations[found]?.text ?? '' };
  });
}
