import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { capabilityNames } from '../../../src/linux/capabilities.ts';
import { differingNamespaces, groupByNamespace, parseNamespaceLink } from '../../../src/linux/namespaces.ts';
import {
  parseCgroup,
  parseIdMap,
  parseKernelVersion,
  parseLimits,
  parseMeminfo,
  parseStat,
  parseStatus,
} from '../../../src/linux/procfs.ts';

const STATUS = `Name:	a\\nb\\\\c
Umask:	0022
State:	S (sleeping)
Tgid:	41
Ngid:	0
Pid:	42
PPid:	1
TracerPid:	0
Uid:	1000	1001	1002	1003
Gid:	5	6	7	8
FDSize:	64
Groups:	4 24 100 
NSpid:	42	7	1
VmHWM:	    2048 kB
VmRSS:	    1744 kB
VmSwap:	       0 kB
Threads:	3
CapInh:	0000000000000000
CapPrm:	00000000a80425fb
CapEff:	0000000000000400
CapBnd:	000001ffffffffff
CapAmb:	0000000000000000
NoNewPrivs:	1
Seccomp:	2
Seccomp_filters:	1
Cpus_allowed:	3
Cpus_allowed_list:	0-1
Mems_allowed_list:	0
`;

describe('status', () => {
  test('of a process', () => {
    const status = parseStatus(STATUS);
    expect(status).toMatchObject({
      name: 'a\nb\\c',
      state: 'S',
      tgid: 41,
      pid: 42,
      ppid: 1,
      uids: [1000, 1001, 1002, 1003],
      gids: [5, 6, 7, 8],
      groups: [4, 24, 100],
      namespacePids: [42, 7, 1],
      threads: 3,
      umask: 0o022,
      residentBytes: 1744 * 1024,
      peakResidentBytes: 2048 * 1024,
      swapBytes: 0,
      noNewPrivileges: true,
      seccompMode: 2,
      seccompFilters: 1,
      cpusAllowed: '0-1',
      memsAllowed: '0',
    });
    expect(capabilityNames(status.capabilities.effective)).toEqual(['CAP_NET_BIND_SERVICE']);
    expect(status.capabilities.permitted).toBe(0xa804_25fbn);
  });

  test('of a kernel thread has no memory; an empty list of groups is empty', () => {
    const status = parseStatus(STATUS.replaceAll(/^Vm.*\n/gm, '').replace('4 24 100 ', ' '));
    expect(status.residentBytes).toBeUndefined();
    expect(status.groups).toEqual([]);
  });

  test('without a field that has to be there is refused', () => {
    expect(() => parseStatus(STATUS.replace('PPid', 'Ppid'))).toThrow(
      expect.objectContaining({ code: 'PROC_FORMAT', message: expect.stringContaining('"PPid"') }),
    );
  });
});

describe('stat', () => {
  const line = (command: string) =>
    `42 (${command}) S 1 40 39 34816 41 4194560 1019 0 0 0 11 22 0 0 20 0 3 0 8412 4538368 870 18446744073709551615 1 1 0 0\n`;

  test('of a process', () => {
    expect(parseStat(line('sh'))).toEqual({
      pid: 42,
      command: 'sh',
      state: 'S',
      ppid: 1,
      processGroup: 40,
      session: 39,
      userTicks: 11,
      systemTicks: 22,
      threads: 3,
      startTime: 8412,
    });
  });

  test('is not misled by what a process calls itself', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('a', ' ', ')', '(', '\n', '1'), maxLength: 15 }),
        (command) => {
          expect(parseStat(line(command))).toMatchObject({ command, ppid: 1, startTime: 8412 });
        },
      ),
    );
  });

  test.each(['', '42', '42 (sh', '42 (sh) S 1 2', '42 sh S 1'])('refuses %j', (text) => {
    expect(() => parseStat(text)).toThrow(expect.objectContaining({ code: 'PROC_FORMAT' }));
  });
});

