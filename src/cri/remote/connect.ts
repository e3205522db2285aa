/** Connects the kubelet's side to a runtime, and where it is another one, to an image service. */
import type { Log } from '../../base/index.ts';
import type { ImageService } from '../api.gen.ts';
import { openCriClient } from '../grpc/client.ts';
import type { LocalRuntime } from '../services.ts';
import { type RuntimeFacts, remoteRuntime, untilReady } from './runtime.ts';

export interface RemoteEndpoints {
  /** Paths of unix sockets. */
  readonly runtime: string;
  readonly images: string;
}

export interface RemoteNode extends RuntimeFacts {
  readonly runtime: LocalRuntime;
  readonly images: ImageService;
  /** Twice is safe. */
  close(): void;
}

/** Waits until both answer. Throws RUNTIME_UNREACHABLE, RUNTIME_UNSUITABLE. */
export async function connectRuntime(endpoints: RemoteEndpoints, log: Log): Promise<RemoteNode> {
  const runtime = openCriClient(endpoints.runtime);
  const images = endpoints.images === endpoints.runtime ? runtime : openCriClient(endpoints.images);
  const close = (): void => {
    runtime.close();
    if (images !== runtime) images.close();
  };
  try {
    const facts = await untilReady(runtime);
    // Whatever it has: that it answers is what counts.
    await images.images.listImages({ filter: { image: { image: 'nodelet.invalid/none:1' } } });
    return { ...facts, runtime: remoteRuntime(runtime, log), images: images.images, close };
  } catch (error) {
    close();
    throw error;
  }
}
