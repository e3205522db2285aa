/** Runs an agent in this process until a signal, or its last pod, ends it. */
import { type AgentConfig, startAgent } from '../../agent/index.ts';
import { deferred, describeError, type Log } from '../../base/index.ts';
import { EXIT, signalExit } from '../exit-codes.ts';
import { ownVersion } from '../version.ts';
import { Readiness } from './ready.ts';

/** The exit status. Throws what the start throws. */
export async function serve(config: AgentConfig, log: Log): Promise<number> {
  const readiness = new Readiness();
  const ending = deferred<{ readonly because: string; readonly dismantle: boolean }>();
  const signals = endOnSignals((why) => ending.resolve(why));
  process.on('uncaughtException', (error) => {
    // Nothing is known about the state any more; the pods run on, and the next agent takes them up.
    log.error({ error: describeError(error), stack: error.stack }, 'unexpected error');
    process.exit(EXIT.failure);
  });
  try {
    const running = await startAgent(config, log);
    const { agent } = running;
    agent.empty.on(() => {
      if (config.exitWhenEmpty) ending.resolve({ because: 'the last pod is gone', dismantle: true });
    });
    log.info(
      {
        version: ownVersion(),
        node: agent.node.name,
        pods: agent.kubelet.list().length,
        root: config.root,
        state: config.state,
      },
      'the agent is ready',
    );
    readiness.ready();
    const { because, dismantle } = await ending.promise;
    log.info({ because, pods: agent.kubelet.list().length }, 'the agent ends; its pods run on');
    await running.close({ dismantle });
    return EXIT.ok;
  } catch (error) {
    readiness.failed(error);
    throw error;
  } finally {
    signals();
  }
}

/** The first signal ends it in good order, the second at once. Returns what takes the handlers away. */
function endOnSignals(
  end: (why: { readonly because: string; readonly dismantle: boolean }) => void,
): () => void {
  let asked = false;
  const listener = (signal: NodeJS.Signals): void => {
    if (asked) process.exit(signalExit(signal));
    asked = true;
    end({ because: signal, dismantle: false });
  };
  const names = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;
  for (const name of names) process.on(name, listener);
  return () => {
    for (const name of names) process.off(name, listener);
  };
}
