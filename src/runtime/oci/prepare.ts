/** From config.json to what the launch-plan compiler takes: defaults of an OCI runtime, paths of the bundle, id maps. */
import { realpathSync, statSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { capabilityNames, parseCapability } from '../../linux/capabilities.ts';
import { type CgroupHost } from '../../linux/cgroups/index.ts';
import { CLONE, O } from '../../linux/constants.ts';
import { type DeviceRule, defaultDeviceRules } from '../../linux/devices/index.ts';
import { kernelVersion, readStatus } from '../../linux/procfs.ts';
import {
  compileSeccomp,
  type MachineArch,
  parseSeccompProfile,
  resolveSeccomp,
} from '../../linux/seccomp/index.ts';
import { DEFAULT_DEVICES } from '../defaults.ts';
import { idMapText } from '../launch/compile-sandbox.ts';
import type { ContainerContext, FrontContext, SeccompProgram } from '../launch/context.ts';
import type { LaunchPlan } from '../launch/encode.ts';
import { FIRST_PLAN_SLOT, POD_SLOTS } from '../launch/protocol.gen.ts';
import {
  type OciCapabilities,
  type OciIdMap,
  type OciMount,
  type OciNamespace,
  type OciProcess,
  type OciSpec,
  POD_NAMESPACE,
} from '../launch/spec.ts';
import { cgroupView, launchCgroup } from './cgroup.ts';
import type { OciConfig } from './config/index.ts';
import { invalidConfig } from './errors.ts';
import type { OciLog } from './log.ts';
import { withHome } from './users.ts';

export interface Prepared {
  readonly spec: OciSpec;
  /** Run one after another before the container's: they leave user namespaces in the shim's slots. */
  readonly plans: readonly LaunchPlan[];
  readonly context: ContainerContext;
  readonly deviceRules: readonly DeviceRule[];
}

export interface PrepareInput {
  readonly id: string;
  readonly bundle: string;
  readonly config: OciConfig;
  readonly host: CgroupHost;
  readonly cgroup: string;
  readonly front: FrontContext;
}

/** The root's path, which has to be there. Throws OCI_CONFIG_INVALID. */
export function rootOf(bundle: string, config: OciConfig): string {
  const path = isAbsolute(config.root.path) ? config.root.path : join(bundle, config.root.path);
  try {
    const real = realpathSync(path);
    if (statSync(real).isDirectory()) return real;
  } catch {
    // Said below.
  }
  throw invalidConfig('root.path', `${JSON.stringify(path)} is no directory`);
}

export function prepare(input: PrepareInput, log: OciLog): Prepared {
  const { id, bundle, config, host, cgroup, front } = input;
  const root = rootOf(bundle, config);
  const users = new UserNamespaces(config);
  const mounts = config.mounts.map((mount) => bundleMount(mount, bundle, users));
  const process = withHome(availableCapabilities(config.process, log), root);
  const { resources, ...linux } = config.linux;
  const spec: OciSpec = {
    ociVersion: config.ociVersion,
    root: { path: root, readonly: config.root.readonly },
    ...(config.hostname === undefined ? {} : { hostname: config.hostname }),
    ...(config.domainname === undefined ? {} : { domainname: config.domainname }),
    process,
    mounts,
    annotations: config.annotations,
    hooks: config.hooks,
    linux: {
      ...linux,
      namespaces: config.linux.namespaces.map((one) => users.of(one)),
      devices: [
        ...DEFAULT_DEVICES.filter(
          ({ path }) => !(config.linux.devices ?? []).some((device) => device.path === path),
        ),
        ...(config.linux.devices ?? []),
      ],
      cgroupsPath: cgroup,
    },
  };
  const ownCgroups = config.linux.namespaces.some(
    ({ type, path }) => type === 'cgroup' && path === undefined,
  );
  return {
    spec,
    plans: users.plans(),
    deviceRules:
      resources.devices.length === 0
        ? defaultDeviceRules
        : [...resources.devices, ...defaultDeviceRules.filter(({ allow }) => allow)],
    context: {
      id,
      front,
      staging: root,
      overlay: undefined,
      targets: [],
      cgroup: launchCgroup(host, cgroup, resources),
      cgroupView: cgroupView(host, cgroup, ownCgroups),
      streams: { directory: '', log: '', stdin: false },
      terminal: process.terminal === true,
      exitRecord: '',
      seccomp: seccompProgram(config.linux.seccomp, process.capabilities?.bounding ?? [], log),
      deviceProgram: true,
      emptyMounts: false,
      // Only pods have what these decide about.
      features: { cloneDetached: false, sysResource: false },
    },
  };
}

export function seccompProgram(
  profile: string | undefined,
  capabilities: readonly string[],
  log: OciLog,
): SeccompProgram | undefined {
  if (profile === undefined) return undefined;
  const { major, minor } = kernelVersion();
  const arch: MachineArch = process.arch === 'arm64' ? 'arm64' : 'x64';
  const context = { capabilities, arch, kernel: [major, minor] as const };
  const compiled = compileSeccomp(resolveSeccomp(parseSeccompProfile(profile), context), { arch });
  if (compiled.unknown.length > 0)
    log.debug(`seccomp: no architecture has the system calls ${compiled.unknown.join(', ')}`);
  return { filter: compiled.program, flags: compiled.flags };
}

/** What this process does not have it cannot hand on: left out with a warning, as runc does. */
export function availableCapabilities(process: OciProcess, log: OciLog): OciProcess {
  const { capabilities } = process;
  if (capabilities === undefined) return process;
  const available = new Set<string>(capabilityNames(readStatus('self')?.capabilities.bounding ?? 0n));
  const missing = new Set<string>();
  const only = (names: readonly string[] = []) =>
    names.filter((name) => {
      if (available.has(parseCapability(name))) return true;
      missing.add(name);
      return false;
    });
  const granted: OciCapabilities = {
    bounding: only(capabilities.bounding),
    effective: only(capabilities.effective),
    permitted: only(capabilities.permitted),
    inheritable: only(capabilities.inheritable),
    ambient: only(capabilities.ambient),
  };
  if (missing.size > 0)
    log.warn(`capabilities that are not available here are left out: ${[...missing].join(', ')}`);
  return { ...process, capabilities: granted };
}

function bundleMount(mount: OciMount, bundle: string, users: UserNamespaces): OciMount {
  const options = mount.options ?? [];
  const bind = mount.type === 'bind' || options.includes('bind') || options.includes('rbind');
  const source =
    bind && mount.source !== undefined && !isAbsolute(mount.source)
      ? join(bundle, mount.source)
      : mount.source;
  const slot = users.slotOf(mount);
  return {
    ...mount,
    ...(source === undefined ? {} : { source }),
    ...(slot === undefined ? {} : { idMapSlot: slot }),
  };
}

/**
 * User namespaces exist before the container does, and the shim holds them: the container's own, made or joined, and one for
 * each other mapping that a mount asks for.
 */
class UserNamespaces {
  readonly #own: OciNamespace | undefined;
  readonly #uidMap: readonly OciIdMap[];
  readonly #gidMap: readonly OciIdMap[];
  readonly #others = new Map<string, { readonly slot: number; readonly plan: LaunchPlan }>();

  constructor({ linux }: OciConfig) {
    this.#own = linux.namespaces.find(({ type }) => type === 'user');
    this.#uidMap = linux.uidMappings ?? [];
    this.#gidMap = linux.gidMappings ?? [];
  }

  of(namespace: OciNamespace): OciNamespace {
    return namespace.type === 'user' ? { type: 'user', path: POD_NAMESPACE } : namespace;
  }

  /** Undefined where the mount has no mappings, or those of the container. Throws OCI_CONFIG_INVALID. */
  slotOf(mount: OciMount): number | undefined {
    const { uidMappings: uid = [], gidMappings: gid = [] } = mount;
    if (uid.length === 0) return undefined;
    const same = idMapText(uid) === idMapText(this.#uidMap) && idMapText(gid) === idMapText(this.#gidMap);
    if (same && this.#own !== undefined) return undefined;
    const key = `${idMapText(uid)}/${idMapText(gid)}`;
    const known = this.#others.get(key);
    if (known !== undefined) return known.slot;
    const slot = Math.max(...Object.values(POD_SLOTS)) + 1 + this.#others.size;
    if (slot >= FIRST_PLAN_SLOT)
      throw invalidConfig('mounts', `at most ${this.#others.size} different id mappings can be used`);
    this.#others.set(key, { slot, plan: newUserNamespace(`map-${slot}`, uid, gid, slot) });
    return slot;
  }

  plans(): LaunchPlan[] {
    const plans = [...this.#others.values()].map(({ plan }) => plan);
    if (this.#own === undefined) return plans;
    const { path } = this.#own;
    const own =
      path === undefined
        ? newUserNamespace('user', this.#uidMap, this.#gidMap, POD_SLOTS.user)
        : heldNamespace(path, POD_SLOTS.user);
    return [own, ...plans];
  }
}

function newUserNamespace(
  name: string,
  uid: readonly OciIdMap[],
  gid: readonly OciIdMap[],
  pod: number,
): LaunchPlan {
  const out = FIRST_PLAN_SLOT;
  return {
    kind: 'sandbox',
    name,
    operations: [
      {
        op: 'clone',
        flags: CLONE.NEWUSER,
        cgroup: -1,
        uidMap: idMapText(uid),
        gidMap: idMapText(gid),
      },
      { op: 'open', path: '/proc/self/ns/user', open: O.RDONLY, out },
      { op: 'hold', source: out, pod },
      { op: 'finish' },
    ],
  };
}

function heldNamespace(path: string, pod: number): LaunchPlan {
  const out = FIRST_PLAN_SLOT;
  return {
    kind: 'sandbox',
    name: 'user',
    operations: [
      { op: 'open', path, open: O.RDONLY, out },
      { op: 'hold', source: out, pod },
      { op: 'finish' },
    ],
  };
}
