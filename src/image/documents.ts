/**
 * Reads manifests, indexes and image configs that somebody else wrote: a document that is not exactly one of them,
 * or that could be read in two ways, is refused with the reason. Pure.
 */
import { NodeletError } from '../base/index.ts';
import { isContentDigest, parseContentDigest, quote } from './digest.ts';
import { configTypes, indexTypes, layerTypes, MEDIA, manifestTypes, schema1Types } from './media-types.ts';
import type { Platform } from './platform.ts';
import type { ImageConfig } from './types.ts';

/** Most bytes of a manifest or index (distribution-spec: clients should take at least 4 MiB). */
export const maxDocument = 4 * 1024 * 1024;
/** Most bytes of an image config: it is parsed as a whole. */
export const maxConfig = 8 * 1024 * 1024;
/** Most layers of an image: overlayfs stacks no more (OVL_MAX_STACK). */
export const maxLayers = 500;

/** image-spec descriptor.md. `urls` are never followed, so they are not read. */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  /** Bytes. */
  readonly size: number;
  readonly platform?: Platform;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface ImageManifest {
  readonly kind: 'manifest';
  readonly mediaType: string;
  readonly config: Descriptor;
  /** Bottom first. */
  readonly layers: readonly Descriptor[];
}

export interface ImageIndex {
  readonly kind: 'index';
  readonly mediaType: string;
  readonly manifests: readonly Descriptor[];
}

export type ImageDocument = ImageManifest | ImageIndex;

type Json = Readonly<Record<string, unknown>>;

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Raises `code` with the document's name in front. */
type Fail = (reason: string, code?: string) => NodeletError;

const failer =
  (what: string): Fail =>
  (reason, code = 'MANIFEST_INVALID') =>
    new NodeletError(code, `cannot use ${what}: ${reason}`);

function parseObject(bytes: Uint8Array, limit: number, fail: Fail): Json {
  if (bytes.length > limit)
    throw fail(`it has ${bytes.length} bytes, more than ${limit}`, 'RESPONSE_TOO_LARGE');
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw fail(`it is not JSON (${error instanceof Error ? error.message.slice(0, 100) : ''})`);
  }
  if (!isObject(value)) throw fail('it is not a JSON object');
  return value;
}

function text(value: unknown, name: string, fail: Fail): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'string') throw fail(`"${name}" is not a string`);
  if (value.includes('\0')) throw fail(`"${name}" has a NUL character`);
  return value;
}

function texts(value: unknown, name: string, fail: Fail): readonly string[] | undefined {
  if (value === undefined || value === null) return undefined;
  if (!Array.isArray(value)) throw fail(`"${name}" is not a list`);
  return value.map((item, i) => {
    const one = text(item, `${name}[${i}]`, fail);
    if (one === undefined) throw fail(`"${name}[${i}]" is not a string`);
    return one;
  });
}

function stringMap(value: unknown, name: string, fail: Fail): Readonly<Record<string, string>> | undefined {
  if (value === undefined || value === null) return undefined;
  if (!isObject(value)) throw fail(`"${name}" is not an object`);
  const out: [string, string][] = [];
  for (const [key, item] of Object.entries(value)) out.push([key, text(item, `${name}.${key}`, fail) ?? '']);
  return Object.fromEntries(out);
}

function keys(value: unknown, name: string, fail: Fail): Readonly<Record<string, object>> | undefined {
  if (value === undefined || value === null) return undefined;
  if (!isObject(value)) throw fail(`"${name}" is not an object`);
  return Object.fromEntries(Object.keys(value).map((key) => [key, {}]));
}

