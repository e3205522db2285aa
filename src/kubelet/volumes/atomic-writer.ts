/**
 * Projects a set of files into a directory so that a reader sees all of the old or all of the new ones: they are written
 * to a new directory, and one rename of a link publishes them. The layout is upstream's, which programs rely on:
 *
 *   <target>/..2026_01_02_15_04_05.x1Yz/key    the files
 *   <target>/..data -> ..2026_01_02_15_04_05.x1Yz
 *   <target>/key -> ..data/key                 what a container opens
 */
import {
  chmodSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { failpoint, hasCode, NodeletError } from '../../base/index.ts';

export interface ProjectedFile {
  readonly data: Uint8Array;
  readonly mode: number;
}

/** Files by relative path. */
export type Payload = ReadonlyMap<string, ProjectedFile>;

const DATA = '..data';
const NEW_DATA = '..data_tmp';
const MAX_PATH = 4096;
const MAX_NAME = 255;

/** Owner and permissions given to everything of a volume for the pod's fsGroup: it may read, and enter directories. */
export interface GroupAccess {
  readonly gid: number;
}

/** Returns true where something changed. Throws INVALID_PAYLOAD for paths that would leave the directory. */
export function writeAtomically(target: string, payload: Payload, now: Date, group?: GroupAccess): boolean {
  const files = cleanPayload(payload);
  const old = currentDirectory(target);
  collectLeftovers(target, old);
  const changed = old === undefined || !sameContent(join(target, old), files);
  if (changed) {
    const fresh = writeVersion(target, files, now, group);
    symlinkSync(fresh, join(target, NEW_DATA));
    failpoint('atomic-writer:before-publish');
    renameSync(join(target, NEW_DATA), join(target, DATA));
  }
  linkVisible(target, files, group);
  removeInvisible(target, files);
  if (changed && old !== undefined) rmSync(join(target, old), { recursive: true, force: true });
  return changed;
}

function cleanPayload(payload: Payload): Map<string, ProjectedFile> {
  const files = new Map<string, ProjectedFile>();
  for (const [path, file] of payload) {
    const problem = pathProblem(path);
    if (problem !== undefined) {
      throw new NodeletError('INVALID_PAYLOAD', `cannot write ${JSON.stringify(path)}: ${problem}`);
    }
    files.set(normalize(path).replace(/\/+$/, ''), file);
  }
  return files;
}

function pathProblem(path: string): string | undefined {
  if (path === '') return 'the path is empty';
  if (path.startsWith('/')) return 'the path is absolute';
  if (path.length > MAX_PATH) return `the path is longer than ${MAX_PATH} characters`;
  const parts = path.split('/');
  if (parts.includes('..')) return "the path contains '..'";
  if (parts.some((part) => part.length > MAX_NAME)) return `a name is longer than ${MAX_NAME} characters`;
  return parts[0]?.startsWith('..') ? "the path starts with '..'" : undefined;
}

function currentDirectory(target: string): string | undefined {
  try {
    return readlinkSync(join(target, DATA));
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** What a crash between two steps left: versions that were never published, or not yet removed. */
function collectLeftovers(target: string, current: string | undefined): void {
  for (const name of readdirSync(target)) {
    if (!name.startsWith('..') || name === DATA || name === current) continue;
    rmSync(join(target, name), { recursive: true, force: true });
  }
}

/** True where every file stands with its content and mode, and no other. */
function sameContent(version: string, files: ReadonlyMap<string, ProjectedFile>): boolean {
  const seen = filesBelow(version, '');
  if (seen.length !== files.size) return false;
  return seen.every((path) => {
    const file = files.get(path);
    return file !== undefined && Buffer.compare(readFileSync(join(version, path)), file.data) === 0;
  });
}

function filesBelow(root: string, at: string): string[] {
  const entries = readdirSync(join(root, at), { withFileTypes: true });
  return entries.flatMap((entry) => {
    const path = at === '' ? entry.name : `${at}/${entry.name}`;
    return entry.isDirectory() ? filesBelow(root, path) : [path];
  });
}

function writeVersion(
  target: string,
  files: ReadonlyMap<string, ProjectedFile>,
  now: Date,
  group: GroupAccess | undefined,
): string {
  const stamp = now.toISOString().slice(0, 19).replace(/[-:T]/g, '_');
  const version = mkdtempSync(join(target, `..${stamp}.`));
  chmodSync(version, 0o755);
  for (const [path, file] of files) {
    const full = join(version, path);
    mkdirSync(dirname(full), { recursive: true, mode: 0o755 });
    writeFileSync(full, file.data, { mode: file.mode });
    // again: the umask had a say
    chmodSync(full, file.mode);
    failpoint('atomic-writer:after-file');
  }
  if (group !== undefined) giveToGroup(version, group);
  return version.slice(target.length + 1);
}

/** Read access for the group, directories enterable and setgid: what upstream gives read-only volumes. */
function giveToGroup(path: string, group: GroupAccess): void {
  const info = lstatSync(path);
  lchownSync(path, info.uid, group.gid);
  if (info.isSymbolicLink()) return;
  if (!info.isDirectory()) {
    chmodSync(path, (info.mode & 0o7777) | 0o440);
    return;
  }
  chmodSync(path, (info.mode & 0o7777) | 0o2550);
  for (const name of readdirSync(path)) giveToGroup(join(path, name), group);
}

/** First path components, each of which is one link in the volume's root. */
function visibleNames(files: ReadonlyMap<string, ProjectedFile>): Set<string> {
  return new Set([...files.keys()].map((path) => path.split('/')[0] ?? ''));
}

function linkVisible(
  target: string,
  files: ReadonlyMap<string, ProjectedFile>,
  group: GroupAccess | undefined,
): void {
  for (const name of visibleNames(files)) {
    const link = join(target, name);
    if (isLink(link)) continue;
    symlinkSync(join(DATA, name), link);
    if (group !== undefined) lchownSync(link, 0, group.gid);
  }
}

function removeInvisible(target: string, files: ReadonlyMap<string, ProjectedFile>): void {
  const visible = visibleNames(files);
  for (const name of readdirSync(target)) {
    if (name.startsWith('..') || visible.has(name) || !isLink(join(target, name))) continue;
    rmSync(join(target, name));
  }
}

function isLink(path: string): boolean {
  try {
    return lstatSync(path).isSymbolicLink();
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false;
    throw error;
  }
}
