/**
 * The image store for those who only look: `nodelet plan`, `nodelet image ls`. Nothing is made, swept or locked, and a
 * store that does not exist is an empty one.
 */
import { silentLog } from '../base/index.ts';
import { workerFile } from '../linux/package-root.ts';
import { Catalog, type HistoryLine, type ImageDetails } from './catalog.ts';
import { type Change, diffLayers } from './diff.ts';
import { LayerStore } from './layers.ts';
import type { ImageSummary } from './overview.ts';
import { familiarName } from './reference.ts';
import { SnapshotStore } from './snapshots.ts';
import { BlobStore } from './store/blobs.ts';
import { IndexFile } from './store/index-file.ts';
import { StorePaths } from './store/paths.ts';
import { Records } from './store/records.ts';
import type { ImageRecord, ImageUsers } from './types.ts';
import { defaultLimits } from './unpack/limits.ts';
import { WorkerPool } from './unpack/pool.ts';
import { readUsers } from './users.ts';

export class ImagePeek {
  readonly #catalog: Catalog;
  readonly #layers: LayerStore;
  readonly #snapshots: SnapshotStore;

  /** `root`: as ImageServiceOptions'. */
  constructor(root: string) {
    const paths = new StorePaths(root);
    // Starts no thread before it is given work, and nobody here does.
    const pool = new WorkerPool({ file: () => workerFile('image-worker.js'), size: 1, log: silentLog });
    const index = new IndexFile(paths);
    this.#layers = new LayerStore(paths, pool, defaultLimits);
    const hasLayer = (chainId: string): boolean => this.#layers.has(chainId);
    const records = new Records(index, new BlobStore(paths), hasLayer);
    const snapshots = new SnapshotStore(paths, pool, hasLayer);
    this.#snapshots = snapshots;
    this.#catalog = new Catalog({ paths, index, records, layers: this.#layers, snapshots, pool });
  }

  list(): readonly ImageRecord[] {
    return this.#catalog.list();
  }

  /** See ImageSource. Throws AMBIGUOUS_IMAGE where a short ID fits several. */
  resolve(text: string): ImageRecord | undefined {
    return this.#catalog.resolve(text);
  }

  /** Throws IMAGE_NOT_FOUND. */
  inspect(text: string): ImageDetails {
    return this.#catalog.inspect(text);
  }

  /** The newest step first. Throws IMAGE_NOT_FOUND. */
  history(text: string): readonly HistoryLine[] {
    return this.#catalog.history(text);
  }

  summaries(): readonly ImageSummary[] {
    return this.#catalog.summaries();
  }

  /** What a container changed; see ImageService.diff. */
  diff(container: string): readonly Change[] {
    const { snapshot } = this.#snapshots.find(container);
    return diffLayers(snapshot.upper, snapshot.lower);
  }

  /** Layer directories, the topmost first. */
  directories(image: ImageRecord): readonly string[] {
    return this.#layers.directories(image.chainIds);
  }

  users(image: ImageRecord): ImageUsers {
    const [name = image.id] = [...image.repoTags, ...image.repoDigests];
    return readUsers(this.#layers.directories(image.chainIds), JSON.stringify(familiarName(name)));
  }
}
