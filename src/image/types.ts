/**
 * The image room's contract.
 *
 * Vocabulary (image-spec): a *blob* is named by the digest of its bytes; a *diffID* is the digest of a layer's
 * uncompressed tar; a *chainID* names a layer on top of all below it, `C1 = D1`, `Cn = sha256("C(n-1) Dn")`. A
 * *layer directory* holds one layer's files as overlayfs wants them (whiteouts are 0:0 devices, opaque directories
 * carry trusted.overlay.opaque) and is shared by every image with that chain. A *snapshot* is the writable upper
 * directory of one container, named by a key that the caller picks.
 *
 * Life cycle: pull or import → blobs in the store → layers unpacked → the reference written last, so that an image
 * that can be resolved can be run. prepare(key) → upper and work directories → the runtime mounts → remove(key).
 */
import type { Log } from '../base/index.ts';
import type { Limits } from './unpack/limits.ts';

/** OCI image config (application/vnd.oci.image.config.v1+json), the part that a runtime obeys. */
export interface ImageConfig {
  readonly architecture: string;
  readonly os: string;
  readonly variant?: string;
  readonly created?: string;
  readonly author?: string;
  readonly config?: {
    readonly User?: string;
    readonly ExposedPorts?: Readonly<Record<string, object>>;
    readonly Env?: readonly string[];
    readonly Entrypoint?: readonly string[] | null;
    readonly Cmd?: readonly string[] | null;
    readonly Volumes?: Readonly<Record<string, object>>;
    readonly WorkingDir?: string;
    readonly Labels?: Readonly<Record<string, string>>;
    readonly StopSignal?: string;
  };
  readonly rootfs: { readonly type: 'layers'; readonly diff_ids: readonly string[] };
  readonly history?: readonly {
    readonly created?: string;
    readonly created_by?: string;
    readonly comment?: string;
    readonly empty_layer?: boolean;
  }[];
}

/** An image that is in the store and unpacked. */
export interface ImageRecord {
  /** Digest of the config blob, `sha256:…`: the image ID, as docker and containerd show it. */
  readonly id: string;
  readonly manifestDigest: string;
  /** Fully qualified `host/path:tag`. */
  readonly repoTags: readonly string[];
  /** Fully qualified `host/path@sha256:…`. */
  readonly repoDigests: readonly string[];
  readonly config: ImageConfig;
  /** Bottom first. */
  readonly chainIds: readonly string[];
  /** Bytes of manifest, config and compressed layers. */
  readonly size: number;
  readonly pinned: boolean;
}

export interface Snapshot {
  /** Layer directories, the topmost first: overlayfs' lowerdir order. */
  readonly lower: readonly string[];
  readonly upper: string;
  readonly work: string;
}

export interface PasswdEntry {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
}

export interface GroupEntry {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

/** /etc/passwd and /etc/group of an image, read inside its root; empty lists where a file is absent. */
export interface ImageUsers {
  readonly passwd: readonly PasswdEntry[];
  readonly group: readonly GroupEntry[];
}

export interface PullAuth {
  readonly username?: string;
  readonly password?: string;
  readonly identityToken?: string;
  readonly registryToken?: string;
}

export type PullEvent =
  | { readonly kind: 'resolving'; readonly reference: string }
  | {
      readonly kind: 'manifest';
      readonly digest: string;
      readonly platform: string;
      readonly layers: readonly { readonly digest: string; readonly size: number }[];
    }
  | {
      readonly kind: 'layer';
      readonly digest: string;
      readonly phase: 'waiting' | 'downloading' | 'unpacking' | 'done' | 'exists';
      readonly current: number;
      readonly total: number;
    }
  | { readonly kind: 'done'; readonly id: string; readonly reference: string };

/** An event of a pull with the reference (in full) that is pulled. */
export interface PullProgress {
  readonly reference: string;
  readonly event: PullEvent;
}

export interface PullOptions {
  /** In place of what the credential file (and the helpers that it names) has for the registry. */
  readonly auth?: PullAuth;
  /** Without credentials, whatever the credential file has. */
  readonly anonymous?: boolean;
  /** False: the registry's certificate is not checked, and plain HTTP is taken where there is no TLS. */
  readonly tlsVerify?: boolean;
  /** Docker's directory of a registry's certificates: `*.crt` authorities, `NAME.cert` and `NAME.key` our own. */
  readonly certDirectory?: string;
  /** `os/arch[/variant]`, default this machine's. */
  readonly platform?: string;
  readonly onEvent?: (event: PullEvent) => void;
  readonly signal?: AbortSignal;
}

export interface ImageServiceOptions {
  /** `<root>`: images/ and snapshots/ live below it. */
  readonly root: string;
  readonly log: Log;
  /** Registries (`host[:port]`) to speak plain HTTP with; loopback addresses always may. */
  readonly insecureRegistries?: readonly string[];
  /** For proxies; default the process's. */
  readonly env?: NodeJS.ProcessEnv;
  /** docker's config.json or podman's auth.json; default $REGISTRY_AUTH_FILE, else docker's. */
  readonly credentialFile?: string;
  /** Directories with `HOST/hosts.toml` as containerd has them; default those of nodelet, containerd and docker in /etc. */
  readonly hostDirectories?: readonly string[];
  /** Blobs that are downloaded at a time, of all pulls together; default 6. */
  readonly maxDownloads?: number;
  /** The same of one pull; default 4. */
  readonly maxDownloadsPerPull?: number;
  /** How large blobs are cut up; default 8 MiB over 4 connections. */
  readonly chunks?: { readonly size?: number; readonly connections?: number };
  /** Bytes a second, of all downloads together; default no limit. */
  readonly maxBandwidth?: number;
  /** False: compressed layers of pulled images go when they are unpacked; such images cannot be exported or pushed. */
  readonly keepBlobs?: boolean;
  /** Threads that unpack; default one for each CPU, 2 to 4. */
  readonly workers?: number;
  /** Milliseconds without progress after which a transfer is broken off and continued; default 60,000. */
  readonly idleTimeout?: number;
  /** Bounds on what an image may cost, where they differ from the defaults (unpack/limits.ts). */
  readonly limits?: Partial<Limits>;
  /** The bundled worker; default dist/image-worker.js. */
  readonly workerFile?: string;
}

/** What the runtime needs of images. Pull, import, pack and the rest of the commands are on the class itself. */
export interface ImageSource {
  /** By ID (also a unique prefix of at least 4 digits), by reference (normalised first) or by digest reference. */
  resolve(reference: string): ImageRecord | undefined;
  /** Makes (or finds again) the writable directories for `key`. Throws IMAGE_NOT_FOUND. */
  prepare(key: string, image: ImageRecord): Snapshot;
  /** Removes the writable directories of `key`; nothing happens where there are none. */
  removeSnapshot(key: string): Promise<void>;
  /** Keys of all writable snapshots on disk, for garbage collection. */
  snapshotKeys(): string[];
  /** Bytes and inodes that the container wrote. */
  snapshotUsage(key: string): Promise<{ readonly bytes: number; readonly inodes: number }>;
  /** Users and groups of the image; each file at most 10 MiB; symbolic links stay inside the image. */
  users(image: ImageRecord): ImageUsers;
  /**
   * Copies the directory `path` of the image (with owners, modes, xattrs) into the existing directory `target`: the
   * first content of an image's VOLUME. Nothing is copied where the image has no such directory.
   */
  copyOut(image: ImageRecord, path: string, target: string): Promise<void>;
}
