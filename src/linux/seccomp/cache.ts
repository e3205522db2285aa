import { compileSeccomp } from './compile.ts';
import { RUNTIME_DEFAULT } from './default-profile.ts';
import { resolveSeccomp } from './resolve.ts';
import type { CompiledSeccomp, ConditionalSeccomp, SeccompContext } from './types.ts';

/** How many compiled programs are kept; a node has few distinct capability sets. */
const KEPT = 64;

/**
 * Compiled profiles, by what they depend on. Two containers whose capabilities differ only in ones that the profile
 * does not ask for share a program; the key is the profile as resolved, not the container.
 */
export class SeccompCache {
  readonly #programs = new Map<string, CompiledSeccomp>();
  /** Capabilities that a profile's conditions name, in order. */
  readonly #asked = new WeakMap<ConditionalSeccomp, readonly string[]>();
  readonly #ids = new WeakMap<ConditionalSeccomp, number>();
  #nextId = 0;

  /** The RuntimeDefault profile for a container. */
  runtimeDefault(context: SeccompContext): CompiledSeccomp {
    return this.compile(RUNTIME_DEFAULT, context);
  }

  /** A profile for a container. The profile object must not change afterwards: it is its own key. */
  compile(profile: ConditionalSeccomp, context: SeccompContext): CompiledSeccomp {
    const key = this.#key(profile, context);
    let program = this.#programs.get(key);
    if (program === undefined) {
      program = compileSeccomp(resolveSeccomp(profile, context), { arch: context.arch });
    } else {
      this.#programs.delete(key);
    }
    // Last in the map is latest used.
    this.#programs.set(key, program);
    const [oldest] = this.#programs.keys();
    if (this.#programs.size > KEPT && oldest !== undefined) this.#programs.delete(oldest);
    return program;
  }

  #key(profile: ConditionalSeccomp, context: SeccompContext): string {
    let asked = this.#asked.get(profile);
    if (asked === undefined) {
      asked = [
        ...new Set(
          (profile.syscalls ?? []).flatMap((r) => [...(r.includes?.caps ?? []), ...(r.excludes?.caps ?? [])]),
        ),
      ];
      this.#asked.set(profile, asked);
      this.#ids.set(profile, this.#nextId++);
    }
    const capabilities = asked.filter((capability) => context.capabilities.includes(capability));
    return [this.#ids.get(profile), context.arch, context.kernel.join('.'), ...capabilities].join(' ');
  }
}
