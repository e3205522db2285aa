/** The door of the image room. */
import { ImageService } from './service.ts';
import type { ImageServiceOptions } from './types.ts';

export type { HistoryLine, ImageDetails, LayerInfo, Removed, StoreUsage } from './catalog.ts';
export { type Collected, ImageCollector } from './collector.ts';
export { CriImageService, userOf } from './cri.ts';
export type { Change } from './diff.ts';
export { chainIds, parseDigest } from './digest.ts';
export { defaultGcPolicy, type GcPolicy } from './gc-policy.ts';
export { defaultMountPoint, imageMounts, makeMountPoint, notMounted, unmountImage } from './mounts.ts';
export { type ImageSummary, type LayerNode, layerTree } from './overview.ts';
export type { Packed, PackOptions } from './pack/index.ts';
export { ImagePeek } from './peek.ts';
export { formatPlatform, machinePlatform, type Platform, parsePlatform } from './platform.ts';
export { familiarName, formatReference, parseReference, type Reference } from './reference.ts';
export { ImageService, type Pushed } from './service.ts';
export type { ExportFormat } from './transfer/export.ts';
export type { Imported, ImportOptions } from './transfer/import.ts';
export * from './types.ts';
export { defaultLimits, type Limits } from './unpack/limits.ts';
export { parseGroup, parsePasswd } from './users.ts';

/** Opens (and makes, where there is none) the image store below `options.root`. */
export function openImages(options: ImageServiceOptions): ImageService {
  return new ImageService(options);
}
export type { Problem, VerifyReport } from './verify.ts';