function descriptor(value: unknown, name: string, fail: Fail): Descriptor {
  if (!isObject(value)) throw fail(`"${name}" is not a descriptor`);
  const mediaType = text(value.mediaType, `${name}.mediaType`, fail) ?? '';
  const digest = text(value.digest, `${name}.digest`, fail) ?? '';
  const size = value.size;
  if (!isContentDigest(digest)) {
    try {
      parseContentDigest(digest);
    } catch (error) {
      throw fail(`"${name}.digest" is refused: ${error instanceof Error ? error.message : ''}`);
    }
  }
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0)
    throw fail(`"${name}.size" is no size`);
  const platform = isObject(value.platform)
    ? readPlatform(value.platform, `${name}.platform`, fail)
    : undefined;
  const annotations = stringMap(value.annotations, `${name}.annotations`, fail);
  return {
    mediaType,
    digest,
    size,
    ...(platform === undefined ? {} : { platform }),
    ...(annotations === undefined ? {} : { annotations }),
  };
}

function readPlatform(value: Json, name: string, fail: Fail): Platform {
  const variant = text(value.variant, `${name}.variant`, fail);
  return {
    os: text(value.os, `${name}.os`, fail) ?? '',
    architecture: text(value.architecture, `${name}.architecture`, fail) ?? '',
    ...(variant === undefined || variant === '' ? {} : { variant }),
  };
}

/** Types that say nothing: some registries and file servers send them for every file. */
const genericTypes = new Set([
  'application/json',
  'application/octet-stream',
  'text/plain',
  'binary/octet-stream',
]);

/**
 * Parses a manifest or index. `contentType` is what the registry said it was; `what` names the document in errors.
 * Throws MANIFEST_INVALID, IMAGE_UNSUPPORTED (schema 1, an artifact) or RESPONSE_TOO_LARGE.
 */
export function parseDocument(
  bytes: Uint8Array,
  contentType: string | undefined,
  what: string,
): ImageDocument {
  const fail = failer(what);
  const value = parseObject(bytes, maxDocument, fail);
  const own = text(value.mediaType, 'mediaType', fail);
  const said = contentType?.split(';', 1)[0]?.trim().toLowerCase();
  const served = said === undefined || said === '' || genericTypes.has(said) ? undefined : said;
  const mediaType = own ?? served;
  if (
    value.schemaVersion === 1 ||
    'fsLayers' in value ||
    (mediaType !== undefined && schema1Types.has(mediaType))
  ) {
    throw fail(
      'it is in schema 1, a format that docker gave up in 2019: push the image again',
      'IMAGE_UNSUPPORTED',
    );
  }
  // CVE-2021-41190, GHSA-5j5w-g665-5m35: a document with two meanings, or one type outside and another inside.
  if (own !== undefined && served !== undefined && own !== served) {
    throw fail(`the registry served it as ${quote(served)} but it calls itself ${quote(own)}`);
  }
  if ('manifests' in value && ('layers' in value || 'config' in value)) {
    throw fail('it has both "manifests" and "layers" or "config", so it could be read in two ways');
  }
  if (value.schemaVersion !== 2) throw fail('its "schemaVersion" is not 2');
  if ('manifests' in value) {
    if (mediaType !== undefined && !indexTypes.has(mediaType)) throw unknownType(mediaType, 'index', fail);
    if (!Array.isArray(value.manifests)) throw fail('"manifests" is not a list');
    return {
      kind: 'index',
      mediaType: mediaType ?? MEDIA.ociIndex,
      manifests: value.manifests.map((item, i) => descriptor(item, `manifests[${i}]`, fail)),
    };
  }
  if (mediaType !== undefined && !manifestTypes.has(mediaType))
    throw unknownType(mediaType, 'manifest', fail);
  if (!Array.isArray(value.layers)) throw fail('"layers" is not a list');
  const config = descriptor(value.config, 'config', fail);
  if (!configTypes.has(config.mediaType)) {
    const artifact = text(value.artifactType, 'artifactType', fail) ?? config.mediaType;
    throw fail(`it is an artifact of type ${quote(artifact)}, not a container image`, 'IMAGE_UNSUPPORTED');
  }
  if (value.layers.length > maxLayers) {
    throw fail(`it has ${value.layers.length} layers, more than the ${maxLayers} that overlayfs can stack`);
  }
  const layers = value.layers.map((item, i) => descriptor(item, `layers[${i}]`, fail));
  for (const [i, layer] of layers.entries()) {
    if (!layerTypes.has(layer.mediaType)) {
      throw fail(`"layers[${i}]" is of type ${quote(layer.mediaType)}, not a tar layer`, 'IMAGE_UNSUPPORTED');
    }
  }
  return { kind: 'manifest', mediaType: mediaType ?? MEDIA.ociManifest, config, layers };
}

