/**
 * AppArmor and SELinux. What a request demands of them is given, or refused by name: a profile that is passed over in silence
 * would leave a container less confined than its author believes.
 */
import { execFile } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { promisify } from 'node:util';
import { hasCode, messageOf, NodeletError } from '../base/index.ts';
import {
  type LinuxContainerSecurityContext,
  ProfileType,
  type SELinuxOption,
  type SecurityProfile,
} from '../cri/index.ts';
import { DEFAULT_APPARMOR_PROFILE, defaultAppArmorProfile } from './apparmor-profile.ts';

/** What the security modules of this machine can do. */
export interface SecurityModules {
  readonly selinux: boolean;
  /** The kernel enforces profiles. */
  readonly apparmor: boolean;
  /** The program that loads them, where there is one. */
  readonly apparmorParser: string | undefined;
}

/** The AppArmor profile that a container's processes begin under. */
export type AppArmorDemand =
  | { readonly kind: 'none' }
  | { readonly kind: 'default' }
  | { readonly kind: 'loaded'; readonly name: string };

/** `runtime/default`, `unconfined` and `localhost/NAME` of the field that came before SecurityProfile. */
function deprecatedProfile(text: string): SecurityProfile | undefined {
  switch (text) {
    case '':
      return undefined;
    case 'runtime/default':
      return { profileType: ProfileType.RuntimeDefault };
    case 'unconfined':
      return { profileType: ProfileType.Unconfined };
    default:
      if (text.startsWith('localhost/')) return { profileType: ProfileType.Localhost, localhostRef: text };
      throw new NodeletError(
        'APPARMOR_PROFILE_INVALID',
        `apparmorProfile: ${JSON.stringify(text.slice(0, 100))} is no profile`,
        { hint: 'use "runtime/default", "unconfined" or "localhost/NAME"' },
      );
  }
}

/**
 * As containerd: without a word in the request a container has the default profile where profiles can be loaded, a privileged
 * one none. Throws APPARMOR_UNAVAILABLE where a profile is demanded that this machine cannot enforce,
 * APPARMOR_PROFILE_INVALID.
 */
export function appArmorDemand(
  security: LinuxContainerSecurityContext,
  modules: SecurityModules,
): AppArmorDemand {
  const requested = security.apparmor ?? deprecatedProfile(security.apparmorProfile ?? '');
  const loadable = modules.apparmor && modules.apparmorParser !== undefined;
  const privileged = security.privileged === true;
  if (requested === undefined) return loadable && !privileged ? { kind: 'default' } : { kind: 'none' };
  const type = requested.profileType ?? ProfileType.RuntimeDefault;
  if (type === ProfileType.Unconfined) return { kind: 'none' };
  if (!modules.apparmor) {
    throw new NodeletError(
      'APPARMOR_UNAVAILABLE',
      `apparmor: the profile ${nameOf(requested)} is demanded, and the kernel of this machine has no AppArmor`,
      { hint: 'leave the profile out or use Unconfined, or boot with "lsm=…,apparmor"' },
    );
  }
  if (type === ProfileType.RuntimeDefault) {
    if (privileged) return { kind: 'none' };
    if (!loadable) {
      throw new NodeletError(
        'APPARMOR_UNAVAILABLE',
        'apparmor: the default profile cannot be loaded: there is no apparmor_parser on this machine',
        { hint: 'install the package apparmor' },
      );
    }
    return { kind: 'default' };
  }
  const name = (requested.localhostRef ?? '').replace(/^localhost\//, '');
  if (name === '' || /[\0\n]/.test(name) || name.length > 255)
    throw new NodeletError(
      'APPARMOR_PROFILE_INVALID',
      `apparmor.localhostRef: ${JSON.stringify(name.slice(0, 100))} is no name of a profile`,
      { hint: 'use the name of a profile that is loaded: apparmor_parser -r FILE' },
    );
  return { kind: 'loaded', name };
}

function nameOf(profile: SecurityProfile): string {
  return (profile.profileType ?? ProfileType.RuntimeDefault) === ProfileType.RuntimeDefault
    ? 'RuntimeDefault'
    : JSON.stringify(profile.localhostRef ?? '');
}

/** Throws SELINUX_UNAVAILABLE where a label is demanded. */
export function checkSelinux(
  options: SELinuxOption | undefined,
  field: string,
  modules: SecurityModules,
): void {
  const { user = '', role = '', type = '', level = '' } = options ?? {};
  const label = [user, role, type, level].join(':');
  if (label === ':::') return;
  throw new NodeletError(
    'SELINUX_UNAVAILABLE',
    `${field}: the label ${JSON.stringify(label)} is demanded, and ${
      modules.selinux
        ? 'SELinux labels are not given by this runtime'
        : 'the kernel of this machine has no SELinux'
    }`,
    { hint: 'leave seLinuxOptions out' },
  );
}

function yes(path: string): boolean {
  try {
    return readFileSync(path, 'utf8').startsWith('Y');
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'EACCES', 'ENOTDIR')) return false;
    throw error;
  }
}

