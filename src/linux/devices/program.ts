/**
 * Device rules as an eBPF program of type BPF_PROG_TYPE_CGROUP_DEVICE (Linux 4.15), which cgroup v2 asks at every open
 * and mknod of a device node. It gets `struct bpf_cgroup_dev_ctx { u32 access_type, major, minor }`, where access_type
 * is access << 16 | type, and answers 1 to allow.
 */
import { NodeletError } from '../../base/index.ts';
import { ALL_ACCESS, type CheckedDeviceRule, checkDeviceRules, type DeviceRule } from './rules.ts';

/** BPF_DEVCG_DEV_*. */
const TYPE = { b: 1, c: 2 } as const;

// Instruction codes of linux/bpf.h, only those that are used. JMP32 (Linux 5.1) compares the lower halves, so that no
// immediate is sign-extended.
const LOAD_WORD = 0x61; // dst = *(u32 *)(src + off)
const AND32 = 0x54; // dst &= imm
const SHIFT_RIGHT32 = 0x74; // dst >>= imm
const MOVE32 = 0xb4; // dst = imm
const COPY32 = 0xbc; // dst = src
const JNE32 = 0x56;
const JEQ32 = 0x16;
const JSET32 = 0x46;
const EXIT = 0x95;

// Registers: 0 answer, 1 context, 2 type, 3 access bits that are still undecided, 4 major, 5 minor.
const [ANSWER, CONTEXT, KIND, ACCESS, MAJOR, MINOR] = [0, 1, 2, 3, 4, 5];

interface Instruction {
  readonly code: number;
  readonly dst: number;
  readonly src?: number;
  readonly offset?: number;
  readonly imm?: number;
  /** A jump to where this label is set. */
  readonly to?: string;
}

/** The program as `struct bpf_insn[]`, 8 bytes each. Throws DEVICE_RULE_INVALID. */
export function deviceProgram(rules: readonly DeviceRule[]): Uint8Array {
  const code: Instruction[] = [
    { code: LOAD_WORD, dst: KIND, src: CONTEXT, offset: 0 },
    { code: COPY32, dst: ACCESS, src: KIND },
    { code: SHIFT_RIGHT32, dst: ACCESS, imm: 16 },
    { code: AND32, dst: KIND, imm: 0xffff },
    { code: LOAD_WORD, dst: MAJOR, src: CONTEXT, offset: 4 },
    { code: LOAD_WORD, dst: MINOR, src: CONTEXT, offset: 8 },
  ];
  const labels = new Map<string, number>();
  // The last rule that matches wins, so the last one is asked first. A rule that decides everything ends the list: the
  // verifier refuses instructions that cannot be reached.
  const reversed = checkDeviceRules(rules).toReversed();
  const final = reversed.findIndex((rule) => matchesAll(rule) && rule.access === ALL_ACCESS);
  const asked = final < 0 ? reversed : reversed.slice(0, final);
  const last = final >= 0 && reversed[final]!.allow;
  for (const [i, rule] of asked.entries()) {
    code.push(...ruleCode(rule, `rule ${i + 1}`));
    labels.set(`rule ${i + 1}`, code.length);
  }
  // What is left undecided is decided here: the last rule of the list, or nobody spoke of it.
  const answer = (value: number): Instruction[] => [
    { code: MOVE32, dst: ANSWER, imm: value },
    { code: EXIT, dst: ANSWER },
  ];
  const targets = new Set(code.map((one) => one.to));
  code.push(...answer(last ? 1 : 0));
  for (const [label, value] of [
    ['allow', 1],
    ['deny', 0],
  ] as const) {
    if (!targets.has(label)) continue;
    labels.set(label, code.length);
    code.push(...answer(value));
  }
  return encode(code, labels);
}

function matchesAll(rule: CheckedDeviceRule): boolean {
  return rule.type === 'a' && rule.major === undefined && rule.minor === undefined;
}

function ruleCode(rule: CheckedDeviceRule, next: string): Instruction[] {
  const code: Instruction[] = [];
  if (rule.type !== 'a') code.push({ code: JNE32, dst: KIND, imm: TYPE[rule.type], to: next });
  if (rule.major !== undefined) code.push({ code: JNE32, dst: MAJOR, imm: rule.major, to: next });
  if (rule.minor !== undefined) code.push({ code: JNE32, dst: MINOR, imm: rule.minor, to: next });
  if (rule.allow) {
    code.push({ code: AND32, dst: ACCESS, imm: ALL_ACCESS & ~rule.access });
    code.push({ code: JEQ32, dst: ACCESS, imm: 0, to: 'allow' });
  } else {
    code.push({ code: JSET32, dst: ACCESS, imm: rule.access, to: 'deny' });
  }
  return code;
}

/** A jump's offset is a signed 16-bit number. */
const MAX_JUMP = 0x7fff;

function encode(code: readonly Instruction[], labels: ReadonlyMap<string, number>): Uint8Array {
  const bytes = new Uint8Array(code.length * 8);
  const view = new DataView(bytes.buffer);
  for (const [i, one] of code.entries()) {
    const offset = one.to === undefined ? (one.offset ?? 0) : labels.get(one.to)! - i - 1;
    if (offset > MAX_JUMP) {
      throw new NodeletError(
        'DEVICE_RULE_INVALID',
        `cannot use ${labels.size} device rules: the program is too long`,
        {
          details: { field: 'devices' },
        },
      );
    }
    view.setUint8(i * 8, one.code);
    view.setUint8(i * 8 + 1, one.dst | ((one.src ?? 0) << 4));
    view.setInt16(i * 8 + 2, offset, true);
    view.setInt32(i * 8 + 4, one.imm ?? 0, true);
  }
  return bytes;
}