function unknownType(mediaType: string, content: string, fail: Fail): NodeletError {
  return indexTypes.has(mediaType) || manifestTypes.has(mediaType)
    ? fail(`it is said to be ${quote(mediaType)} but has the fields of an image ${content}`)
    : fail(`it is of type ${quote(mediaType)}`, 'IMAGE_UNSUPPORTED');
}

/** Parses an image config and checks that it fits a manifest of `layers` layers. Throws MANIFEST_INVALID. */
export function parseConfig(bytes: Uint8Array, layers: number, what: string): ImageConfig {
  const fail = failer(what);
  const value = parseObject(bytes, maxConfig, fail);
  const rootfs = value.rootfs;
  if (!isObject(rootfs) || rootfs.type !== 'layers') throw fail('"rootfs.type" is not "layers"');
  const diffIds = texts(rootfs.diff_ids, 'rootfs.diff_ids', fail) ?? [];
  for (const [i, diffId] of diffIds.entries()) {
    if (!isContentDigest(diffId)) throw fail(`"rootfs.diff_ids[${i}]" is no sha256 digest`);
  }
  if (diffIds.length !== layers) {
    throw fail(`it lists ${diffIds.length} layers ("rootfs.diff_ids") but the manifest has ${layers}`);
  }
  const optional = {
    variant: text(value.variant, 'variant', fail),
    created: text(value.created, 'created', fail),
  };
  const config =
    value.config === undefined || value.config === null ? undefined : runConfig(value.config, fail);
  const history = Array.isArray(value.history) ? readHistory(value.history, fail) : undefined;
  const author = text(value.author, 'author', fail);
  return {
    architecture: text(value.architecture, 'architecture', fail) ?? '',
    os: text(value.os, 'os', fail) ?? '',
    ...(optional.variant ? { variant: optional.variant } : {}),
    ...(optional.created ? { created: optional.created } : {}),
    ...(author === undefined ? {} : { author }),
    ...(config === undefined ? {} : { config }),
    rootfs: { type: 'layers', diff_ids: diffIds },
    ...(history === undefined ? {} : { history }),
  };
}

function runConfig(value: unknown, fail: Fail): NonNullable<ImageConfig['config']> {
  if (!isObject(value)) throw fail('"config" is not an object');
  const all = {
    User: text(value.User, 'config.User', fail),
    ExposedPorts: keys(value.ExposedPorts, 'config.ExposedPorts', fail),
    Env: texts(value.Env, 'config.Env', fail),
    Entrypoint: texts(value.Entrypoint, 'config.Entrypoint', fail),
    Cmd: texts(value.Cmd, 'config.Cmd', fail),
    Volumes: keys(value.Volumes, 'config.Volumes', fail),
    WorkingDir: text(value.WorkingDir, 'config.WorkingDir', fail),
    Labels: stringMap(value.Labels, 'config.Labels', fail),
    StopSignal: text(value.StopSignal, 'config.StopSignal', fail),
  };
  return Object.fromEntries(Object.entries(all).filter(([, item]) => item !== undefined));
}

function readHistory(items: readonly unknown[], fail: Fail): NonNullable<ImageConfig['history']> {
  return items.map((item, i) => {
    if (!isObject(item)) throw fail(`"history[${i}]" is not an object`);
    const all = {
      created: text(item.created, `history[${i}].created`, fail),
      created_by: text(item.created_by, `history[${i}].created_by`, fail),
      comment: text(item.comment, `history[${i}].comment`, fail),
      empty_layer: item.empty_layer === true ? true : undefined,
    };
    return Object.fromEntries(Object.entries(all).filter(([, field]) => field !== undefined));
  });
}
