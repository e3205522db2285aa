/** CRI's ImageService on top of ours: kubelet and crictl speak it. */
import { hasCode, NodeletError } from '../base/index.ts';
import type * as cri from '../cri/index.ts';
import { quote } from './digest.ts';
import { decodeBasic } from './registry/index.ts';
import type { ImageService } from './service.ts';
import type { ImageRecord, PullAuth } from './types.ts';

export class CriImageService implements cri.ImageService {
  readonly #images: ImageService;

  constructor(images: ImageService) {
    this.#images = images;
  }

  async listImages(request: cri.ListImagesRequest): Promise<cri.ListImagesResponse> {
    const wanted = request.filter?.image?.image;
    if (wanted === undefined || wanted === '') {
      return await Promise.resolve({ images: this.#images.list().map(toImage) });
    }
    const found = this.#images.resolve(wanted);
    return { images: found === undefined ? [] : [toImage(found)] };
  }

  async *streamImages(request: cri.StreamImagesRequest): AsyncIterable<cri.StreamImagesResponse> {
    const { images } = await this.listImages(request);
    for (const image of images ?? []) yield { images: [image] };
  }

  /** An absent image is an answer without an image, not an error. */
  async imageStatus(request: cri.ImageStatusRequest): Promise<cri.ImageStatusResponse> {
    const record = this.#images.resolve(nameOf(request.image));
    if (record === undefined) return await Promise.resolve({});
    const answer = { image: toImage(record) };
    if (request.verbose !== true) return answer;
    const { layers, stored } = this.#images.inspect(record.id);
    const info = { chainID: record.chainIds.at(-1), imageSpec: record.config, layers, stored };
    return { ...answer, info: { info: JSON.stringify(info) } };
  }

  async pullImage(request: cri.PullImageRequest, signal?: AbortSignal): Promise<cri.PullImageResponse> {
    const auth = readAuth(request.auth);
    try {
      const record = await this.#images.pull(nameOf(request.image), {
        ...(auth === undefined ? {} : { auth }),
        ...(signal === undefined ? {} : { signal }),
      });
      return { imageRef: record.id };
    } catch (error) {
      throw told(error);
    }
  }

  /** Removes the image with all its names, whatever it was named by. Absent is as good as removed. */
  async removeImage(request: cri.RemoveImageRequest): Promise<cri.RemoveImageResponse> {
    const record = this.#images.resolve(nameOf(request.image));
    if (record !== undefined) await this.#images.remove(record.id, { force: true });
    return {};
  }

  async imageFsInfo(): Promise<cri.ImageFsInfoResponse> {
    const { blobs, layers } = this.#images.usage();
    let bytes = 0;
    let inodes = 0;
    for (const key of this.#images.snapshotKeys()) {
      const used = await this.#images.snapshotUsage(key);
      bytes += used.bytes;
      inodes += used.inodes;
    }
    const usage = (usedBytes: number, inodesUsed: number): cri.FilesystemUsage => ({
      timestamp: Date.now() * 1e6,
      fsId: { mountpoint: this.#images.path },
      usedBytes: { value: usedBytes },
      inodesUsed: { value: inodesUsed },
    });
    return {
      imageFilesystems: [usage(blobs.bytes + layers.bytes, blobs.count + layers.inodes)],
      containerFilesystems: [usage(bytes, inodes)],
    };
  }
}

/**
 * A registry that cannot be reached, or that fails by itself, is told to the kubelet by the beginning of the message
 * (cri-api's errors.go): there is no other place for it in gRPC.
 */
function told(error: unknown): unknown {
  if (!(error instanceof NodeletError)) return error;
  const { status } = error.details;
  const failing = error.code === 'REGISTRY_ERROR' && typeof status === 'number' && status >= 500;
  if (!failing && !hasCode(error, 'REGISTRY_UNREACHABLE', 'REGISTRY_TIMEOUT')) return error;
  return new NodeletError(error.code, `RegistryUnavailable: ${error.message}`, {
    cause: error.cause,
    details: error.details,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
  });
}

function nameOf(spec: cri.ImageSpec | undefined): string {
  const name = spec?.image ?? '';
  if (name === '') throw new NodeletError('INVALID_REFERENCE', 'cannot find an image without a name');
  return name;
}

function toImage(record: ImageRecord): cri.Image {
  return {
    id: record.id,
    repoTags: [...record.repoTags],
    repoDigests: [...record.repoDigests],
    size: record.size,
    pinned: record.pinned,
    spec: { image: record.id, annotations: {} },
    ...userOf(record.config.config?.User ?? ''),
  };
}

/** A numeric USER is a uid, anything else a name; the group is not part of CRI's image. Empty means root. */
export function userOf(user: string): Pick<cri.Image, 'uid' | 'username'> {
  const [name = ''] = user.split(':', 1);
  if (name === '') return { uid: { value: 0 } };
  // Numbers out of range are names that nobody has: the container does not start (CVE-2024-40635).
  if (/^\d{1,10}$/.test(name) && Number(name) <= 0x7fff_ffff) return { uid: { value: Number(name) } };
  return { username: name };
}

function readAuth(auth: cri.AuthConfig | undefined): PullAuth | undefined {
  if (auth === undefined) return undefined;
  if (auth.identityToken) return { identityToken: auth.identityToken };
  if (auth.registryToken) return { registryToken: auth.registryToken };
  if (auth.username) return { username: auth.username, password: auth.password ?? '' };
  if (!auth.auth) return undefined;
  const server = quote(auth.serverAddress ?? '');
  return decodeBasic(
    auth.auth,
    (reason) =>
      new NodeletError('CREDENTIALS_INVALID', `cannot use the credentials for ${server}: it ${reason}`),
  );
}
