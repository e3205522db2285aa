/** Who a container runs as: CRI's security context, the image's USER and its /etc/passwd and /etc/group. Pure. */
import { NodeletError } from '../base/index.ts';
import { type LinuxContainerSecurityContext, SupplementalGroupsPolicy } from '../cri/index.ts';
import type { ImageUsers } from '../image/index.ts';

export interface ResolvedUser {
  readonly uid: number;
  readonly gid: number;
  /** All groups of the process, its primary one included, ascending, each once. */
  readonly groups: readonly number[];
  /** Home directory for HOME. */
  readonly home: string;
}

/** Highest id that a container may have, as containerd: 2^31 - 1 (CVE-2024-40635). */
export const MAX_ID = 0x7fff_ffff;

interface Chosen {
  readonly uid: number;
  readonly gid: number;
  readonly name: string | undefined;
  readonly home: string | undefined;
}

function invalid(message: string, hint?: string): NodeletError {
  return new NodeletError('INVALID_USER', message, hint === undefined ? {} : { hint });
}

/** A number that is an id, or undefined where the text is no number. Throws INVALID_USER out of range. */
export function parseId(text: string, what: string): number | undefined {
  if (!/^-?\d+$/.test(text)) return undefined;
  const id = Number(text);
  if (!Number.isSafeInteger(id) || id < 0 || id > MAX_ID)
    throw invalid(`${what} ${JSON.stringify(text)} is not between 0 and ${MAX_ID}`);
  return id;
}

function checkId(id: number, field: string): number {
  if (!Number.isSafeInteger(id) || id < 0 || id > MAX_ID) {
    throw invalid(`${field}: ${id} is not between 0 and ${MAX_ID}`);
  }
  return id;
}

function byUid(users: ImageUsers, uid: number): Chosen {
  const entry = users.passwd.find((one) => one.uid === uid);
  return { uid, gid: entry?.gid ?? 0, name: entry?.name, home: entry?.home };
}

/** A number is an id, never a name (CVE-2016-3697). */
function byText(users: ImageUsers, text: string, where: string): Chosen {
  const uid = parseId(text, `${where}: user`);
  if (uid !== undefined) return byUid(users, uid);
  const entry = users.passwd.find((one) => one.name === text);
  if (entry === undefined) {
    throw invalid(
      `${where}: user ${JSON.stringify(text)} is not in the image's /etc/passwd`,
      'set runAsUser to a number, or use a user that the image has',
    );
  }
  return {
    uid: checkId(entry.uid, `/etc/passwd of the image: user ${JSON.stringify(text)}`),
    gid: entry.gid,
    name: entry.name,
    home: entry.home,
  };
}

function groupId(users: ImageUsers, text: string, where: string): number {
  const gid = parseId(text, `${where}: group`);
  if (gid !== undefined) return gid;
  const entry = users.group.find((one) => one.name === text);
  if (entry === undefined) {
    throw invalid(
      `${where}: group ${JSON.stringify(text)} is not in the image's /etc/group`,
      'set runAsGroup to a number, or use a group that the image has',
    );
  }
  return checkId(entry.gid, `/etc/group of the image: group ${JSON.stringify(text)}`);
}

function choose(security: LinuxContainerSecurityContext, imageUser: string, users: ImageUsers): Chosen {
  const runAsUser = security.runAsUser?.value;
  const runAsGroup = security.runAsGroup?.value;
  let chosen: Chosen;
  if (security.runAsUser !== undefined) chosen = byUid(users, checkId(runAsUser ?? 0, 'runAsUser'));
  else if ((security.runAsUsername ?? '') !== '')
    chosen = byText(users, security.runAsUsername ?? '', 'runAsUsername');
  else {
    if (security.runAsGroup !== undefined)
      throw invalid('runAsGroup is set without runAsUser or runAsUsername');
    const [user, group] = splitUser(imageUser);
    chosen = user === '' ? byUid(users, 0) : byText(users, user, 'USER of the image');
    if (group !== undefined) return { ...chosen, gid: groupId(users, group, 'USER of the image') };
  }
  return security.runAsGroup === undefined
    ? chosen
    : { ...chosen, gid: checkId(runAsGroup ?? 0, 'runAsGroup') };
}

function splitUser(text: string): [string, string | undefined] {
  const colon = text.indexOf(':');
  return colon < 0 ? [text, undefined] : [text.slice(0, colon), text.slice(colon + 1)];
}

/**
 * Merge (the default) adds the groups of which the image's /etc/group makes the user a member; Strict takes only those of
 * the request. The primary group is always among them, so that dropping it grants nothing (CVE-2022-36109).
 */
export function resolveUser(
  security: LinuxContainerSecurityContext,
  imageUser: string,
  users: ImageUsers,
): ResolvedUser {
  const chosen = choose(security, imageUser, users);
  const groups = new Set<number>([chosen.gid]);
  if (
    (security.supplementalGroupsPolicy ?? SupplementalGroupsPolicy.Merge) ===
      SupplementalGroupsPolicy.Merge &&
    chosen.name !== undefined
  ) {
    for (const group of users.group) {
      if (group.members.includes(chosen.name) && group.gid <= MAX_ID) groups.add(group.gid);
    }
  }
  for (const gid of security.supplementalGroups ?? []) groups.add(checkId(gid, 'supplementalGroups'));
  return {
    uid: chosen.uid,
    gid: chosen.gid,
    groups: [...groups].sort((a, b) => a - b),
    home: chosen.home || '/',
  };
}
