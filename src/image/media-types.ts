/** Media types of images (image-spec media-types.md, docker's image manifest v2 schema 2). Data. */

export const MEDIA = {
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  ociLayer: 'application/vnd.oci.image.layer.v1.tar',
  ociLayerGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  ociLayerZstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
  dockerList: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerLayer: 'application/vnd.docker.image.rootfs.diff.tar',
  dockerLayerGzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  dockerSchema1: 'application/vnd.docker.distribution.manifest.v1+json',
  dockerSchema1Signed: 'application/vnd.docker.distribution.manifest.v1+prettyjws',
} as const;

export const indexTypes: ReadonlySet<string> = new Set([MEDIA.ociIndex, MEDIA.dockerList]);
export const manifestTypes: ReadonlySet<string> = new Set([MEDIA.ociManifest, MEDIA.dockerManifest]);
export const schema1Types: ReadonlySet<string> = new Set([MEDIA.dockerSchema1, MEDIA.dockerSchema1Signed]);
export const configTypes: ReadonlySet<string> = new Set([MEDIA.ociConfig, MEDIA.dockerConfig]);

/** Layers that are tar streams. How one is compressed is read from its first bytes, not from the type. */
export const layerTypes: ReadonlySet<string> = new Set([
  MEDIA.ociLayer,
  MEDIA.ociLayerGzip,
  MEDIA.ociLayerZstd,
  MEDIA.dockerLayer,
  MEDIA.dockerLayerGzip,
  'application/vnd.docker.image.rootfs.diff.tar.zstd',
  // Layers that their maker did not want copied; a registry that serves them serves plain layers.
  'application/vnd.oci.image.layer.nondistributable.v1.tar',
  'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
  'application/vnd.oci.image.layer.nondistributable.v1.tar+zstd',
  'application/vnd.docker.image.rootfs.foreign.diff.tar',
  'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
]);

/** What a manifest request accepts: all that is understood, and schema 1 last so that it can be refused by name. */
export const manifestAccept = [
  MEDIA.ociIndex,
  MEDIA.ociManifest,
  MEDIA.dockerList,
  MEDIA.dockerManifest,
  `${MEDIA.dockerSchema1Signed};q=0.1`,
].join(', ');
