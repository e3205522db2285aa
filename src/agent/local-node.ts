/** The runtime's half of a node: images, pod network and runtime. `nodelet cri` is this and a socket, an agent more. */
import { describeError, type Log } from '../base/index.ts';
import { type BridgeNetwork, createBridgeNetwork } from '../cni/index.ts';
import {
  CriImageService,
  ImageCollector,
  type ImageService,
  type ImageServiceOptions,
  openImages,
} from '../image/index.ts';
import { type HostFacts, Runtime } from '../runtime/index.ts';
import type { AgentConfig } from './config.ts';

export class LocalNode {
  readonly images: ImageService;
  readonly criImages: CriImageService;
  /** Starts when the runtime has recovered: until then nobody knows which images are in use. */
  readonly collector: ImageCollector;
  readonly network: BridgeNetwork | undefined;
  readonly runtime: Runtime;
  readonly #log: Log;

  /** `network` is made before (it checks what it was told), and is this node's from now on. */
  constructor(config: AgentConfig, host: HostFacts, network: BridgeNetwork | undefined, log: Log) {
    this.#log = log;
    this.network = network;
    this.images = openImages({
      root: config.root,
      log: log.child({ room: 'image' }),
      ...registryOptions(config),
      keepBlobs: config.keepImageBlobs,
    });
    this.collector = new ImageCollector({
      images: this.images,
      policy: config.imageGc,
      log: log.child({ room: 'image' }),
    });
    this.criImages = new CriImageService(this.images);
    this.runtime = new Runtime(
      {
        root: config.root,
        state: config.state,
        cgroupRoot: config.cgroupRoot,
        images: this.images,
        network,
        log: log.child({ room: 'runtime' }),
        spares: config.spareSandboxes,
      },
      host,
    );
  }

  /** Lets go of everything; pods run on. */
  async close(): Promise<void> {
    await closeAll(this.#log, [
      ['image collector', () => this.collector.close()],
      ['runtime', () => this.runtime.close()],
      ['network', () => this.network?.close()],
      ['images', () => this.images.close()],
    ]);
  }
}

/** How the image service speaks to registries. */
function registryOptions(config: AgentConfig): Partial<ImageServiceOptions> {
  return {
    insecureRegistries: config.insecureRegistries,
    ...(config.registryHosts.length === 0 ? {} : { hostDirectories: config.registryHosts }),
    ...(config.registryAuthFile === '' ? {} : { credentialFile: config.registryAuthFile }),
    ...(config.imageDownloads === 0 ? {} : { maxDownloads: config.imageDownloads }),
    ...(config.imageBandwidth === 0 ? {} : { maxBandwidth: config.imageBandwidth }),
  };
}

/** Each step, whatever becomes of the others. */
export async function closeAll(
  log: Log,
  steps: readonly (readonly [string, () => void | Promise<void>])[],
): Promise<void> {
  for (const [name, step] of steps) {
    try {
      await step();
    } catch (error) {
      log.warn({ error: describeError(error) }, `cannot close: ${name}`);
    }
  }
}

/** The pod network that the settings mean; nothing is made yet. */
export function networkOf(config: AgentConfig, log: Log): BridgeNetwork | undefined {
  if (config.network === 'host') return undefined;
  return createBridgeNetwork(
    {
      name: config.bridge,
      bridge: config.bridge,
      dataDir: config.cniDataDir,
      ...(config.defaultSubnets ? {} : { subnets: config.subnets }),
      ...(config.mtu > 0 ? { mtu: config.mtu } : {}),
    },
    log,
  );
}
