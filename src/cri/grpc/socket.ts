/** A unix socket for one server: 0600 from its first moment, one that a dead server left is replaced, a live one is not. */
import { lstatSync, mkdirSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { codeOf, hasCode, NodeletError } from '../../base/index.ts';

/** sun_path, with its final NUL. */
const PATH_LIMIT = 108;

export class UnixListener {
  readonly path: string;
  readonly #server: Server;
  readonly #inode: number;

  private constructor(path: string, server: Server) {
    this.path = path;
    this.#server = server;
    this.#inode = lstatSync(path).ino;
  }

  /** Throws INVALID_CONFIGURATION for a path that cannot be one, SOCKET_IN_USE, SOCKET_UNUSABLE. */
  static async listen(path: string, onConnection: (socket: Socket) => void): Promise<UnixListener> {
    if (Buffer.byteLength(path) >= PATH_LIMIT)
      throw new NodeletError(
        'INVALID_CONFIGURATION',
        `the socket "${path}" has a path of ${Buffer.byteLength(path)} bytes; the kernel takes ${PATH_LIMIT - 1}`,
        { hint: 'choose a shorter path' },
      );
    try {
      mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
      await clear(path);
      return new UnixListener(path, await bind(path, onConnection));
    } catch (error) {
      if (error instanceof NodeletError) throw error;
      if (hasCode(error, 'EADDRINUSE')) throw inUse(path);
      throw new NodeletError('SOCKET_UNUSABLE', `cannot listen at the socket "${path}"`, {
        cause: error,
        hint: 'choose another path, in a directory that can be written',
      });
    }
  }

  /** Takes no more connections; those that are open are the caller's. Twice is safe. */
  close(): void {
    this.#server.close();
    try {
      // Node removes the path itself; another server may have put its own there meanwhile.
      if (lstatSync(this.path).ino === this.#inode) rmSync(this.path, { force: true });
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') throw error;
    }
  }
}

function inUse(path: string): NodeletError {
  return new NodeletError(
    'SOCKET_IN_USE',
    `cannot listen at the socket "${path}": another server answers there`,
    {
      hint: 'end it, or choose another path',
    },
  );
}

/** Takes away the socket of a server that is no more. */
async function clear(path: string): Promise<void> {
  let stat: ReturnType<typeof lstatSync>;
  try {
    stat = lstatSync(path);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return;
    throw error;
  }
  if (!stat.isSocket())
    throw new NodeletError(
      'SOCKET_UNUSABLE',
      `cannot listen at the socket "${path}": something else is there`,
      {
        hint: 'remove it, or choose another path',
      },
    );
  if (await answers(path)) throw inUse(path);
  rmSync(path, { force: true });
}

async function answers(path: string): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = connect(path);
    const end = (alive: boolean): void => {
      socket.destroy();
      resolve(alive);
    };
    socket.once('connect', () => end(true));
    // A full queue is that of a live server, too.
    socket.once('error', (error) => end(codeOf(error) === 'EAGAIN'));
  });
}

async function bind(path: string, onConnection: (socket: Socket) => void): Promise<Server> {
  const server = createServer(onConnection);
  const listening = new Promise<void>((resolve, reject) => {
    server.once('listening', resolve);
    server.once('error', reject);
  });
  // The path is made inside listen(), before it returns: nobody else meets this mask.
  const before = process.umask(0o177);
  try {
    server.listen(path);
  } finally {
    process.umask(before);
  }
  await listening;
  server.on('error', () => {}); // of a connection that cannot be accepted: the next one may be
  return server;
}
