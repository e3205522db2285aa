/** ConfigMaps and Secrets that pods refer to, by namespace and name. Without an API server they come with the manifests. */
import { Emitter, NodeletError } from '../base/index.ts';
import { type ConfigMap, decodeBase64, type Secret } from '../kube/index.ts';

/** Read access, for the pure translation. */
export interface ObjectLookup {
  configMap(namespace: string, name: string): ConfigMap | undefined;
  secret(namespace: string, name: string): Secret | undefined;
}

export interface ObjectChange {
  readonly kind: 'ConfigMap' | 'Secret';
  readonly namespace: string;
  readonly name: string;
}

export class ObjectStore implements ObjectLookup {
  readonly #configMaps = new Map<string, ConfigMap>();
  readonly #secrets = new Map<string, Secret>();
  readonly #changes = new Emitter<ObjectChange>();

  configMap(namespace: string, name: string): ConfigMap | undefined {
    return this.#configMaps.get(`${namespace}/${name}`);
  }

  secret(namespace: string, name: string): Secret | undefined {
    return this.#secrets.get(`${namespace}/${name}`);
  }

  /** Adds or replaces; listeners hear of it only where the content differs. Immutable objects refuse (OBJECT_IMMUTABLE). */
  putConfigMap(configMap: ConfigMap): void {
    this.#put(this.#configMaps, 'ConfigMap', configMap);
  }

  putSecret(secret: Secret): void {
    this.#put(this.#secrets, 'Secret', secret);
  }

  delete(kind: ObjectChange['kind'], namespace: string, name: string): void {
    const store = kind === 'ConfigMap' ? this.#configMaps : this.#secrets;
    if (store.delete(`${namespace}/${name}`)) this.#changes.emit({ kind, namespace, name });
  }

  configMaps(): ConfigMap[] {
    return [...this.#configMaps.values()];
  }

  secrets(): Secret[] {
    return [...this.#secrets.values()];
  }

  onChange(listener: (change: ObjectChange) => void): () => void {
    return this.#changes.on(listener);
  }

  #put<T extends ConfigMap | Secret>(store: Map<string, T>, kind: ObjectChange['kind'], object: T): void {
    const { namespace = 'default', name = '' } = object.metadata ?? {};
    const key = `${namespace}/${name}`;
    const before = store.get(key);
    if (before !== undefined) {
      if (content(before) === content(object)) return;
      if (before.immutable) {
        throw new NodeletError('OBJECT_IMMUTABLE', `cannot change ${kind} "${key}": it is immutable`, {
          hint: 'give it another name, or remove it first',
        });
      }
    }
    store.set(key, object);
    this.#changes.emit({ kind, namespace, name });
  }
}

function content(object: ConfigMap | Secret): string {
  const binary = 'binaryData' in object ? object.binaryData : undefined;
  const type = 'type' in object ? object.type : undefined;
  return JSON.stringify([type, sorted(object.data), sorted(binary), object.immutable]);
}

function sorted(map: Readonly<Record<string, string>> | undefined): [string, string][] {
  return Object.entries(map ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
}

/** Every value of a ConfigMap as bytes. */
export function configMapBytes(configMap: ConfigMap): Map<string, Buffer> {
  const values = new Map<string, Buffer>();
  for (const [key, value] of Object.entries(configMap.data ?? {})) values.set(key, Buffer.from(value));
  for (const [key, value] of Object.entries(configMap.binaryData ?? {})) {
    values.set(key, decodeBase64(value) ?? Buffer.alloc(0));
  }
  return values;
}

/** Every value of a Secret as bytes. */
export function secretBytes(secret: Secret): Map<string, Buffer> {
  const values = new Map<string, Buffer>();
  for (const [key, value] of Object.entries(secret.data ?? {}))
    values.set(key, decodeBase64(value) ?? Buffer.alloc(0));
  return values;
}
