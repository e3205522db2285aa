/**
 * Files of the Container Device Interface (cncf.io "CDI", versions 0.3 to 1.0): what a vendor says that a container needs to use
 * a device. Parsed and checked here; pure.
 */
import { NodeletError } from '../../base/index.ts';

export interface CdiDeviceNode {
  readonly path: string;
  /** Where it is on the host; `path` where absent. */
  readonly hostPath?: string;
  readonly type?: string;
  readonly major?: number;
  readonly minor?: number;
  readonly fileMode?: number;
  readonly permissions?: string;
  readonly uid?: number;
  readonly gid?: number;
}

export interface CdiMount {
  readonly hostPath: string;
  readonly containerPath: string;
  readonly type?: string;
  readonly options?: readonly string[];
}

export interface CdiContainerEdits {
  readonly env: readonly string[];
  readonly deviceNodes: readonly CdiDeviceNode[];
  readonly mounts: readonly CdiMount[];
  readonly additionalGids: readonly number[];
  /** What is asked for beyond that, by its name: this runtime does not do it, and says so when the device is used. */
  readonly beyond: readonly string[];
}

export interface CdiSpec {
  readonly file: string;
  /** `vendor.com/class` */
  readonly kind: string;
  readonly edits: CdiContainerEdits;
  readonly devices: ReadonlyMap<string, CdiContainerEdits>;
}

