/** The terminal of a container that is created for somebody else: its master goes to the socket that they listen on. */
import { basename, dirname } from 'node:path';
import { NodeletError } from '../../base/index.ts';
import { AT_FDCWD, O } from '../../linux/constants.ts';
import { Fd } from '../../linux/fd.ts';
import { native } from '../../linux/native.ts';
import { check } from '../../linux/syscall-error.ts';
import { usage } from './errors.ts';

/** A detached terminal needs somebody who takes it, and nobody takes what is not there. Throws OCI_USAGE. */
export function checkConsole(terminal: boolean, detached: boolean, socket: string | undefined): void {
  if (terminal && detached && socket === undefined)
    throw usage('process.terminal: a detached container needs --console-socket for its terminal');
  if (socket !== undefined && !(terminal && detached))
    throw usage(
      '--console-socket: there is no terminal to hand over',
      'it goes with process.terminal and --detach',
    );
}

/** Connects; a name may be longer than a socket address, so its directory is named by a descriptor. Throws OCI_CONSOLE. */
export function connectConsole(path: string): Fd {
  try {
    using directory = new Fd(
      check(native().openat2(AT_FDCWD, dirname(path), O.PATH | O.DIRECTORY, 0, 0), 'open', dirname(path)),
    );
    const name = `/proc/self/fd/${directory.number}/${basename(path)}`;
    return new Fd(check(native().connectStream(name), 'connect', path));
  } catch (error) {
    throw new NodeletError('OCI_CONSOLE', `cannot reach the console socket ${JSON.stringify(path)}`, {
      cause: error,
      hint: 'whoever takes the terminal has to listen there first',
    });
  }
}

/** The text beside the descriptor is the terminal's name, as runc sends it. */
export function sendConsole(socket: Fd, master: Fd): void {
  check(native().sendmsg(socket.number, Buffer.from('/dev/ptmx'), [master.number]), 'sendmsg');
}
