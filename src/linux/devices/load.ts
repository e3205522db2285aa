import { NodeletError } from '../../base/index.ts';
import { Fd } from '../fd.ts';
import { native } from '../native.ts';
import { check, errnoName } from '../syscall-error.ts';
import { deviceProgram } from './program.ts';
import type { DeviceRule } from './rules.ts';

/** The verifier gives up (EAGAIN) where a signal is pending, a profiler's for example. */
const ATTEMPTS = 100;
const EAGAIN = 11;

/** Name of the program, as `bpftool prog` shows it. */
const NAME = 'nodelet_device';

/**
 * Compiles and loads the rules. The program lives as long as the descriptor or a cgroup that it is attached to.
 * Throws DEVICE_RULE_INVALID, DEVICE_PROGRAM_REFUSED (needs CAP_BPF or CAP_SYS_ADMIN).
 */
export function loadDeviceProgram(rules: readonly DeviceRule[]): Fd {
  const program = deviceProgram(rules);
  let result = native().bpfLoadDevice(program, NAME);
  for (let i = 1; i < ATTEMPTS && typeof result !== 'number' && result.errno === EAGAIN; i++)
    result = native().bpfLoadDevice(program, NAME);
  if (typeof result === 'number') return new Fd(check(result, 'bpf'));
  throw new NodeletError(
    'DEVICE_PROGRAM_REFUSED',
    `cannot load the device program: ${errnoName(result.errno)}`,
    {
      hint:
        result.errno === 1
          ? 'run as root with CAP_SYS_ADMIN or CAP_BPF'
          : 'the kernel needs CONFIG_BPF_SYSCALL and CONFIG_CGROUP_BPF',
      details: { errno: result.errno, log: result.log },
    },
  );
}

/** Programs of child cgroups are asked as well, and all have to allow. */
const BPF_F_ALLOW_MULTI = 2;

/** Attaches a program to a cgroup v2 directory; it goes with the directory. Throws a SyscallError. */
export function attachDeviceProgram(cgroup: Fd, program: Fd): void {
  check(
    native().bpfAttachDevice(cgroup.number, program.number, BPF_F_ALLOW_MULTI),
    'attach the device program',
  );
}

/** Ids of the device programs attached to a cgroup v2 directory itself. */
export function attachedDevicePrograms(cgroup: Fd): number[] {
  const result = native().bpfQueryDevice(cgroup.number);
  return typeof result === 'number' ? check<number[]>(result, 'query device programs') : result;
}