describe('cgroup', () => {
  test('of a hybrid host', () => {
    expect(parseCgroup('9:name=systemd:/\n4:cpu,cpuacct:/a:b/c\n0::/nodelet/x (deleted)\n')).toEqual([
      { hierarchy: 9, controllers: ['name=systemd'], path: '/' },
      { hierarchy: 4, controllers: ['cpu', 'cpuacct'], path: '/a:b/c' },
      { hierarchy: 0, controllers: [], path: '/nodelet/x (deleted)' },
    ]);
  });

  test('that is none is refused', () => {
    expect(() => parseCgroup('0:/x')).toThrow(expect.objectContaining({ code: 'PROC_FORMAT' }));
  });
});

test('limits: names with spaces, units that are missing, unlimited', () => {
  const limits = parseLimits(`Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max open files            1024                 20000                files     
Max nice priority         0                    0                    
`);
  expect(limits.get('Max cpu time')).toEqual({ soft: 'unlimited', hard: 'unlimited', unit: 'seconds' });
  expect(limits.get('Max open files')).toEqual({ soft: 1024, hard: 20_000, unit: 'files' });
  expect(limits.get('Max nice priority')).toEqual({ soft: 0, hard: 0, unit: '' });
  expect(() => parseLimits('head\nMax 1')).toThrow(expect.objectContaining({ code: 'PROC_FORMAT' }));
});

test('id maps, also the one that maps everything', () => {
  expect(parseIdMap('         0     100000      65536\n     65536          7          1\n')).toEqual([
    { inside: 0, outside: 100_000, count: 65_536 },
    { inside: 65_536, outside: 7, count: 1 },
  ]);
  expect(parseIdMap('         0          0 4294967295\n')[0]?.count).toBe(4_294_967_295);
  expect(parseIdMap('')).toEqual([]);
  expect(() => parseIdMap('0 0\n')).toThrow(expect.objectContaining({ code: 'PROC_FORMAT' }));
});

test('meminfo: kilobytes become bytes, counts stay', () => {
  const info = parseMeminfo('MemTotal:       24684000 kB\nHugePages_Total:       4\nActive(anon):  8 kB\n');
  expect(info.get('MemTotal')).toBe(24_684_000 * 1024);
  expect(info.get('HugePages_Total')).toBe(4);
  expect(info.get('Active(anon)')).toBe(8192);
});

test.each([
  ['6.18.44-fc-v657\n', 6, 18],
  ['5.10.0-28-cloud-amd64', 5, 10],
  ['7.0-rc1', 7, 0],
])('kernel %s', (release, major, minor) => {
  expect(parseKernelVersion(release)).toEqual({ major, minor, release: release.trim() });
});

test('parsers answer any text with data or PROC_FORMAT', () => {
  const parsers = [
    parseStatus,
    parseStat,
    parseCgroup,
    parseLimits,
    parseIdMap,
    parseMeminfo,
    parseKernelVersion,
  ];
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc
      .array(fc.constantFrom('Name:\tx', '1:2:/3', 'Max a  1  2  s', '1 2 3', '7 (x) S 1', 'a:  5 kB'))
      .map((l) => l.join('\n')),
  );
  fc.assert(
    fc.property(text, (given) => {
      for (const parse of parsers) {
        try {
          parse(given);
        } catch (error) {
          expect(error).toMatchObject({ code: 'PROC_FORMAT' });
        }
      }
    }),
  );
});

describe('namespaces', () => {
  test('links', () => {
    expect(parseNamespaceLink('net:[4026531840]')).toBe(4_026_531_840);
    for (const bad of ['', 'net', 'net:[x]', '/proc/1/ns/net'])
      expect(parseNamespaceLink(bad)).toBeUndefined();
  });

  test('differences, also where one side lacks a kind', () => {
    expect(differingNamespaces({ net: 1, mnt: 2 }, { net: 1, mnt: 3, time: 4 })).toEqual(['mnt', 'time']);
  });

  test('grouping: who shares what', () => {
    expect(
      groupByNamespace([
        [30, { net: 5, mnt: 9 }],
        [20, { net: 5, mnt: 8 }],
      ]),
    ).toEqual([
      { kind: 'mnt', inode: 8, pids: [20] },
      { kind: 'mnt', inode: 9, pids: [30] },
      { kind: 'net', inode: 5, pids: [20, 30] },
    ]);
  });
});
