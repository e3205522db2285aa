/** Where everything lies. All directories are 0700: setuid programs in layers are nobody's to reach (CVE-2021-41103). */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { replaceFileSync } from '../../base/index.ts';
import { hexOf } from '../digest.ts';
import { MEDIA } from '../media-types.ts';
import { withLock } from './lock.ts';

export class StorePaths {
  readonly images: string;
  readonly index: string;
  readonly blobs: string;
  readonly ingest: string;
  readonly leases: string;
  readonly lock: string;
  readonly snapshots: string;
  readonly layers: string;
  readonly fresh: string;
  readonly active: string;

  constructor(root: string) {
    this.images = join(root, 'images');
    this.index = join(this.images, 'index.json');
    this.blobs = join(this.images, 'blobs', 'sha256');
    this.ingest = join(this.images, 'ingest');
    this.leases = join(this.images, 'leases');
    this.lock = join(this.images, 'lock');
    this.snapshots = join(root, 'snapshots');
    this.layers = join(this.snapshots, 'layers');
    this.fresh = join(this.snapshots, 'new');
    this.active = join(this.snapshots, 'active');
  }

  /** Makes what is missing. An OCI layout is one from its first moment on (image-layout.md). */
  create(): void {
    for (const path of [this.blobs, this.ingest, this.leases, this.layers, this.fresh, this.active]) {
      mkdirSync(path, { recursive: true, mode: 0o700 });
    }
    const marker = join(this.images, 'oci-layout');
    if (!existsSync(marker)) {
      replaceFileSync(marker, '{"imageLayoutVersion":"1.0.0"}\n', { durable: true, mode: 0o644 });
    }
    if (!existsSync(this.index)) {
      const empty = JSON.stringify({ schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests: [] });
      // Under the lock: another process may be writing its first image.
      withLock(this.lock, () => {
        if (!existsSync(this.index))
          replaceFileSync(this.index, `${empty}\n`, { durable: true, mode: 0o644 });
      });
    }
  }

  blob(digest: string): string {
    return join(this.blobs, hexOf(digest));
  }

  /** A blob that is not complete yet; it is kept when a pull breaks. */
  partial(digest: string): string {
    return join(this.ingest, hexOf(digest));
  }

  layer(chainId: string): string {
    return join(this.layers, hexOf(chainId));
  }

  /** The directory that overlayfs stacks. */
  layerFiles(chainId: string): string {
    return join(this.layer(chainId), 'fs');
  }

  snapshot(key: string): string {
    return join(this.active, key);
  }
}
