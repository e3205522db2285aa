/**
 * /etc/passwd and /etc/group of an image. The parsers are pure; the reader walks the layers itself, so that a link to
 * the host's files, a pipe or a file of a gigabyte does no harm (CVE-2024-9676, CVE-2025-4437).
 */
import { closeSync, readSync } from 'node:fs';
import { NodeletError } from '../base/index.ts';
import { S_IF } from '../linux/constants.ts';
import type { GroupEntry, ImageUsers, PasswdEntry } from './types.ts';
import { isKind } from './unpack/tree.ts';
import { LayerView, openRegular } from './unpack/view.ts';

/** containerd reads no more either. */
export const maxUserFile = 10 * 1024 * 1024;

/** 2^32 - 1 is no id but "none". */
function parseId(text: string): number | undefined {
  if (!/^\d{1,10}$/.test(text)) return undefined;
  const id = Number(text);
  return id <= 0xffff_fffe ? id : undefined;
}

function fieldsOf(text: string): string[][] {
  return text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#') && !line.startsWith('+') && !line.startsWith('-'))
    .map((line) => line.split(':'));
}

/** passwd(5): `name:password:uid:gid:gecos:home:shell`. Lines that are none are left out, as libc does. */
export function parsePasswd(text: string): PasswdEntry[] {
  return fieldsOf(text).flatMap(([name = '', , uidText = '', gidText = '', , home = '']) => {
    const uid = parseId(uidText);
    const gid = parseId(gidText);
    return name === '' || uid === undefined || gid === undefined ? [] : [{ name, uid, gid, home }];
  });
}

/** group(5): `name:password:gid:member,member`. */
export function parseGroup(text: string): GroupEntry[] {
  return fieldsOf(text).flatMap(([name = '', , gidText = '', memberText = '']) => {
    const gid = parseId(gidText);
    if (name === '' || gid === undefined) return [];
    return [{ name, gid, members: memberText.split(',').filter((member) => member !== '') }];
  });
}

/** Reads both files from a stack of layers, the topmost first. Throws IMAGE_FILE_INVALID. */
export function readUsers(layers: readonly string[], image: string): ImageUsers {
  if (layers.length === 0) return { passwd: [], group: [] };
  using view = new LayerView(layers);
  return {
    passwd: parsePasswd(readText(view, 'etc/passwd', image)),
    group: parseGroup(readText(view, 'etc/group', image)),
  };
}

/** A text file of the image, links inside it followed; "" where it is absent. */
function readText(view: LayerView, path: string, image: string): string {
  return view.at(path, true, (found) => {
    if (found === undefined) return '';
    const fail = (reason: string): NodeletError =>
      new NodeletError('IMAGE_FILE_INVALID', `cannot read "/${path}" of image ${image}: ${reason}`);
    const { node } = found;
    if (!isKind(node.stat, S_IF.REG)) throw fail('it is no regular file');
    if (node.stat.size > maxUserFile) throw fail(`it has ${node.stat.size} bytes, more than ${maxUserFile}`);
    const fd = openRegular(node);
    try {
      const buffer = Buffer.alloc(node.stat.size);
      let size = 0;
      for (let more = 1; more > 0 && size < buffer.length; size += more)
        more = readSync(fd, buffer, size, buffer.length - size, null);
      return buffer.toString('utf8', 0, size);
    } finally {
      closeSync(fd);
    }
  });
}
