/** Directories below a place in which others may rename and link: no name on the way is followed where it is a link. */
import { hasCode } from '../base/index.ts';
import { AT_FDCWD, O, RESOLVE } from './constants.ts';
import { Fd } from './fd.ts';
import { native } from './native.ts';
import { check } from './syscall-error.ts';

const DIRECTORY = O.PATH | O.DIRECTORY | O.CLOEXEC;

/**
 * Makes `path`, which is relative and without "..", below `base`, whose own last name may be no link either. What exists is
 * left as it is. Throws the errno's code: ELOOP or ENOTDIR where a link or a file is in the way.
 */
export function makeDirectoryBeneath(base: string, path: string, mode: number): void {
  let at = new Fd(check(native().openat2(AT_FDCWD, base, DIRECTORY | O.NOFOLLOW, 0, 0), 'open', base));
  try {
    for (const name of path.split('/')) {
      if (name === '' || name === '.') continue;
      const resolve = RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS;
      try {
        check(native().mkdirat(at.number, name, mode), 'mkdir', `${base}/${path}`);
      } catch (error) {
        if (!hasCode(error, 'EEXIST')) throw error;
      }
      const next = check(native().openat2(at.number, name, DIRECTORY, 0, resolve), 'open', `${base}/${path}`);
      at.close();
      at = new Fd(next);
    }
  } finally {
    at.close();
  }
}
