/**
 * Who may use which image without the registry's word (KEP-2535): the kubelet remembers with which credentials it
 * pulled an image, on disk in upstream's own format, so that a real kubelet on the same directory knows as much.
 *
 *   <root>/image_manager/pulling/sha256-<of the image's name>    a pull that began
 *   <root>/image_manager/pulled/sha256-<of the image's ref>      credentials that were good, by name without tag
 *
 * An image that is here without a record was put here by somebody else (`nodelet image pull`, import).
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describeError, type Log, readTextIfExists, replaceFileSync } from '../../base/index.ts';
import type { ImageService } from '../../cri/index.ts';
import type { Credential } from './keyring.ts';
import { withoutTag } from './keyring.ts';

const API_VERSION = 'kubelet.config.k8s.io/v1beta1';

export interface PullSecretRecord {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly credentialHash: string;
}

export interface PullCredentialRecord {
  /** True where it was pulled without credentials, or with those of the node. */
  readonly nodePodsAccessible?: boolean;
  readonly kubernetesSecrets?: readonly PullSecretRecord[];
}

export interface PulledRecord {
  readonly imageRef: string;
  readonly lastUpdatedTime: string;
  /** By the image's name without tag and digest, as pods write it. */
  readonly credentialMapping: Readonly<Record<string, PullCredentialRecord>>;
}

export interface PullVerification {
  readonly policy:
    | 'NeverVerify'
    | 'NeverVerifyPreloadedImages'
    | 'NeverVerifyAllowlistedImages'
    | 'AlwaysVerify';
  /** For NeverVerifyAllowlistedImages: names without tag, or prefixes that end in `/*`. */
  readonly allowlist: readonly string[];
}

export const defaultVerification: PullVerification = { policy: 'NeverVerifyPreloadedImages', allowlist: [] };

/** Whether an image that is here is given to anybody. Pure. */
export function needsVerification(
  { policy, allowlist }: PullVerification,
  image: string,
  pulledByKubelet: boolean,
): boolean {
  switch (policy) {
    case 'NeverVerify':
      return false;
    case 'NeverVerifyPreloadedImages':
      return pulledByKubelet;
    case 'NeverVerifyAllowlistedImages': {
      const name = withoutTag(image);
      return !allowlist.some((item) =>
        item.endsWith('/*') ? name.startsWith(item.slice(0, -1)) : name === item,
      );
    }
    case 'AlwaysVerify':
      return true;
  }
}

/** What is wrong with an item of the allowlist, or undefined. Pure. */
export function allowlistProblem(item: string): string | undefined {
  if (item !== item.trim()) return 'it begins or ends with a blank';
  const bare = item.replace(/\/\*$/, '');
  if (bare === '') return 'it names no registry';
  if (bare.includes('*')) return 'only a "/*" at the end is a wildcard';
  if (bare === item && withoutTag(item) !== item) return 'it has a tag or a digest';
  return undefined;
}

/** One of a pod's credentials that is known to be good for the image; true where none is needed. Pure. */
export function knownCredential(
  record: PulledRecord | undefined,
  image: string,
  credentials: readonly Credential[],
): Credential | boolean {
  const known = record?.credentialMapping[withoutTag(image)];
  if (known === undefined) return false;
  if (known.nodePodsAccessible === true) return true;
  return (
    credentials.find(({ hash, source }) =>
      (known.kubernetesSecrets ?? []).some(
        (one) => source !== undefined && (one.credentialHash === hash || sameSecret(one, source)),
      ),
    ) ?? false
  );
}

/** A secret without a UID (it came with a manifest) is known by its content alone. */
function sameSecret(record: PullSecretRecord, source: NonNullable<Credential['source']>): boolean {
  return (
    source.uid !== '' &&
    record.uid === source.uid &&
    record.namespace === source.namespace &&
    record.name === source.name
  );
}

/** The record after one more pull with `credential`; undefined for a pull without, or with those of the node. Pure. */
export function withCredential(
  record: PulledRecord | undefined,
  imageRef: string,
  image: string,
  credential: Credential | undefined,
  now: Date,
): PulledRecord {
  const before = record?.credentialMapping[withoutTag(image)];
  if (record !== undefined && before?.nodePodsAccessible === true) return record;
  const source = credential?.source;
  const entry: PullCredentialRecord =
    source === undefined
      ? { nodePodsAccessible: true }
      : {
          kubernetesSecrets: mergeSecret(before?.kubernetesSecrets ?? [], {
            ...source,
            credentialHash: credential?.hash ?? '',
          }),
        };
  if (record !== undefined && JSON.stringify(before) === JSON.stringify(entry)) return record;
  return {
    imageRef,
    lastUpdatedTime: now.toISOString().replace(/\.\d+Z$/, 'Z'),
    credentialMapping: { ...record?.credentialMapping, [withoutTag(image)]: entry },
  };
}

const order = (a: PullSecretRecord, b: PullSecretRecord): number => {
  const left = `${a.namespace}\0${a.name}\0${a.uid}`;
  const right = `${b.namespace}\0${b.name}\0${b.uid}`;
  return left < right ? -1 : left > right ? 1 : 0;
};

function mergeSecret(records: readonly PullSecretRecord[], added: PullSecretRecord): PullSecretRecord[] {
  return [...records.filter((record) => order(record, added) !== 0), added].sort(order);
}

export class PullRecords {
  readonly #pulling: string;
  readonly #pulled: string;
  readonly #log: Log;
  readonly #now: () => number;
  /** Pulls under way, by image. */
  readonly #intents = new Map<string, number>();
  readonly #known = new Map<string, PulledRecord | undefined>();

