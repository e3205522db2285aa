/**
 * An assembler for classic BPF as seccomp takes it. A program is written from its end to its start: jumps only go
 * forward, so every target exists, at a known distance, when the jump to it is written. Conditional jumps reach 255
 * instructions; where a target is farther, a stepping stone is put in between.
 */
import { NodeletError } from '../../base/index.ts';

/** Instruction codes of linux/bpf_common.h. */
export const BPF = {
  /** A = the 32-bit word at offset k of struct seccomp_data. */
  LOAD: 0x20,
  JUMP: 0x05,
  JEQ: 0x15,
  JGT: 0x25,
  JGE: 0x35,
  JSET: 0x45,
  AND: 0x54,
  RETURN: 0x06,
} as const;

/** BPF_MAXINSNS: the kernel refuses longer programs. */
export const MAX_INSTRUCTIONS = 4096;

const NEAR = 255;

/** A place in the program, counted from its end; what is written later lies before it. */
export type Label = number;

interface Instruction {
  readonly code: number;
  readonly k: number;
  readonly jt: number;
  readonly jf: number;
}

export class Assembler {
  readonly #reversed: Instruction[] = [];
  /** The latest copy of each return. */
  readonly #returns = new Map<number, Label>();

  get length(): number {
    return this.#reversed.length;
  }

  /** Where `RET value` stands; written where it does not stand yet. */
  return(value: number): Label {
    return this.#returns.get(value) ?? this.#writeReturn(value);
  }

  /** A = word at `offset`, then on to `next`. */
  load(offset: number, next: Label): Label {
    this.#fallInto(next);
    return this.#write({ code: BPF.LOAD, k: offset, jt: 0, jf: 0 });
  }

  /** A &= mask, then on to `next`. */
  and(mask: number, next: Label): Label {
    this.#fallInto(next);
    return this.#write({ code: BPF.AND, k: mask, jt: 0, jf: 0 });
  }

  /** Compares A with k; to `yes` or to `no`. */
  branch(code: number, k: number, yes: Label, no: Label): Label {
    if (yes === no) return yes;
    let [t, f] = [yes, no];
    // A stepping stone for one target moves the other one farther away by one.
    for (;;) {
      if (this.#distance(t) > NEAR) t = this.#steppingStone(t);
      else if (this.#distance(f) > NEAR) f = this.#steppingStone(f);
      else break;
    }
    return this.#write({ code, k, jt: this.#distance(t), jf: this.#distance(f) });
  }

  /** The whole program, starting at `entry`, as struct sock_filter[]. Throws SECCOMP_TOO_LONG. */
  finish(entry: Label): Uint8Array {
    this.#fallInto(entry);
    const count = this.#reversed.length;
    if (count > MAX_INSTRUCTIONS) {
      throw new NodeletError(
        'SECCOMP_TOO_LONG',
        `cannot use the seccomp profile: it compiles to ${count} instructions, the kernel takes ${MAX_INSTRUCTIONS}`,
        { hint: 'use fewer rules with arguments, or fewer architectures', details: { instructions: count } },
      );
    }
    const bytes = new Uint8Array(count * 8);
    const view = new DataView(bytes.buffer);
    for (let i = 0; i < count; i++) {
      const { code, k, jt, jf } = this.#reversed[count - 1 - i]!;
      view.setUint16(i * 8, code, true);
      view.setUint8(i * 8 + 2, jt);
      view.setUint8(i * 8 + 3, jf);
      view.setUint32(i * 8 + 4, k, true);
    }
    return bytes;
  }

  /** How far a jump written now would have to go. */
  #distance(label: Label): number {
    return this.#reversed.length - label - 1;
  }

  /** Makes `label` the instruction that follows the next one written. */
  #fallInto(label: Label): void {
    if (this.#distance(label) > 0) this.#steppingStone(label);
  }

  /** A copy of a return costs as much as a jump to it and is one step less; anything else is jumped to. */
  #steppingStone(label: Label): Label {
    const target = this.#reversed[label]!;
    if (target.code === BPF.RETURN) return this.#writeReturn(target.k);
    return this.#write({ code: BPF.JUMP, k: this.#distance(label), jt: 0, jf: 0 });
  }

  #writeReturn(value: number): Label {
    const label = this.#write({ code: BPF.RETURN, k: value, jt: 0, jf: 0 });
    this.#returns.set(value, label);
    return label;
  }

  #write(instruction: Instruction): Label {
    this.#reversed.push(instruction);
    return this.#reversed.length - 1;
  }
}
