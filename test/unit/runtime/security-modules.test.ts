import { describe, expect, test } from 'vitest';
import { type LinuxContainerSecurityContext, ProfileType } from '../../../src/cri/index.ts';
import {
  AppArmorProfiles,
  appArmorDemand,
  checkSelinux,
  type SecurityModules,
} from '../../../src/runtime/security-modules.ts';

const NONE: SecurityModules = { selinux: false, apparmor: false, apparmorParser: undefined };
const KERNEL: SecurityModules = { ...NONE, apparmor: true };
const WHOLE: SecurityModules = { ...KERNEL, apparmorParser: '/sbin/apparmor_parser' };

const localhost = (localhostRef: string): LinuxContainerSecurityContext => ({
  apparmor: { profileType: ProfileType.Localhost, localhostRef },
});
const DEFAULT: LinuxContainerSecurityContext = { apparmor: { profileType: ProfileType.RuntimeDefault } };
const UNCONFINED: LinuxContainerSecurityContext = { apparmor: { profileType: ProfileType.Unconfined } };

describe('AppArmor', () => {
  test.each([
    ['nothing, without a word on a kernel without it', {}, NONE, { kind: 'none' }],
    ['nothing, where it is not wanted', UNCONFINED, NONE, { kind: 'none' }],
    [
      'nothing, where it is not wanted by the older field',
      { apparmorProfile: 'unconfined' },
      WHOLE,
      { kind: 'none' },
    ],
    ['the default profile, without a word where it can be loaded', {}, WHOLE, { kind: 'default' }],
    ['nothing, without a word where it cannot be loaded', {}, KERNEL, { kind: 'none' }],
    ['the default profile on demand', DEFAULT, WHOLE, { kind: 'default' }],
    [
      'the default profile by the older field',
      { apparmorProfile: 'runtime/default' },
      WHOLE,
      { kind: 'default' },
    ],
    ['nothing for a privileged container', { ...DEFAULT, privileged: true }, WHOLE, { kind: 'none' }],
    [
      'the profile that is named, also privileged',
      { ...localhost('mine'), privileged: true },
      KERNEL,
      { kind: 'loaded', name: 'mine' },
    ],
    [
      'the profile that is named as it was once',
      { apparmorProfile: 'localhost/mine' },
      KERNEL,
      { kind: 'loaded', name: 'mine' },
    ],
    [
      'the newer field over the older',
      { ...localhost('localhost/new'), apparmorProfile: 'localhost/old' },
      KERNEL,
      { kind: 'loaded', name: 'new' },
    ],
  ] as const)('gives %s', (_, security, modules, demand) => {
    expect(appArmorDemand(security, modules)).toEqual(demand);
  });

  test.each([
    ['a named profile on a kernel without it', localhost('mine'), NONE, 'APPARMOR_UNAVAILABLE'],
    ['the default profile on a kernel without it', DEFAULT, NONE, 'APPARMOR_UNAVAILABLE'],
    ['the same by the older field', { apparmorProfile: 'runtime/default' }, NONE, 'APPARMOR_UNAVAILABLE'],
    ['the default profile without a parser', DEFAULT, KERNEL, 'APPARMOR_UNAVAILABLE'],
    ['a profile without a name', localhost(''), WHOLE, 'APPARMOR_PROFILE_INVALID'],
    ['two lines for a name', localhost('a\nb'), WHOLE, 'APPARMOR_PROFILE_INVALID'],
    ['a word that is no profile', { apparmorProfile: 'strict' }, WHOLE, 'APPARMOR_PROFILE_INVALID'],
  ] as const)('refuses %s', (_, security, modules, code) => {
    expect(() => appArmorDemand(security, modules)).toThrow(expect.objectContaining({ code }));
  });

  test('says what could not be loaded, and tries again', async () => {
    const profiles = new AppArmorProfiles({ ...WHOLE, apparmorParser: '/bin/false' });
    for (let i = 0; i < 2; i += 1)
      await expect(profiles.profile(DEFAULT)).rejects.toMatchObject({ code: 'APPARMOR_UNAVAILABLE' });
  });
});

describe('SELinux', () => {
  test('is not missed where no label is demanded', () => {
    expect(() => checkSelinux(undefined, 'x', NONE)).not.toThrow();
    expect(() => checkSelinux({ user: '', level: '' }, 'x', NONE)).not.toThrow();
  });

  test('is refused by the name of the field and the label', () => {
    expect(() => checkSelinux({ type: 'container_t', level: 's0:c1' }, 'a.selinuxOptions', NONE)).toThrow(
      expect.objectContaining({
        code: 'SELINUX_UNAVAILABLE',
        message: expect.stringMatching(/a\.selinuxOptions.*"::container_t:s0:c1".*no SELinux/),
      }),
    );
  });
});
