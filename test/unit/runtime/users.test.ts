import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type LinuxContainerSecurityContext, SupplementalGroupsPolicy } from '../../../src/cri/index.ts';
import { MAX_ID, resolveUser } from '../../../src/runtime/users.ts';

const USERS = {
  passwd: [
    { name: 'root', uid: 0, gid: 0, home: '/root' },
    { name: 'app', uid: 1000, gid: 1001, home: '/home/app' },
    { name: '2000', uid: 7, gid: 7, home: '/seven' },
    { name: 'huge', uid: MAX_ID + 1, gid: 0, home: '/' },
  ],
  group: [
    { name: 'app', gid: 1001, members: [] },
    { name: 'audio', gid: 29, members: ['app', 'other'] },
    { name: 'video', gid: 44, members: ['app'] },
    { name: 'impossible', gid: MAX_ID + 1, members: ['app'] },
  ],
};

const resolve = (security: LinuxContainerSecurityContext, imageUser = '') =>
  resolveUser(security, imageUser, USERS);

describe('a container runs as', () => {
  test.each([
    ['root, where nobody says', {}, '', { uid: 0, gid: 0, groups: [0], home: '/root' }],
    [
      'the image’s user, with its groups',
      {},
      'app',
      { uid: 1000, gid: 1001, groups: [29, 44, 1001], home: '/home/app' },
    ],
    ['the image’s user by number', {}, '1000', { uid: 1000, gid: 1001, groups: [29, 44, 1001] }],
    ['the image’s user and group', {}, 'app:audio', { uid: 1000, gid: 29, groups: [29, 44] }],
    [
      'the image’s ids, known to nobody',
      {},
      '4711:4712',
      { uid: 4711, gid: 4712, groups: [4712], home: '/' },
    ],
    // CVE-2016-3697
    ['a number as a number, though a user has it as a name', {}, '2000', { uid: 2000, gid: 0, home: '/' }],
    [
      'the pod’s user instead of the image’s',
      { runAsUser: { value: 0 } },
      'app',
      { uid: 0, gid: 0, home: '/root' },
    ],
    [
      'the pod’s user and group',
      { runAsUser: { value: 5 }, runAsGroup: { value: 6 } },
      'app',
      { uid: 5, gid: 6, groups: [6] },
    ],
    ['a named user of the request', { runAsUsername: 'app' }, '', { uid: 1000, gid: 1001 }],
    ['what the request adds', { supplementalGroups: [9, 1, 9] }, '', { groups: [0, 1, 9] }],
    [
      'only what the request adds, where it is strict',
      { supplementalGroups: [9], supplementalGroupsPolicy: SupplementalGroupsPolicy.Strict },
      'app',
      { groups: [9, 1001] },
    ],
  ] as const)('%s', (_, security, imageUser, expected) => {
    expect(resolve(security as LinuxContainerSecurityContext, imageUser)).toMatchObject(expected);
  });

  test.each([
    [
      'a user that the image does not have',
      {},
      'nobody',
      /USER of the image: user "nobody" is not in the image's \/etc\/passwd/,
    ],
    [
      'a group that the image does not have',
      {},
      'app:wheel',
      /group "wheel" is not in the image's \/etc\/group/,
    ],
    // CVE-2024-40635
    [
      'an id beyond what a container may have',
      {},
      String(MAX_ID + 1),
      /"2147483648" is not between 0 and 2147483647/,
    ],
    ['a negative id', {}, '-1', /"-1" is not between/],
    ['a user of the image with such an id', {}, 'huge', /user "huge": 2147483648 is not between/],
    ['a group without a user', { runAsGroup: { value: 1 } }, '', /runAsGroup is set without runAsUser/],
    [
      'a group of the request out of range',
      { supplementalGroups: [-5] },
      '',
      /supplementalGroups: -5 is not between/,
    ],
  ] as const)('not as %s', (_, security, imageUser, message) => {
    expect(() => resolve(security as LinuxContainerSecurityContext, imageUser)).toThrow(message);
  });

  test('nobody by surprise: any text is a user of the image, an id in range, or an error', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 12 }), (text) => {
        let user: { uid: number; gid: number; groups: readonly number[] };
        try {
          user = resolve({}, text);
        } catch (error) {
          expect(error).toMatchObject({ code: 'INVALID_USER' });
          return;
        }
        for (const id of [user.uid, user.gid, ...user.groups]) {
          expect(id).toBeGreaterThanOrEqual(0);
          expect(id).toBeLessThanOrEqual(MAX_ID);
        }
        // CVE-2022-36109: the primary group is among the groups.
        expect(user.groups).toContain(user.gid);
      }),
    );
  });
});
