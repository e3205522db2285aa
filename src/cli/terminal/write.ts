import type { Writable } from 'node:stream';

/** Writes, and waits where the reader is slower than we are. */
export async function writeTo(stream: Writable, data: Buffer | string): Promise<void> {
  if (data.length === 0 || stream.write(data)) return;
  await new Promise<void>((resolve) => {
    stream.once('drain', resolve);
  });
}
