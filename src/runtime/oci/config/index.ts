/** config.json of a bundle (OCI runtime specification 1.0 to 1.2). */
import { messageOf } from '../../../base/index.ts';
import { parseExactJson } from '../../../linux/exact-json.ts';
import {
  HOOK_KINDS,
  type OciHook,
  type OciHooks,
  type OciMount,
  type OciProcess,
} from '../../launch/spec.ts';
import { invalidConfig } from '../errors.ts';
import { Fields, type Known, show } from './fields.ts';
import { type OciLinuxConfig, readIdMap, readLinux } from './linux.ts';
import { readProcess } from './process.ts';

export interface OciConfig {
  readonly ociVersion: string;
  readonly root: { readonly path: string; readonly readonly: boolean };
  readonly hostname: string | undefined;
  readonly domainname: string | undefined;
  readonly process: OciProcess;
  readonly mounts: readonly OciMount[];
  readonly annotations: Readonly<Record<string, string>>;
  readonly hooks: OciHooks;
  readonly linux: OciLinuxConfig;
  /** Fields of the top level that the specification does not know; it wants them to be passed over. */
  readonly unknown: readonly string[];
}

const OTHER = 'this is for another platform';

const TOP: Known = {
  ociVersion: true,
  root: true,
  hostname: true,
  domainname: true,
  process: true,
  mounts: true,
  annotations: true,
  hooks: true,
  linux: true,
  windows: OTHER,
  solaris: OTHER,
  vm: OTHER,
  zos: OTHER,
  freebsd: OTHER,
};

/** Throws OCI_CONFIG_INVALID and OCI_UNSUPPORTED, which name the field. */
export function readConfig(text: string): OciConfig {
  let value: unknown;
  try {
    value = parseExactJson(text);
  } catch (error) {
    throw invalidConfig('the file', `no JSON: ${messageOf(error)}`);
  }
  const unknown =
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.keys(value).filter((key) => !Object.hasOwn(TOP, key))
      : [];
  const fields = new Fields(value, '', {
    ...TOP,
    ...Object.fromEntries(unknown.map((key) => [key, true as const])),
  });
  const ociVersion = fields.required('ociVersion');
  if (!/^1\.\d+\.\d+/.test(ociVersion))
    throw invalidConfig('ociVersion', `${show(ociVersion)} is no version 1 of the specification`);
  const root = fields.object('root', { path: true, readonly: true });
  if (root === undefined) throw invalidConfig('root', 'is needed');
  const linux = readLinux(fields.raw('linux'));
  const hostname = fields.text('hostname');
  const domainname = fields.text('domainname');
  if ((hostname ?? '') !== '' && !linux.namespaces.some(({ type }) => type === 'uts'))
    throw invalidConfig('hostname', "it needs a uts namespace, or it would change the host's");
  const process = readProcess(fields.raw('process'));
  return {
    ociVersion,
    root: { path: root.required('path'), readonly: root.flag('readonly') ?? false },
    hostname: hostname === '' ? undefined : hostname,
    domainname: domainname === '' ? undefined : domainname,
    process: linux.personality === undefined ? process : { ...process, personality: linux.personality },
    mounts: fields.list('mounts', readMount),
    annotations: fields.map('annotations', (item, at) => {
      if (typeof item !== 'string') throw invalidConfig(at, `expected a text, found ${show(item)}`);
      return item;
    }),
    hooks: readHooks(fields),
    linux,
    unknown,
  };
}

function readMount(value: unknown, at: string): OciMount {
  const mount = new Fields(value, at, {
    destination: true,
    type: true,
    source: true,
    options: true,
    uidMappings: true,
    gidMappings: true,
  });
  const type = mount.text('type') ?? '';
  const source = mount.text('source') ?? '';
  const uidMappings = mount.list('uidMappings', readIdMap);
  const gidMappings = mount.list('gidMappings', readIdMap);
  if (uidMappings.length > 0 !== gidMappings.length > 0)
    throw invalidConfig(at, 'uidMappings and gidMappings come together');
  return {
    destination: mount.required('destination'),
    ...(type === '' || type === 'none' ? {} : { type }),
    ...(source === '' ? {} : { source }),
    options: mount.texts('options'),
    uidMappings,
    gidMappings,
  };
}

function readHooks(fields: Fields): OciHooks {
  const hooks = fields.object('hooks', Object.fromEntries(HOOK_KINDS.map((kind) => [kind, true as const])));
  if (hooks === undefined) return {};
  return Object.fromEntries(HOOK_KINDS.map((kind) => [kind, hooks.list(kind, readHook)]));
}

function readHook(value: unknown, at: string): OciHook {
  const hook = new Fields(value, at, { path: true, args: true, env: true, timeout: true });
  const path = hook.required('path');
  if (!path.startsWith('/')) throw invalidConfig(hook.path('path'), `${show(path)} is no absolute path`);
  const timeout = hook.integer('timeout', 1, 2_000_000);
  return {
    path,
    args: hook.texts('args'),
    env: hook.texts('env'),
    ...(timeout === undefined ? {} : { timeout }),
  };
}
