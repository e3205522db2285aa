import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { defaultCapabilities } from '../../../../src/linux/capabilities.ts';
import {
  ABI_FACTS,
  type Abi,
  compileSeccomp,
  RET,
  RUNTIME_DEFAULT,
  runtimeDefault,
  SeccompCache,
  type SeccompContext,
  syscallNumber,
} from '../../../../src/linux/seccomp/index.ts';
import { run, verify } from './bpf.ts';

const plain: SeccompContext = { capabilities: defaultCapabilities, arch: 'x64', kernel: [6, 1] };
const withCapability = (name: string): SeccompContext => ({
  ...plain,
  capabilities: [...defaultCapabilities, name],
});

function ask(context: SeccompContext, abi: Abi, call: string | number, ...args: bigint[]): number {
  const { program } = compileSeccomp(runtimeDefault(context), { arch: context.arch });
  const nr = typeof call === 'number' ? call : syscallNumber(abi, call)!;
  return run(program, { arch: ABI_FACTS[abi].audit, nr, args }).value;
}

const [ALLOW, EPERM, ENOSYS] = [RET.ALLOW, RET.ERRNO + 1, RET.ERRNO + 38];

test("the calls that are always allowed are those of moby's profile of June 2026", () => {
  const names = [...RUNTIME_DEFAULT.syscalls![0]!.names].sort();
  expect(new Set(names).size).toBe(361);
  expect(createHash('sha256').update(names.join('\n')).digest('hex')).toBe(
    'a07ed6db11df44e39dba8124a8763b954eb49b5a28582b077817162c759e6d48',
  );
});

test('it compiles for both machines, without unknown names, to a program that the kernel would load', () => {
  for (const arch of ['x64', 'arm64'] as const) {
    const compiled = compileSeccomp(runtimeDefault({ ...plain, arch }), { arch });
    verify(compiled.program);
    expect(compiled.unknown).toEqual([]);
    expect(compiled.flags).toBe(0);
    expect(compiled.instructions).toBeLessThan(320);
  }
});

test('no call takes more than 14 steps before its arguments are looked at, on any ABI', () => {
  const { program } = compileSeccomp(runtimeDefault(plain), { arch: 'x64' });
  for (const abi of ['x86_64', 'i386', 'x32'] as const) {
    for (let i = 0; i < 600; i++) {
      const nr = abi === 'x32' ? 0x4000_0000 + i : i;
      expect(run(program, { arch: ABI_FACTS[abi].audit, nr }).steps).toBeLessThanOrEqual(14);
    }
  }
});

describe('without extra capabilities', () => {
  test.each<[string, Abi, string | number, bigint[], number]>([
    ['read', 'x86_64', 'read', [], ALLOW],
    ['mount', 'x86_64', 'mount', [], EPERM],
    ['keyctl', 'x86_64', 'keyctl', [], EPERM],
    ['bpf', 'x86_64', 'bpf', [], EPERM],
    ['io_uring_setup', 'x86_64', 'io_uring_setup', [], EPERM],
    ['userfaultfd', 'x86_64', 'userfaultfd', [], EPERM],
    ['unshare', 'x86_64', 'unshare', [], EPERM],
    ['chroot: SYS_CHROOT is among the 14', 'x86_64', 'chroot', [], ALLOW],
    ['clone of a thread', 'x86_64', 'clone', [0x003d_0f00n], ALLOW],
    ['clone of a process', 'x86_64', 'clone', [0x11n], ALLOW],
    ['clone into a new user namespace', 'x86_64', 'clone', [0x1000_0011n], EPERM],
    ['clone into a new mount namespace, rubbish above', 'x86_64', 'clone', [0xff_0002_0011n], EPERM],
    ['clone3', 'x86_64', 'clone3', [], ENOSYS],
    ['socket AF_INET', 'x86_64', 'socket', [2n], ALLOW],
    ['socket AF_NFC', 'x86_64', 'socket', [39n], ALLOW],
    ['socket AF_XDP', 'x86_64', 'socket', [44n], ALLOW],
    ['socket AF_ALG', 'x86_64', 'socket', [38n], EPERM],
    ['socket AF_VSOCK', 'x86_64', 'socket', [40n], EPERM],
    ['socket AF_ALG, rubbish above', 'x86_64', 'socket', [0x1_0000_0026n], EPERM],
    ['socket AF_VSOCK, rubbish above', 'x86_64', 'socket', [0xffff_ffff_0000_0028n], EPERM],
    ['socket AF_ALG on i386', 'i386', 'socket', [38n], EPERM],
    ['socketcall on i386, as moby', 'i386', 'socketcall', [1n], ALLOW],
    ['socket AF_ALG on x32', 'x32', 'socket', [38n], EPERM],
    ['personality PER_LINUX', 'x86_64', 'personality', [0n], ALLOW],
    ['personality query, as a C library passes it', 'x86_64', 'personality', [0xffff_ffffn], ALLOW],
    ['personality query, sign-extended', 'x86_64', 'personality', [0xffff_ffff_ffff_ffffn], ALLOW],
    ['personality ADDR_NO_RANDOMIZE', 'x86_64', 'personality', [0x4_0000n], EPERM],
    ['ptrace', 'x86_64', 'ptrace', [], ALLOW],
    ['arch_prctl', 'x86_64', 'arch_prctl', [], ALLOW],
    ['a call newer than the profile', 'x86_64', 999, [], ENOSYS],
    ['listns, newer than the profile', 'x86_64', 'listns', [], ENOSYS],
    ['adjtimex', 'x86_64', 'adjtimex', [], ALLOW],
    ['clock_settime', 'x86_64', 'clock_settime', [], EPERM],
    ['waitpid on i386', 'i386', 'waitpid', [], ALLOW],
    ['mmap on x32', 'x32', 'mmap', [], ALLOW],
  ])('%s (%s)', (_, abi, call, args, expected) => {
    expect(ask(plain, abi, call, ...args)).toBe(expected);
  });

  test.each<[string, Abi, string, bigint[], number]>([
    ['openat', 'arm64', 'openat', [], ALLOW],
    ['mount', 'arm64', 'mount', [], EPERM],
    ['socket AF_ALG', 'arm64', 'socket', [38n], EPERM],
    ['cacheflush', 'arm', 'cacheflush', [], ALLOW],
    ['sync_file_range2', 'arm', 'sync_file_range2', [], ALLOW],
    ['clone3', 'arm', 'clone3', [], ENOSYS],
  ])('on arm64: %s (%s)', (_, abi, call, args, expected) => {
    expect(ask({ ...plain, arch: 'arm64' }, abi, call, ...args)).toBe(expected);
  });

  test('ptrace needs a kernel that cannot be cheated by a tracer, 4.8', () => {
    expect(ask({ ...plain, kernel: [4, 7] }, 'x86_64', 'ptrace')).toBe(EPERM);
    expect(ask({ ...plain, kernel: [4, 8] }, 'x86_64', 'ptrace')).toBe(ALLOW);
  });
});