  /** `root` is the kubelet's directory. */
  constructor(root: string, log: Log, now: () => number) {
    this.#pulling = join(root, 'image_manager', 'pulling');
    this.#pulled = join(root, 'image_manager', 'pulled');
    this.#log = log;
    this.#now = now;
  }

  /** What is known of an image that is here. */
  get(imageRef: string): PulledRecord | undefined {
    if (!this.#known.has(imageRef)) this.#known.set(imageRef, this.#read(imageRef));
    return this.#known.get(imageRef);
  }

  /** True where the kubelet pulled the image, or began to. */
  isPulled(image: string, imageRef: string): boolean {
    return (
      this.get(imageRef) !== undefined ||
      (this.#intents.get(image) ?? 0) > 0 ||
      readTextIfExists(this.#intentPath(image)) !== undefined
    );
  }

  /** Before a pull: an agent that dies in it leaves the word that this image is nobody's but the registry's to give. */
  begin(image: string): void {
    const count = this.#intents.get(image) ?? 0;
    if (count === 0) {
      const intent = { kind: 'ImagePullIntent', apiVersion: API_VERSION, image };
      this.#write(this.#pulling, this.#intentPath(image), intent);
    }
    this.#intents.set(image, count + 1);
  }

  /** After it. `pulled` is what came of it, undefined for a pull that failed. */
  end(
    image: string,
    pulled: { readonly imageRef: string; readonly credential: Credential | undefined } | undefined,
  ): void {
    if (pulled !== undefined) this.learn(image, pulled.imageRef, pulled.credential);
    const count = (this.#intents.get(image) ?? 1) - 1;
    if (count > 0) {
      this.#intents.set(image, count);
      return;
    }
    this.#intents.delete(image);
    rmSync(this.#intentPath(image), { force: true });
  }

  /** Writes down that a credential is good for an image. */
  learn(image: string, imageRef: string, credential: Credential | undefined): void {
    const before = this.get(imageRef);
    const after = withCredential(before, imageRef, image, credential, new Date(this.#now()));
    if (after !== before) this.#put(after);
  }

  /**
   * At the start: pulls that an earlier agent had under way and that came to an end become images without known
   * credentials, and records of images that are gone go.
   */
  async recover(images: Pick<ImageService, 'listImages'>): Promise<void> {
    const intents = this.#files(this.#pulling).map((name) => join(this.#pulling, name));
    const records = this.#files(this.#pulled);
    if (intents.length + records.length === 0) return;
    const { images: list = [] } = await images.listImages({});
    for (const path of intents) {
      const intent = this.#parse(readTextIfExists(path), path) as { image?: unknown } | undefined;
      const name = typeof intent?.image === 'string' ? intent.image : '';
      const found = list.find(({ repoTags = [], repoDigests = [] }) =>
        [...repoTags, ...repoDigests].some((one) => one === name || one === fullName(name)),
      );
      if (found?.id !== undefined && this.get(found.id) === undefined) {
        const lastUpdatedTime = new Date(this.#now()).toISOString().replace(/\.\d+Z$/, 'Z');
        this.#put({ imageRef: found.id, lastUpdatedTime, credentialMapping: {} });
      }
      rmSync(path, { force: true });
    }
    const present = new Set(list.map(({ id }) => fileName(id ?? '')));
    for (const name of records) {
      if (!present.has(name)) rmSync(join(this.#pulled, name), { force: true });
    }
    this.#known.clear();
  }

  #read(imageRef: string): PulledRecord | undefined {
    const path = join(this.#pulled, fileName(imageRef));
    const text = readTextIfExists(path);
    if (text === undefined) return undefined;
    const value = this.#parse(text, path) as Partial<PulledRecord> | undefined;
    const mapping = value?.credentialMapping;
    // A record that cannot be read still says that the kubelet pulled the image: nobody gets it unasked.
    return {
      imageRef,
      lastUpdatedTime: typeof value?.lastUpdatedTime === 'string' ? value.lastUpdatedTime : '',
      credentialMapping: typeof mapping === 'object' && mapping !== null ? mapping : {},
    };
  }

  #parse(text: string | undefined, path: string): unknown {
    try {
      return JSON.parse(text ?? '');
    } catch (error) {
      this.#log.warn({ path, error: describeError(error) }, 'a record of pulled images is damaged');
      return undefined;
    }
  }

  #put(record: PulledRecord): void {
    const { imageRef, lastUpdatedTime, credentialMapping } = record;
    this.#write(this.#pulled, join(this.#pulled, fileName(imageRef)), {
      kind: 'ImagePulledRecord',
      apiVersion: API_VERSION,
      lastUpdatedTime,
      imageRef,
      credentialMapping,
    });
    this.#known.set(imageRef, record);
  }

  #write(folder: string, path: string, value: object): void {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    replaceFileSync(path, JSON.stringify(value), { durable: true });
  }

  #intentPath(image: string): string {
    return join(this.#pulling, fileName(image));
  }

  #files(folder: string): string[] {
    try {
      return readdirSync(folder).filter((name) => /^sha256-[0-9a-f]{64}$/.test(name));
    } catch {
      return [];
    }
  }
}

function fileName(text: string): string {
  return `sha256-${createHash('sha256').update(text).digest('hex')}`;
}

/** With the tag that an image without tag and digest means, and Docker Hub's name. */
function fullName(image: string): string {
  const tagged = image.includes('@') || /:[^/:]+$/.test(image) ? image : `${image}:latest`;
  const slash = tagged.indexOf('/');
  const first = slash < 0 ? '' : tagged.slice(0, slash);
  if (/[.:]/.test(first) || first === 'localhost') return tagged;
  return `docker.io/${slash < 0 ? 'library/' : ''}${tagged}`;
}
