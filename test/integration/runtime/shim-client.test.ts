/** The agent's end of the wire to a shim, with something else at the other end. */
import { writeSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { AF, SOCK } from '../../../src/linux/constants.ts';
import { Fd } from '../../../src/linux/fd.ts';
import { native } from '../../../src/linux/native.ts';
import { ShimClient } from '../../../src/runtime/shim/client.ts';

function pair(): [ShimClient, Fd] {
  const ends = native().socketpair(AF.UNIX, SOCK.SEQPACKET | SOCK.NONBLOCK);
  if (typeof ends === 'number') throw new Error(`socketpair: ${ends}`);
  return [new ShimClient(new Fd(ends[0])), new Fd(ends[1])];
}

describe('a packet that no shim sends', () => {
  test.each([
    ['of one byte', Buffer.of(7)],
    ['of a type that does not exist', Buffer.from('ffff00000000000000000000', 'hex')],
    ['of an exit that ends in the middle of its name', Buffer.from('1000000000000000ff000000', 'hex')],
  ])('%s ends the connection, and is no error of the agent', async (_what, packet) => {
    const [client, other] = pair();
    using _other = other;
    const gone = new Promise<void>((resolve) => {
      client.gone.on(resolve);
    });
    const asked = client.hello().then(
      () => 'answered',
      (error: unknown) => (error as { code?: string }).code,
    );
    writeSync(other.number, packet);
    await gone;
    expect(client.connected).toBe(false);
    expect(await asked).toBe('SHIM_GONE');
  });
});
