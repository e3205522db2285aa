/** An interpreter for the eBPF that device programs use, and the structural check that the kernel's verifier makes. */
export interface DeviceAccess {
  readonly type: 'b' | 'c';
  readonly major: number;
  readonly minor: number;
  /** Bits: mknod 1, read 2, write 4. */
  readonly access: number;
}

export function allowed(program: Uint8Array, request: DeviceAccess): boolean {
  const view = new DataView(program.buffer, program.byteOffset, program.byteLength);
  const context = [(request.access << 16) | (request.type === 'b' ? 1 : 2), request.major, request.minor];
  // Registers hold garbage until they are written, so that a read of an unset one shows.
  const registers: (number | undefined)[] = [undefined, 0, undefined, undefined, undefined, undefined];
  const read = (r: number) => {
    const value = registers[r];
    if (value === undefined) throw new Error(`register ${r} is read before it is written`);
    return value;
  };
  for (let pc = 0; pc * 8 < program.length; pc++) {
    const code = view.getUint8(pc * 8);
    const dst = view.getUint8(pc * 8 + 1) & 15;
    const src = view.getUint8(pc * 8 + 1) >> 4;
    const offset = view.getInt16(pc * 8 + 2, true);
    const imm = view.getInt32(pc * 8 + 4, true) >>> 0;
    switch (code) {
      case 0x61:
        if (src !== 1 || offset % 4 !== 0 || offset > 8) throw new Error(`load at ${pc}`);
        registers[dst] = context[offset / 4];
        break;
      case 0x54:
        registers[dst] = (read(dst) & imm) >>> 0;
        break;
      case 0x74:
        registers[dst] = read(dst) >>> imm;
        break;
      case 0xb4:
        registers[dst] = imm;
        break;
      case 0xbc:
        registers[dst] = read(src);
        break;
      case 0x56:
        if (read(dst) !== imm) pc += offset;
        break;
      case 0x16:
        if (read(dst) === imm) pc += offset;
        break;
      case 0x46:
        if ((read(dst) & imm) !== 0) pc += offset;
        break;
      case 0x95:
        return read(0) === 1;
      default:
        throw new Error(`unexpected instruction 0x${code.toString(16)} at ${pc}`);
    }
  }
  throw new Error('ran off the end');
}

/** Throws where the kernel's control flow check would: an instruction that no path reaches, or a path off the end. */
export function verify(program: Uint8Array): void {
  const view = new DataView(program.buffer, program.byteOffset, program.byteLength);
  const count = program.length / 8;
  const seen = new Set<number>();
  const todo = [0];
  while (todo.length > 0) {
    const pc = todo.pop()!;
    if (pc >= count) throw new Error('a path runs off the end');
    if (seen.has(pc)) continue;
    seen.add(pc);
    const code = view.getUint8(pc * 8);
    if (code === 0x95) continue;
    todo.push(pc + 1);
    if ((code & 7) === 6) todo.push(pc + 1 + view.getInt16(pc * 8 + 2, true));
  }
  if (seen.size !== count) throw new Error(`${count - seen.size} instructions are unreachable`);
}
