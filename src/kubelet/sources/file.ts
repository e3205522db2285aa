/**
 * Static pods: manifests in a directory (or one file). A pod lives as long as its file says so; a file that changes makes
 * another pod of the same name. A file that cannot be read keeps what it said last.
 */
import { createHash } from 'node:crypto';
import { type FSWatcher, watch } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describeError, hasCode, type Log } from '../../base/index.ts';
import {
  type BoundPod,
  bindPod,
  type CheckedPod,
  type ConfigMap,
  parseManifests,
  type Secret,
} from '../../kube/index.ts';

export interface StaticPods {
  readonly pods: readonly BoundPod[];
  readonly configMaps: readonly ConfigMap[];
  readonly secrets: readonly Secret[];
}

export interface StaticPodSourceOptions {
  /** A directory of manifests, or one manifest. It may come into being later. */
  readonly path: string;
  readonly nodeName: string;
  readonly log: Log;
  /** Hears the whole set whenever it has changed. */
  readonly onChange: (pods: StaticPods) => void;
  /** Milliseconds between two looks at everything, beside those that changes cause. */
  readonly rescanAfter?: number;
  readonly now?: () => number;
}

const ANNOTATION = {
  hash: 'kubernetes.io/config.hash',
  seen: 'kubernetes.io/config.seen',
  source: 'kubernetes.io/config.source',
} as const;

const RESCAN_AFTER = 20_000;
/** Editors write a file in several steps; one look after the last of them is enough. */
const SETTLE = 50;

interface FileState {
  /** What tells whether the file has changed: size, times, inode. */
  readonly signature: string;
  readonly content: StaticPods;
}

const NOTHING: StaticPods = { pods: [], configMaps: [], secrets: [] };

export class StaticPodSource {
  readonly #options: StaticPodSourceOptions;
  readonly #now: () => number;
  #files = new Map<string, FileState>();
  #watcher: FSWatcher | undefined;
  #timer: NodeJS.Timeout | undefined;
  #scanning: Promise<void> | undefined;
  #again = false;
  #closed = false;
  #emitted = '';

  constructor(options: StaticPodSourceOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
  }

  /** Everything that the files say now. */
  async load(): Promise<StaticPods> {
    await this.#scan();
    const content = this.#content();
    this.#emitted = fingerprint(content);
    return content;
  }

  /** Looks for changes from now on. */
  start(): void {
    this.#watch();
    this.#schedule(this.#options.rescanAfter ?? RESCAN_AFTER);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#watcher?.close();
  }