/** `vendor/class=device`, as the specification has it. */
const VENDOR = /^[A-Za-z](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?$/;
const CLASS = /^[A-Za-z](?:[A-Za-z0-9_-]*[A-Za-z0-9])?$/;
const DEVICE = /^[A-Za-z0-9](?:[A-Za-z0-9_.:-]*[A-Za-z0-9])?$/;

export function isKind(text: string): boolean {
  const slash = text.indexOf('/');
  return slash > 0 && VENDOR.test(text.slice(0, slash)) && CLASS.test(text.slice(slash + 1));
}

/** The kind and the device of a name. Throws CDI_DEVICE_INVALID. */
export function parseDeviceName(text: string): { readonly kind: string; readonly device: string } {
  const equals = text.indexOf('=');
  const [kind, device] = equals < 0 ? ['', ''] : [text.slice(0, equals), text.slice(equals + 1)];
  if (text.length > 512 || !isKind(kind) || !DEVICE.test(device))
    throw new NodeletError(
      'CDI_DEVICE_INVALID',
      `CDI device ${JSON.stringify(text.slice(0, 100))} is no qualified name`,
      { hint: 'write it as vendor.com/class=device' },
    );
  return { kind, device };
}

/** Reads what a JSON or YAML file holds. Throws CDI_SPEC_INVALID, naming the file and the field. */
export function parseCdiSpec(file: string, value: unknown): CdiSpec {
  const read = new Reader(file);
  const top = read.object(value, 'the file');
  if (!/^v?\d+\.\d+\.\d+$/.test(read.text(top.cdiVersion, 'cdiVersion')))
    throw read.invalid('cdiVersion', 'is no version such as "0.6.0"');
  const kind = read.text(top.kind, 'kind');
  if (!isKind(kind))
    throw read.invalid('kind', `${JSON.stringify(kind)} is not of the form vendor.com/class`);
  const devices = new Map<string, CdiContainerEdits>();
  for (const [i, one] of read.list(top.devices, 'devices').entries()) {
    const field = `devices[${i}]`;
    const device = read.object(one, field);
    const name = read.text(device.name, `${field}.name`);
    if (!DEVICE.test(name))
      throw read.invalid(`${field}.name`, `${JSON.stringify(name)} is no name of a device`);
    if (devices.has(name)) throw read.invalid(`${field}.name`, `${JSON.stringify(name)} stands there twice`);
    devices.set(name, read.edits(device.containerEdits, `${field}.containerEdits`));
  }
  return { file, kind, edits: read.edits(top.containerEdits, 'containerEdits'), devices };
}

type Plain = Readonly<Record<string, unknown>>;

class Reader {
  readonly #file: string;

  constructor(file: string) {
    this.#file = file;
  }

  invalid(field: string, problem: string): NodeletError {
    return new NodeletError(
      'CDI_SPEC_INVALID',
      `CDI file ${JSON.stringify(this.#file)}: ${field}: ${problem}`,
      {
        details: { file: this.#file, field },
      },
    );
  }

  object(value: unknown, field: string): Plain {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw this.invalid(field, 'expected an object');
    return value as Plain;
  }

  list(value: unknown, field: string): readonly unknown[] {
    if (value === undefined || value === null) return [];
    if (!Array.isArray(value)) throw this.invalid(field, 'expected a list');
    return value;
  }

  text(value: unknown, field: string): string {
    if (typeof value !== 'string' || value === '' || value.includes('\0'))
      throw this.invalid(field, 'expected a text');
    return value;
  }

  path(value: unknown, field: string): string {
    const path = this.text(value, field);
    if (!path.startsWith('/')) throw this.invalid(field, `${JSON.stringify(path)} is not an absolute path`);
    return path;
  }

  number(value: unknown, field: string): number {
    if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > 0xffff_ffff)
      throw this.invalid(field, 'expected a number from 0 to 4294967295');
    return value;
  }

  edits(value: unknown, field: string): CdiContainerEdits {
    if (value === undefined || value === null)
      return { env: [], deviceNodes: [], mounts: [], additionalGids: [], beyond: [] };
    const edits = this.object(value, field);
    const env = this.list(edits.env, `${field}.env`).map((one, i) => {
      const text = this.text(one, `${field}.env[${i}]`);
      if (text.indexOf('=') < 1)
        throw this.invalid(`${field}.env[${i}]`, `${JSON.stringify(text)} is not NAME=value`);
      return text;
    });
    const beyond = ['hooks', 'intelRdt', 'netDevices'].filter((name) => {
      const asked = edits[name];
      return asked !== undefined && asked !== null && !(Array.isArray(asked) && asked.length === 0);
    });
    return {
      env,
      deviceNodes: this.list(edits.deviceNodes, `${field}.deviceNodes`).map((one, i) =>
        this.#node(one, `${field}.deviceNodes[${i}]`),
      ),
      mounts: this.list(edits.mounts, `${field}.mounts`).map((one, i) =>
        this.#mount(one, `${field}.mounts[${i}]`),
      ),
      additionalGids: this.list(edits.additionalGids, `${field}.additionalGids`).map((one, i) =>
        this.number(one, `${field}.additionalGids[${i}]`),
      ),
      beyond,
    };
  }

  #node(value: unknown, field: string): CdiDeviceNode {
    const node = this.object(value, field);
    const numbers = ['major', 'minor', 'fileMode', 'uid', 'gid'] as const;
    const type = node.type === undefined ? undefined : this.text(node.type, `${field}.type`);
    if (type !== undefined && !['b', 'c', 'u', 'p'].includes(type))
      throw this.invalid(`${field}.type`, `${JSON.stringify(type)} is not b, c, u or p`);
    const permissions =
      node.permissions === undefined ? undefined : this.text(node.permissions, `${field}.permissions`);
    if (permissions !== undefined && !/^[rwm]{1,3}$/.test(permissions))
      throw this.invalid(`${field}.permissions`, `${JSON.stringify(permissions)} are not of r, w and m`);
    return {
      path: this.path(node.path, `${field}.path`),
      ...(node.hostPath === undefined ? {} : { hostPath: this.path(node.hostPath, `${field}.hostPath`) }),
      ...(type === undefined ? {} : { type }),
      ...(permissions === undefined ? {} : { permissions }),
      ...Object.fromEntries(
        numbers
          .filter((name) => node[name] !== undefined)
          .map((name) => [name, this.number(node[name], `${field}.${name}`)]),
      ),
    };
  }

  #mount(value: unknown, field: string): CdiMount {
    const mount = this.object(value, field);
    return {
      hostPath: this.text(mount.hostPath, `${field}.hostPath`),
      containerPath: this.path(mount.containerPath, `${field}.containerPath`),
      ...(mount.type === undefined ? {} : { type: this.text(mount.type, `${field}.type`) }),
      options: this.list(mount.options, `${field}.options`).map((one, i) =>
        this.text(one, `${field}.options[${i}]`),
      ),
    };
  }
}
