import { describe, expect, test } from 'vitest';
import { checkSysctls, sysctlPath } from '../../../src/runtime/sysctls.ts';

const OWN = { network: true, ipc: true };

describe('the name of a kernel parameter', () => {
  test.each([
    ['net.ipv4.ip_forward', 'net/ipv4/ip_forward'],
    ['net/ipv4/conf/eth0.100/forwarding', 'net/ipv4/conf/eth0.100/forwarding'],
    ['net.ipv4.conf.eth0/100.forwarding', 'net/ipv4/conf/eth0.100/forwarding'],
    ['kernel.shm_rmid_forced', 'kernel/shm_rmid_forced'],
  ])('%s is %s below /proc/sys', (name, path) => {
    expect(sysctlPath(name)).toBe(path);
  });

  test.each([
    '',
    'net',
    '.net.ipv4',
    'net..ipv4',
    'net/../kernel/core_pattern',
    'net/./x',
    'net.ipv4.a b',
    'net/ipv4/',
    '/net/x',
    'net.a\nb',
  ])('%j is none', (name) => {
    expect(() => sysctlPath(name)).toThrow(expect.objectContaining({ code: 'SYSCTL_REFUSED' }));
  });
});

describe('a pod may set', () => {
  test('what its own namespaces hold', () => {
    const asked = {
      'net.core.somaxconn': '1',
      'fs.mqueue.msg_max': '20',
      'kernel.sem': '1 2 3 4',
      'kernel.msgmax': '8',
    };
    expect(checkSysctls(asked, OWN)).toEqual({
      'net/core/somaxconn': '1',
      'fs/mqueue/msg_max': '20',
      'kernel/sem': '1 2 3 4',
      'kernel/msgmax': '8',
    });
  });

  test.each([
    ['the machine’s', { 'kernel.core_pattern': '|/x' }, OWN, 'belongs to no namespace'],
    ['one that only begins like the pod’s', { 'kernel.shmfoo': '1' }, OWN, 'belongs to no namespace'],
    ['one behind another spelling', { 'kernel/core_pattern': '|/x' }, OWN, 'belongs to no namespace'],
    ['virtual memory', { 'vm.overcommit_memory': '1' }, OWN, 'belongs to no namespace'],
    [
      'net.* on the network of the host (CVE-2022-0532)',
      { 'net.ipv4.ip_forward': '1' },
      { network: false, ipc: true },
      'network of the host',
    ],
    [
      'kernel.shm* with the IPC of the host (CVE-2022-0532)',
      { 'kernel.shmmax': '1' },
      { network: true, ipc: false },
      'IPC namespace of the host',
    ],
    [
      'fs.mqueue.* with the IPC of the host',
      { 'fs.mqueue.msg_max': '1' },
      { network: true, ipc: false },
      'IPC namespace of the host',
    ],
    ['two lines', { 'net.core.somaxconn': '1\n2' }, OWN, 'no value in one line'],
    ['nothing', { 'net.core.somaxconn': '' }, OWN, 'no value in one line'],
  ])('but not %s', (_, sysctls, own, message) => {
    expect(() => checkSysctls(sysctls as Record<string, string>, own)).toThrow(message);
  });
});
