/** The system call filter that a request asks for, compiled once for each distinct need. */
import { readFileSync } from 'node:fs';
import { hasCode, NodeletError } from '../base/index.ts';
import { type LinuxContainerSecurityContext, ProfileType, type SecurityProfile } from '../cri/index.ts';
import {
  type ConditionalSeccomp,
  type MachineArch,
  parseSeccompProfile,
  SeccompCache,
} from '../linux/seccomp/index.ts';
import type { SeccompProgram } from './launch/context.ts';

/** Files whose parsed profile is kept. */
const KEPT = 64;

/** `runtime/default`, `unconfined` and `localhost/PATH` of the field that came before SecurityProfile. */
function deprecatedProfile(text: string): SecurityProfile | undefined {
  switch (text) {
    case '':
      return undefined;
    case 'runtime/default':
    case 'docker/default':
      return { profileType: ProfileType.RuntimeDefault };
    case 'unconfined':
      return { profileType: ProfileType.Unconfined };
    default:
      if (text.startsWith('localhost/')) return { profileType: ProfileType.Localhost, localhostRef: text };
      throw new NodeletError(
        'INVALID_ARGUMENT',
        `seccompProfilePath: ${JSON.stringify(text.slice(0, 100))} is no profile`,
        { hint: 'use "runtime/default", "unconfined" or "localhost/PATH"' },
      );
  }
}

export class SeccompPrograms {
  readonly #cache = new SeccompCache();
  readonly #profiles = new Map<string, { readonly text: string; readonly profile: ConditionalSeccomp }>();
  readonly #arch: MachineArch;
  readonly #kernel: readonly [number, number];

  constructor(arch: MachineArch, kernel: readonly [number, number]) {
    this.#arch = arch;
    this.#kernel = kernel;
  }

  /**
   * Undefined for Unconfined, for a request without a word on it (as containerd) and for a privileged container. A Localhost
   * profile that cannot be read fails closed (CVE-2023-2431). Throws SECCOMP_PROFILE_NOT_FOUND, SECCOMP_PROFILE_INVALID.
   */
  of(security: LinuxContainerSecurityContext, capabilities: readonly string[]): SeccompProgram | undefined {
    if (security.privileged === true) return undefined;
    const context = { capabilities, arch: this.#arch, kernel: this.#kernel };
    const requested = security.seccomp ?? deprecatedProfile(security.seccompProfilePath ?? '');
    if (requested === undefined) return undefined;
    const type: number = requested.profileType ?? ProfileType.RuntimeDefault;
    switch (type) {
      case ProfileType.Unconfined:
        return undefined;
      case ProfileType.RuntimeDefault: {
        const { program, flags } = this.#cache.runtimeDefault(context);
        return { filter: program, flags };
      }
      case ProfileType.Localhost: {
        const { program, flags } = this.#cache.compile(
          this.#profile((requested.localhostRef ?? '').replace(/^localhost\//, '')),
          context,
        );
        return { filter: program, flags };
      }
      default:
        throw new NodeletError('INVALID_ARGUMENT', `seccomp.profileType: ${type} is no type of a profile`, {
          hint: 'use 0 (RuntimeDefault), 1 (Unconfined) or 2 (Localhost)',
        });
    }
  }

  /** Read again at every start, so that an edited profile counts; parsed only when its text has changed. */
  #profile(path: string): ConditionalSeccomp {
    if (!path.startsWith('/')) {
      throw new NodeletError(
        'SECCOMP_PROFILE_NOT_FOUND',
        `seccomp: localhostRef ${JSON.stringify(path)} is not an absolute path`,
      );
    }
    let text: string;
    try {
      text = readFileSync(path, 'utf8');
    } catch (error) {
      if (!hasCode(error, 'ENOENT', 'EISDIR', 'ENOTDIR', 'EACCES')) throw error;
      throw new NodeletError(
        'SECCOMP_PROFILE_NOT_FOUND',
        `cannot read the seccomp profile ${JSON.stringify(path)}`,
        { cause: error },
      );
    }
    const known = this.#profiles.get(path);
    if (known?.text === text) return known.profile;
    const profile = parseSeccompProfile(text);
    this.#profiles.delete(path);
    this.#profiles.set(path, { text, profile });
    const [oldest] = this.#profiles.keys();
    if (this.#profiles.size > KEPT && oldest !== undefined) this.#profiles.delete(oldest);
    return profile;
  }
}
