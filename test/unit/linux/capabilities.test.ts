import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  CAPABILITIES,
  type CapabilityRequest,
  capabilityMask,
  capabilityNames,
  defaultCapabilities,
  grantCapabilities,
  parseCapability,
  parseCapabilityMask,
} from '../../../src/linux/capabilities.ts';

const ALL = (1n << 41n) - 1n;

test('there are 41, each at its bit', () => {
  expect(CAPABILITIES).toHaveLength(41);
  expect(CAPABILITIES.indexOf('CAP_CHOWN')).toBe(0);
  expect(CAPABILITIES.indexOf('CAP_SYS_ADMIN')).toBe(21);
  expect(CAPABILITIES.indexOf('CAP_CHECKPOINT_RESTORE')).toBe(40);
  expect(capabilityMask(CAPABILITIES)).toBe(ALL);
});

test('the default set is 14, the mask that Docker containers show', () => {
  expect(defaultCapabilities).toHaveLength(14);
  expect(capabilityMask(defaultCapabilities)).toBe(0xa804_25fbn);
});

test.each(['NET_ADMIN', 'net_admin', 'CAP_NET_ADMIN', 'cap_net_admin'])('%s is CAP_NET_ADMIN', (text) => {
  expect(parseCapability(text)).toBe('CAP_NET_ADMIN');
});

test.each(['', 'CAP_', 'NET ADMIN', 'NET_ADMINS', 'ALL'])('%j is no capability', (text) => {
  expect(() => parseCapability(text)).toThrow(
    expect.objectContaining({
      code: 'CAPABILITY_UNKNOWN',
      message: expect.stringContaining(JSON.stringify(text)),
    }),
  );
});

test('masks and names say the same', () => {
  fc.assert(
    fc.property(fc.bigInt(0n, ALL), (mask) => {
      expect(capabilityMask(capabilityNames(mask))).toBe(mask);
      expect(parseCapabilityMask(mask.toString(16).padStart(16, '0'))).toBe(mask);
    }),
  );
  expect(parseCapabilityMask('xyz')).toBeUndefined();
});

describe('a container gets', () => {
  const names = (request: CapabilityRequest, available = ALL) =>
    grantCapabilities(request, available).capabilities.map((name) => name.slice('CAP_'.length));
  const usual = capabilityNames(capabilityMask(defaultCapabilities)).map((name) => name.slice('CAP_'.length));

  test.each<[string, CapabilityRequest, (list: string[]) => string[]]>([
    ['the default set', {}, (list) => list],
    ['one more', { add: ['SYS_TIME'] }, (list) => [...list, 'SYS_TIME']],
    ['one less', { drop: ['NET_RAW'] }, (list) => list.filter((name) => name !== 'NET_RAW')],
    ['none', { drop: ['ALL'] }, () => []],
    ['one alone', { drop: ['all'], add: ['NET_BIND_SERVICE'] }, () => ['NET_BIND_SERVICE']],
    ['all', { add: ['ALL'] }, () => CAPABILITIES.map((name) => name.slice(4))],
    [
      'all but one',
      { add: ['CAP_ALL'], drop: ['SYS_ADMIN'] },
      () => CAPABILITIES.map((n) => n.slice(4)).filter((n) => n !== 'SYS_ADMIN'),
    ],
    ['none where ALL is added and dropped, as containerd does it', { add: ['ALL'], drop: ['ALL'] }, () => []],
    ['nothing that is added and dropped', { add: ['SYS_TIME'], drop: ['SYS_TIME'] }, (list) => list],
    [
      'everything when privileged, whatever else is said',
      { privileged: true, drop: ['ALL'] },
      () => CAPABILITIES.map((n) => n.slice(4)),
    ],
  ])('%s', (_, request, expected) => {
    expect(names(request).toSorted()).toEqual(expected(usual).toSorted());
  });

  test('only what the host has, and what it lacks is named', () => {
    const available = ALL & ~capabilityMask(['CAP_SYS_RESOURCE', 'CAP_CHOWN']);
    const granted = grantCapabilities({ add: ['SYS_RESOURCE', 'SYS_TIME'] }, available);
    expect(granted.unavailable).toEqual(['CAP_SYS_RESOURCE']);
    expect(granted.capabilities).toContain('CAP_SYS_TIME');
    expect(granted.capabilities).not.toContain('CAP_CHOWN');
    expect(grantCapabilities({ privileged: true }, available).capabilities).toHaveLength(39);
    expect(grantCapabilities({ add: ['ALL'] }, available).unavailable).toEqual([]);
  });

  test('an error for a name that nobody knows', () => {
    expect(() => grantCapabilities({ drop: ['NET_ROW'] }, ALL)).toThrow(/"NET_ROW"/);
  });
});
