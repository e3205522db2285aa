/** HOME, where whoever asked for the container has not said it: from the root's own /etc/passwd. */
import { closeSync, fstatSync, readFileSync } from 'node:fs';
import { AT_FDCWD, O, RESOLVE } from '../../linux/constants.ts';
import { Fd } from '../../linux/fd.ts';
import { native } from '../../linux/native.ts';
import type { OciProcess } from '../launch/spec.ts';

/** As the image room reads no more of it either. */
const MAX_SIZE = 10 * 1024 * 1024;

/** The file is the image's: no link in it leads out, and it is no pipe. */
function readPasswd(root: string): string {
  const directory = native().openat2(AT_FDCWD, root, O.PATH | O.DIRECTORY, 0, 0);
  if (directory < 0) return '';
  using base = new Fd(directory);
  const resolve = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS;
  const fd = native().openat2(base.number, 'etc/passwd', O.RDONLY | O.NONBLOCK, 0, resolve);
  if (fd < 0) return '';
  try {
    const stat = fstatSync(fd);
    return stat.isFile() && stat.size <= MAX_SIZE ? readFileSync(fd, 'utf8') : '';
  } finally {
    closeSync(fd);
  }
}

/** The process with HOME in its environment. `root`: a directory of this mount namespace that holds the container's files. */
export function withHome(process: OciProcess, root: string): OciProcess {
  if (process.env.some((entry) => /^HOME=./.test(entry))) return process;
  const home = readPasswd(root)
    .split('\n')
    .map((line) => line.split(':'))
    .find((fields) => fields.length >= 6 && fields[2] === String(process.user.uid))?.[5];
  const env = process.env.filter((entry) => !entry.startsWith('HOME='));
  return { ...process, env: [...env, `HOME=${home === undefined || home === '' ? '/' : home}`] };
}
