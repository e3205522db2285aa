/** The system call filter that a request asks for, compiled once for each distinct need. */
import { readFileSync } from 'node:fs';
import { hasCode, NodeletError } from '../base/index.ts';
import { type LinuxContainerSecurityContext, ProfileType } from '../cri/index.ts';
import {
  type ConditionalSeccomp,
  type MachineArch,
  parseSeccompProfile,
  SeccompCache,
} from '../linux/seccomp/index.ts';
import type { SeccompProgram } from './launch/context.ts';

/** Files whose parsed profile is kept. */
const KEPT = 64;

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
   * Undefined for Unconfined and for a privileged container. A Localhost profile that cannot be read fails closed
   * (CVE-2023-2431). Throws SECCOMP_PROFILE_NOT_FOUND, SECCOMP_PROFILE_INVALID.
   */
  of(security: LinuxContainerSecurityContext, capabilities: readonly string[]): SeccompProgram | undefined {
    if (security.privileged === true) return undefined;
    const context = { capabilities, arch: this.#arch, kernel: this.#kernel };
    const type = security.seccomp?.profileType ?? ProfileType.RuntimeDefault;
    switch (type) {
      case ProfileType.Unconfined:
        return undefined;
      case ProfileType.RuntimeDefault: {
        const { program, flags } = this.#cache.runtimeDefault(context);
        return { filter: program, flags };
      }
      case ProfileType.Localhost: {
        const { program, flags } = this.#cache.compile(
          this.#profile(security.seccomp?.localhostRef ?? ''),
          context,
        );
        return { filter: program, flags };
      }
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