describe('a capability', () => {
  test.each<[string, string, bigint[]]>([
    ['CAP_DAC_READ_SEARCH', 'open_by_handle_at', []],
    ['CAP_SYS_ADMIN', 'mount', []],
    ['CAP_SYS_ADMIN', 'clone3', []],
    ['CAP_SYS_ADMIN', 'clone', [0x1000_0011n]],
    ['CAP_SYS_ADMIN', 'lsm_list_modules', []],
    ['CAP_SYS_BOOT', 'reboot', []],
    ['CAP_SYS_MODULE', 'finit_module', []],
    ['CAP_SYS_PACCT', 'acct', []],
    ['CAP_SYS_PTRACE', 'kcmp', []],
    ['CAP_SYS_RAWIO', 'iopl', []],
    ['CAP_SYS_TIME', 'clock_settime', []],
    ['CAP_SYS_TTY_CONFIG', 'vhangup', []],
    ['CAP_SYS_NICE', 'mbind', []],
    ['CAP_SYSLOG', 'syslog', []],
    ['CAP_BPF', 'bpf', []],
    ['CAP_PERFMON', 'perf_event_open', []],
  ])('%s opens %s', (capability, call, args) => {
    expect(ask(plain, 'x86_64', call, ...args)).not.toBe(ALLOW);
    expect(ask(withCapability(capability), 'x86_64', call, ...args)).toBe(ALLOW);
  });

  test('CAP_SYS_CHROOT, when dropped, takes chroot away', () => {
    expect(ask({ ...plain, capabilities: [] }, 'x86_64', 'chroot')).toBe(EPERM);
  });
});

describe('the cache', () => {
  test('gives one program to containers that the profile cannot tell apart', () => {
    const cache = new SeccompCache();
    const first = cache.runtimeDefault(plain);
    expect(cache.runtimeDefault({ ...plain, capabilities: [...plain.capabilities, 'CAP_NET_ADMIN'] })).toBe(
      first,
    );
    expect(cache.runtimeDefault(withCapability('CAP_SYS_ADMIN'))).not.toBe(first);
    expect(cache.runtimeDefault({ ...plain, arch: 'arm64' })).not.toBe(first);
    expect(cache.runtimeDefault(plain)).toBe(first);
  });

  test('tells profiles apart by identity and forgets the ones that are least used', () => {
    const cache = new SeccompCache();
    const profiles = Array.from({ length: 70 }, () => ({ defaultAction: 'SCMP_ACT_ALLOW' as const }));
    const first = cache.compile(profiles[0]!, plain);
    const second = cache.compile(profiles[1]!, plain);
    expect(second).not.toBe(first);
    for (const profile of profiles) {
      cache.compile(profile, plain);
      expect(cache.compile(profiles[0]!, plain)).toBe(first);
    }
    expect(cache.compile(profiles[1]!, plain)).not.toBe(second);
  });
});
