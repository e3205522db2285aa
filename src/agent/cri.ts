/** The runtime behind a CRI socket: alone (`nodelet cri`), or beside an agent's kubelet (`--cri-socket`). */
import type { Log } from '../base/index.ts';
import { type CriServer, serveCri, serveStreams } from '../cri/index.ts';
import { probeHost } from '../runtime/index.ts';
import type { AgentConfig } from './config.ts';
import { closeAll, LocalNode, networkOf } from './local-node.ts';
import { AgentLock } from './lock.ts';
import { checkRoot, checkStorage } from './storage.ts';

/** A node's runtime on its socket. Closing it leaves the runtime. */
export interface CriEndpoint {
  readonly path: string;
  close(): Promise<void>;
}

/** Throws SOCKET_IN_USE, SOCKET_UNUSABLE, INVALID_CONFIGURATION. */
export async function openCriEndpoint(node: LocalNode, path: string, log: Log): Promise<CriEndpoint> {
  const urls = await serveStreams({ runtime: node.runtime, log: log.child({ part: 'streams' }) });
  let server: CriServer;
  try {
    server = await serveCri({ path, runtime: node.runtime, images: node.criImages, urls, log });
  } catch (error) {
    await urls.close();
    throw error;
  }
  return {
    path: server.path,
    close: async () => {
      await server.close();
      await urls.close();
    },
  };
}

export class CriNode {
  readonly node: LocalNode;
  readonly path: string;
  readonly #lock: AgentLock;
  readonly #endpoint: CriEndpoint;
  readonly #log: Log;
  #closing: Promise<void> | undefined;

  private constructor(node: LocalNode, lock: AgentLock, endpoint: CriEndpoint, log: Log) {
    this.node = node;
    this.path = endpoint.path;
    this.#lock = lock;
    this.#endpoint = endpoint;
    this.#log = log;
  }

  /**
   * Takes the state directory, recovers, and serves. Throws ROOT_REQUIRED, ROOT_UNSUITABLE, AGENT_RUNNING, SOCKET_IN_USE and
   * what the rooms throw.
   */
  static async start(config: AgentConfig, log: Log): Promise<CriNode> {
    checkRoot();
    checkStorage(config.root);
    const lock = new AgentLock(config.state);
    let node: LocalNode | undefined;
    try {
      const network = networkOf(config, log.child({ room: 'network' }));
      node = new LocalNode(config, probeHost(), network, log);
      await node.runtime.recover();
      const endpoint = await openCriEndpoint(node, config.criSocket, log.child({ room: 'cri' }));
      return new CriNode(node, lock, endpoint, log);
    } catch (error) {
      await node?.close();
      lock[Symbol.dispose]();
      throw error;
    }
  }

  /** Lets go of everything; pods run on. Twice is safe. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await closeAll(this.#log, [
      ['CRI socket', () => this.#endpoint.close()],
      ['node', () => this.node.close()],
    ]);
    this.#lock[Symbol.dispose]();
  }
}