function exists(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

const PARSERS = ['/sbin/apparmor_parser', '/usr/sbin/apparmor_parser', '/usr/local/sbin/apparmor_parser'];

export function probeSecurityModules(): SecurityModules {
  const apparmor = yes('/sys/module/apparmor/parameters/enabled');
  return {
    selinux: exists('/sys/fs/selinux/policyvers'),
    apparmor,
    apparmorParser: apparmor ? PARSERS.find(exists) : undefined,
  };
}

/** Names of the loaded profiles; undefined where the kernel's list cannot be read. */
function loadedProfiles(): ReadonlySet<string> | undefined {
  try {
    const text = readFileSync('/sys/kernel/security/apparmor/profiles', 'utf8');
    return new Set(text.split('\n').map((line) => line.replace(/ \([a-z]+\)$/, '')));
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'EACCES', 'EPERM')) return undefined;
    throw error;
  }
}

const run = promisify(execFile);

/** Loads the default profile once, and says by name what a container begins under. */
export class AppArmorProfiles {
  readonly #modules: SecurityModules;
  #loading: Promise<void> | undefined;

  constructor(modules: SecurityModules) {
    this.#modules = modules;
  }

  /** Undefined: none. Throws as appArmorDemand, APPARMOR_PROFILE_NOT_FOUND, APPARMOR_UNAVAILABLE. */
  async profile(security: LinuxContainerSecurityContext): Promise<string | undefined> {
    const demand = appArmorDemand(security, this.#modules);
    switch (demand.kind) {
      case 'none':
        return undefined;
      case 'default':
        this.#loading ??= this.#load();
        try {
          await this.#loading;
        } catch (error) {
          this.#loading = undefined; // the next container tries again
          throw error;
        }
        return DEFAULT_APPARMOR_PROFILE;
      case 'loaded':
        // Where the list is out of sight the kernel itself refuses an unknown name, at the start.
        if (loadedProfiles()?.has(demand.name) !== false) return demand.name;
        throw new NodeletError(
          'APPARMOR_PROFILE_NOT_FOUND',
          `apparmor: the profile ${JSON.stringify(demand.name)} is not loaded`,
          { hint: 'load it first: apparmor_parser -r FILE' },
        );
    }
  }

  async #load(): Promise<void> {
    if (loadedProfiles()?.has(DEFAULT_APPARMOR_PROFILE) === true) return;
    try {
      const loading = run(this.#modules.apparmorParser ?? 'apparmor_parser', ['-Kr'], { timeout: 10_000 });
      // A parser that ends before it has read everything says why by its exit.
      loading.child.stdin?.on('error', () => {});
      loading.child.stdin?.end(defaultAppArmorProfile());
      await loading;
    } catch (error) {
      throw new NodeletError(
        'APPARMOR_UNAVAILABLE',
        `apparmor: cannot load the default profile: ${messageOf(error)}`,
        { cause: error },
      );
    }
  }
}
