/** An interpreter of classic BPF as seccomp(2) runs it, and the checks that the kernel makes before (net/core/filter.c). */

/** struct seccomp_data. */
export interface Call {
  /** AUDIT_ARCH_*. */
  readonly arch: number;
  readonly nr: number;
  /** Six registers; missing ones are 0. */
  readonly args?: readonly bigint[];
}

export interface Verdict {
  /** What the filter returned. */
  readonly value: number;
  /** Instructions executed. */
  readonly steps: number;
}

/** The seccomp_data of one call: nr, arch, instruction pointer, six arguments. */
function data(call: Call): DataView {
  const view = new DataView(new ArrayBuffer(64));
  view.setUint32(0, call.nr, true);
  view.setUint32(4, call.arch, true);
  for (let i = 0; i < 6; i++) view.setBigUint64(16 + i * 8, call.args?.[i] ?? 0n, true);
  return view;
}

/** Runs a program on one system call. */
export function run(program: Uint8Array, call: Call): Verdict {
  const code = new DataView(program.buffer, program.byteOffset, program.byteLength);
  const input = data(call);
  let a = 0;
  let steps = 0;
  for (let pc = 0; ; pc++) {
    if (pc * 8 >= program.length) throw new Error(`ran off the end at ${pc}`);
    const op = code.getUint16(pc * 8, true);
    const jt = code.getUint8(pc * 8 + 2);
    const jf = code.getUint8(pc * 8 + 3);
    const k = code.getUint32(pc * 8 + 4, true);
    steps += 1;
    switch (op) {
      case 0x20:
        a = input.getUint32(k, true);
        break;
      case 0x54:
        a = (a & k) >>> 0;
        break;
      case 0x05:
        pc += k;
        break;
      case 0x15:
        pc += a === k ? jt : jf;
        break;
      case 0x25:
        pc += a > k ? jt : jf;
        break;
      case 0x35:
        pc += a >= k ? jt : jf;
        break;
      case 0x45:
        pc += (a & k) === 0 ? jf : jt;
        break;
      case 0x06:
        return { value: k, steps };
      default:
        throw new Error(`unexpected instruction 0x${op.toString(16)} at ${pc}`);
    }
  }
}

/** Throws where the kernel would refuse the program: bad jumps, unaligned or foreign loads, no return at the end. */
export function verify(program: Uint8Array): void {
  const count = program.length / 8;
  if (!Number.isInteger(count) || count < 1 || count > 4096) throw new Error(`bad length ${program.length}`);
  const code = new DataView(program.buffer, program.byteOffset, program.byteLength);
  const reachable = new Set([0]);
  for (let pc = 0; pc < count; pc++) {
    const op = code.getUint16(pc * 8, true);
    const k = code.getUint32(pc * 8 + 4, true);
    // A return may be left over after a nearer copy of it was written; nothing else is dead.
    if (!reachable.has(pc) && op !== 0x06) throw new Error(`instruction ${pc} is never reached`);
    if (op === 0x06) continue;
    const next: number[] = [];
    if (op === 0x05) next.push(pc + 1 + k);
    else if (op === 0x20 || op === 0x54) next.push(pc + 1);
    else next.push(pc + 1 + code.getUint8(pc * 8 + 2), pc + 1 + code.getUint8(pc * 8 + 3));
    if (op === 0x20 && (k % 4 !== 0 || k >= 64)) throw new Error(`load of offset ${k} at ${pc}`);
    for (const target of next) {
      if (target >= count) throw new Error(`jump out of the program at ${pc}`);
      reachable.add(target);
    }
  }
}
