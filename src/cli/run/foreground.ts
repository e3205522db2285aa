/** `nodelet run` without --detach: signals, streams and the agent around a session. */
import { type AgentConfig, RUN_BY } from '../../agent/index.ts';
import type { Manifests } from '../../kube/index.ts';
import { EXIT, signalExit } from '../exit-codes.ts';
import { note } from '../output.ts';
import { Screen } from '../terminal/screen.ts';
import { styleFor } from '../terminal/style.ts';
import { type Connection, embedAgent, ownMark, runningAgent } from './connect.ts';
import { OutputMux } from './mux.ts';
import { Session } from './session.ts';

export interface ForegroundOptions {
  readonly quiet: boolean;
  readonly keepTrying: boolean;
  readonly remove: boolean;
  readonly timeout: number | undefined;
  readonly debug: boolean;
  /** Settings were given that only matter to an agent of our own. */
  readonly hasSettings: boolean;
}

/** The exit status. */
export async function runForeground(
  config: AgentConfig,
  manifests: Manifests,
  options: ForegroundOptions,
): Promise<number> {
  const interrupts = new Interrupts();
  try {
    const { client, embedded } = await connect(config, options);
    const remove = options.remove || embedded !== undefined;
    if (remove) for (const pod of manifests.pods) mark(pod.metadata);
    const style = styleFor(process.stderr);
    const screen = new Screen(process.stderr, process.stderr.isTTY && process.env.TERM !== 'dumb');
    const containers = manifests.pods.flatMap(({ spec }) => [
      ...(spec.initContainers ?? []),
      ...spec.containers,
    ]);
    const mux = new OutputMux(screen, process, {
      prefixed: containers.length > 1,
      style: styleFor(process.stdout),
    });
    const { quiet, keepTrying, timeout } = options;
    const session = new Session({
      client,
      manifests,
      screen,
      style,
      mux,
      quiet,
      keepTrying,
      timeout,
      remove,
    });
    interrupts.to(session, screen);
    try {
      const code = await session.run();
      await mux.end();
      return code;
    } finally {
      await embedded?.close({ dismantle: true });
    }
  } finally {
    interrupts.close();
  }
}

function mark(metadata: { annotations?: Record<string, string> }): void {
  metadata.annotations = { ...metadata.annotations, [RUN_BY]: ownMark() };
}

async function connect(config: AgentConfig, options: ForegroundOptions): Promise<Connection> {
  const client = await runningAgent(config);
  if (client === undefined) return await embedAgent(config, options.debug);
  if (options.hasSettings) note('An agent runs already: its own settings count, not those given here.');
  return { client, embedded: undefined };
}

/** Ctrl-C and its like, from the first moment on; also a reader of our output that has gone. */
class Interrupts {
  readonly #pending: number[] = [];
  #session: Session | undefined;
  #screen: Screen | undefined;
  readonly #onSignal = (signal: NodeJS.Signals): void => this.#interrupt(signalExit(signal));
  readonly #onError = (error: NodeJS.ErrnoException): void => {
    // Whatever is still to be written has nowhere to go: later errors are the same one again.
    if (error.code !== 'EPIPE') throw error;
    if (this.#session?.interrupted === true) this.#session.unread();
    else this.#interrupt(EXIT.brokenPipe);
  };
  static readonly #signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

  constructor() {
    for (const signal of Interrupts.#signals) process.on(signal, this.#onSignal);
    for (const stream of [process.stdout, process.stderr]) {
      stream.removeAllListeners('error');
      stream.on('error', this.#onError);
    }
  }

  /** What came before there was a session is passed on now. */
  to(session: Session, screen: Screen): void {
    this.#session = session;
    this.#screen = screen;
    for (const code of this.#pending.splice(0)) this.#interrupt(code);
  }

  #interrupt(code: number): void {
    const session = this.#session;
    if (session === undefined) {
      this.#pending.push(code);
      // Nothing has been started yet that would have to be ended in good order, but the agent itself may hang.
      if (this.#pending.length > 2) process.exit(code);
      return;
    }
    const again = session.interrupted;
    if (code === EXIT.interrupted)
      this.#screen?.line(again ? 'Killing.' : 'Stopping; press Ctrl-C again to kill at once.');
    session.interrupt(code);
  }

  close(): void {
    for (const signal of Interrupts.#signals) process.off(signal, this.#onSignal);
  }
}