  #watch(): void {
    if (this.#watcher !== undefined) return;
    try {
      this.#watcher = watch(this.#options.path, { persistent: false });
    } catch (error) {
      // Not there yet: the next look finds it.
      if (!hasCode(error, 'ENOENT')) this.#warn('cannot watch the static manifests', error);
      return;
    }
    this.#watcher.on('change', () => this.#schedule(SETTLE));
    this.#watcher.on('error', (error) => {
      this.#warn('cannot watch the static manifests', error);
      this.#watcher?.close();
      this.#watcher = undefined;
    });
  }

  #schedule(delay: number): void {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#watch();
      void this.#rescan();
    }, delay);
    this.#timer.unref();
  }

  async #rescan(): Promise<void> {
    if (this.#scanning !== undefined) {
      this.#again = true;
      return;
    }
    this.#scanning = this.#scan();
    await this.#scanning;
    this.#scanning = undefined;
    if (this.#closed) return;
    const content = this.#content();
    const now = fingerprint(content);
    if (now !== this.#emitted) {
      this.#emitted = now;
      this.#options.onChange(content);
    }
    this.#schedule(this.#again ? SETTLE : (this.#options.rescanAfter ?? RESCAN_AFTER));
    this.#again = false;
  }

  #content(): StaticPods {
    const all = [...this.#files.entries()]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, { content }]) => content);
    return {
      pods: all.flatMap(({ pods }) => pods),
      configMaps: all.flatMap(({ configMaps }) => configMaps),
      secrets: all.flatMap(({ secrets }) => secrets),
    };
  }

  /** Whether a file brings this object. */
  holds(kind: 'ConfigMap' | 'Secret', namespace: string, name: string): boolean {
    const { configMaps, secrets } = this.#content();
    return (kind === 'ConfigMap' ? configMaps : secrets).some(
      ({ metadata }) => metadata?.name === name && (metadata.namespace ?? 'default') === namespace,
    );
  }

  async #scan(): Promise<void> {
    let paths: string[];
    try {
      paths = await this.#paths();
    } catch (error) {
      this.#warn('cannot list the static manifests', error);
      return;
    }
    const files = new Map<string, FileState>();
    for (const path of paths) {
      const state = await this.#file(path, this.#files.get(path));
      if (state !== undefined) files.set(path, state);
    }
    this.#files = files;
  }

  async #paths(): Promise<string[]> {
    const { path } = this.#options;
    try {
      if (!(await stat(path)).isDirectory()) return [path];
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return [];
      throw error;
    }
    return (await readdir(path)).filter((name) => !name.startsWith('.')).map((name) => join(path, name));
  }

  /** Undefined where the file is gone, or nothing that can hold a manifest. */
  async #file(path: string, before: FileState | undefined): Promise<FileState | undefined> {
    try {
      const info = await stat(path);
      if (!info.isFile()) return undefined;
      const signature = [info.ino, info.size, info.mtimeMs, info.ctimeMs].join('/');
      if (before?.signature === signature) return before;
      return { signature, content: await this.#parse(path, before) };
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined;
      this.#warn(`cannot read the static manifest "${path}"`, error);
      return before;
    }
  }

  async #parse(path: string, before: FileState | undefined): Promise<StaticPods> {
    try {
      const { pods, configMaps, secrets } = await parseManifests(await readFile(path, 'utf8'), {
        source: path,
      });
      return { pods: pods.map((pod) => this.#bind(pod, path)), configMaps, secrets };
    } catch (error) {
      this.#warn(`cannot use the static manifest "${path}"`, error);
      return before?.content ?? NOTHING;
    }
  }

  #bind(pod: CheckedPod, path: string): BoundPod {
    const { nodeName } = this.#options;
    const uid =
      pod.metadata.uid ??
      createHash('sha256')
        .update(JSON.stringify(pod))
        .update(`host:${nodeName}file:${path}`)
        .digest('hex')
        .slice(0, 32);
    const annotations = {
      ...pod.metadata.annotations,
      [ANNOTATION.hash]: uid,
      [ANNOTATION.seen]: new Date(this.#now()).toISOString(),
      [ANNOTATION.source]: 'file',
    };
    const tolerations = [...(pod.spec.tolerations ?? []), { operator: 'Exists', effect: 'NoExecute' }];
    const named: CheckedPod = {
      ...pod,
      metadata: { ...pod.metadata, name: `${pod.metadata.name}-${nodeName.toLowerCase()}`, annotations },
      spec: { ...pod.spec, tolerations },
    };
    return bindPod(named, { uid, nodeName, now: new Date(this.#now()) });
  }

  #warn(message: string, error: unknown): void {
    this.#options.log.warn({ error: describeError(error) }, message);
  }
}

function fingerprint({ pods, configMaps, secrets }: StaticPods): string {
  return JSON.stringify([pods.map((pod) => pod.metadata.uid), configMaps, secrets]);
}

/** What `syncStaticPods` needs of a kubelet. */
export interface StaticPodSink {
  readonly objects: {
    putConfigMap(configMap: ConfigMap): void;
    putSecret(secret: Secret): void;
  };
  add(pod: BoundPod): void;
  has(uid: string): boolean;
  remove(uid: string): Promise<void>;
}

/** Brings a kubelet from one set of static pods to the next. Removals go on after it returns. */
export function syncStaticPods(sink: StaticPodSink, before: StaticPods, after: StaticPods, log: Log): void {
  for (const configMap of after.configMaps) sink.objects.putConfigMap(configMap);
  for (const secret of after.secrets) sink.objects.putSecret(secret);
  const kept = new Set(after.pods.map((pod) => pod.metadata.uid));
  const names = new Set(after.pods.map((pod) => `${pod.metadata.namespace}/${pod.metadata.name}`));
  for (const { metadata } of before.pods) {
    // One of the same name comes in its place: adding that one removes this one.
    if (kept.has(metadata.uid) || names.has(`${metadata.namespace}/${metadata.name}`)) continue;
    if (!sink.has(metadata.uid)) continue;
    sink.remove(metadata.uid).catch((error: unknown) => {
      log.warn({ error: describeError(error) }, 'cannot remove a static pod');
    });
  }
  for (const pod of after.pods) {
    try {
      sink.add(pod);
    } catch (error) {
      log.warn({ error: describeError(error) }, 'cannot add a static pod');
    }
  }
}
