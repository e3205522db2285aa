/** Runs an agent, or the runtime alone, in this process until a signal, or the agent's last pod, ends it. */
import { type AgentConfig, startAgent, startCri } from '../../agent/index.ts';
import { deferred, type Log } from '../../base/index.ts';
import { EXIT } from '../exit-codes.ts';
import { ownVersion } from '../version.ts';
import { Readiness } from './ready.ts';
import { endOnDefects, endOnSignals } from './signals.ts';

/** The exit status. Throws what the start throws. */
export async function serve(config: AgentConfig, log: Log): Promise<number> {
  const readiness = new Readiness();
  const ending = deferred<{ readonly because: string; readonly dismantle: boolean }>();
  const signals = endOnSignals((because) => ending.resolve({ because, dismantle: false }));
  endOnDefects(log);
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

/** The same for `nodelet cri`. */
export async function serveRuntime(config: AgentConfig, log: Log): Promise<number> {
  const readiness = new Readiness();
  const ending = deferred<string>();
  const signals = endOnSignals((because) => ending.resolve(because));
  endOnDefects(log);
  try {
    const running = await startCri(config, log);
    log.info(
      { version: ownVersion(), socket: running.path, root: config.root, state: config.state },
      'the runtime is ready',
    );
    readiness.ready();
    const because = await ending.promise;
    log.info({ because }, 'the runtime ends; its pods run on');
    await running.close();
    return EXIT.ok;
  } catch (error) {
    readiness.failed(error);
    throw error;
  } finally {
    signals();
  }
}
