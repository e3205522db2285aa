/** Reading logs from real files: what is there, what comes, what was rotated, and what must not be read. */

import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type LogOptions, readLog } from '../../../src/kubelet/index.ts';
import { lastLogText } from '../../../src/kubelet/logs/tail.ts';
import { type Scratch, scratch } from './scratch.ts';

let world: Scratch;
let path: string;
beforeEach(() => {
  world = scratch();
  path = join(world.root, 'logs/pod/a/0.log');
  mkdirSync(dirname(path), { recursive: true });
});
afterEach(() => world[Symbol.dispose]());

/** `2 out F text` is a line of the second 2. */
function line(text: string): string {
  const [second = '', stream, tag, ...rest] = text.split(' ');
  return `2026-01-02T15:04:${second.padStart(2, '0')}.000000000Z std${stream} ${tag} ${rest.join(' ')}\n`;
}

const write = (...lines: string[]) => appendFileSync(path, lines.map(line).join(''));
const source = (ended?: AbortSignal) => ({
  root: join(world.root, 'logs'),
  path,
  ...(ended ? { ended } : {}),
});

async function read(options: LogOptions = {}): Promise<string> {
  const parts: Buffer[] = [];
  for await (const { data } of readLog(source(), options)) parts.push(data);
  return Buffer.concat(parts).toString();
}

describe('a log', () => {
  beforeEach(() => {
    write('1 out F one', '2 err F two', '3 out P thr', '3 out F ee', '4 out F four');
  });

  it.each([
    ['all of it', {}, 'one\ntwo\nthree\nfour\n'],
    ['one stream', { stream: 'stderr' }, 'two\n'],
    ['the last line', { tailLines: 1 }, 'four\n'],
    ['a line in two parts is one', { tailLines: 2 }, 'three\nfour\n'],
    ['more lines than there are', { tailLines: 100 }, 'one\ntwo\nthree\nfour\n'],
    ['no line', { tailLines: 0 }, ''],
    ['from a time on', { sinceTime: '2026-01-02T15:04:03Z' }, 'three\nfour\n'],
    ['from a time in another zone on', { sinceTime: '2026-01-02T16:04:04+01:00' }, 'four\n'],
    ['a number of bytes', { limitBytes: 6 }, 'one\ntw'],
    ['no bytes', { limitBytes: 0 }, ''],
    [
      'times, once for each line',
      { timestamps: true, tailLines: 2 },
      '2026-01-02T15:04:03.000000000Z three\n2026-01-02T15:04:04.000000000Z four\n',
    ],
    ['of long ago', { sinceSeconds: 10 }, ''],
  ] satisfies [string, LogOptions, string][])('%s', async (_what, options, expected) => {
    expect(await read(options)).toBe(expected);
  });

  it('a line that is being written is left for the next time', async () => {
    appendFileSync(path, '2026-01-02T15:04:05.000000000Z stdout F fi');
    expect(await read()).toBe('one\ntwo\nthree\nfour\n');
    appendFileSync(path, 've\n');
    expect(await read({ tailLines: 1 })).toBe('five\n');
  });

  it('what is no entry is left out', async () => {
    appendFileSync(path, 'garbage\n\n');
    write('5 out F five');
    expect(await read({ tailLines: 1 })).toBe('five\n');
  });

  it('a time that is none is refused', async () => {
    await expect(read({ sinceTime: 'yesterday' })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  it('its end for a termination message: at most so many lines and bytes', () => {
    expect(lastLogText(path, 2, 100)).toBe('three\nfour\n');
    expect(lastLogText(path, 80, 7)).toBe('e\nfour\n');
    expect(lastLogText(join(world.root, 'gone'), 80, 100)).toBe('');
  });
});

it('the last lines of a large log are found from its end', async () => {
  const lines = Array.from({ length: 50_000 }, (_, i) => line(`1 out F line ${i} ${'x'.repeat(i % 300)}`));
  writeFileSync(path, lines.join(''));
  for (const tailLines of [1, 10, 1000, 49_999, 50_000]) {
    const text = await read({ tailLines });
    expect(text.split('\n').length - 1).toBe(tailLines);
    expect(text.startsWith(`line ${50_000 - tailLines} `)).toBe(true);
  }
});

it('a line longer than what is read at once', async () => {
  const long = 'x'.repeat(300_000);
  write('1 out F before', `2 out F ${long}`, '3 out F after');
  expect(await read()).toBe(`before\n${long}\nafter\n`);
  expect(await read({ tailLines: 2 })).toBe(`${long}\nafter\n`);
});

/** Follows and collects; `until` resolves once the text holds what is waited for. */
function follow(options: LogOptions = {}, ended?: AbortSignal, signal?: AbortSignal) {
  let text = '';
  let check = () => {};
  const done = (async () => {
    for await (const { data } of readLog(source(ended), { follow: true, ...options }, signal)) {
      text += data.toString();
      check();
    }
  })();
  const until = (part: string) =>
    new Promise<void>((resolve) => {
      check = () => {
        if (text.includes(part)) resolve();
      };
      check();
    });
  return { done, until, text: () => text };
}

describe('following', () => {
  it('shows what is added until the container has ended, and everything that was written by then', async () => {
    write('1 out F one');
    const ended = new AbortController();
    const reader = follow({}, ended.signal);
    await reader.until('one');
    write('2 out F two');
    await reader.until('two');
    write('3 out F three');
    ended.abort();
    await reader.done;
    expect(reader.text()).toBe('one\ntwo\nthree\n');
  });

  it('goes from a rotated file to the new one without losing a line', async () => {
    write('1 out F one');
    const ended = new AbortController();
    const reader = follow({}, ended.signal);
    await reader.until('one');
    for (let i = 2; i < 30; i++) {
      write(`${i} out F before-${i}`);
      renameSync(path, `${path}.2026010${i}`);
      write(`${i} out F after-${i}`);
      await reader.until(`after-${i}`);
    }
    ended.abort();
    await reader.done;
    const expected = Array.from({ length: 28 }, (_, i) => [`before-${i + 2}`, `after-${i + 2}`]).flat();
    expect(reader.text()).toBe(`one\n${expected.join('\n')}\n`);
  });

  it('begins with the last lines, and stops at its number of bytes', async () => {
    write('1 out F one', '2 out F two');
    const reader = follow({ tailLines: 1, limitBytes: 10 });
    await reader.until('two');
    write('3 out F three');
    write('4 out F four');
    await reader.done;
    expect(reader.text()).toBe('two\nthree\n');
  });

  it('of a container that has ended ends at once', async () => {
    write('1 out F one');
    const reader = follow({}, AbortSignal.abort());
    await reader.done;
    expect(reader.text()).toBe('one\n');
  });

  it('stops when the reader goes away', async () => {
    write('1 out F one');
    const gone = new AbortController();
    const reader = follow({}, undefined, gone.signal);
    await reader.until('one');
    gone.abort();
    await reader.done;
  });

  it('loses nothing of what comes fast', async () => {
    write('1 out F first');
    const ended = new AbortController();
    const reader = follow({}, ended.signal);
    await reader.until('first');
    const script =
      'i=0; while [ $i -lt 20000 ]; do echo "2026-01-02T15:04:05.000000000Z stdout F n$i"; i=$((i+1)); done';
    execFileSync('sh', ['-c', `${script} >> ${path}`]);
    await reader.until('n19999\n');
    ended.abort();
    await reader.done;
    expect(reader.text()).toBe(`first\n${Array.from({ length: 20_000 }, (_, i) => `n${i}\n`).join('')}`);
  });

  it('ends when the directory is removed', async () => {
    write('1 out F one');
    const ended = new AbortController();
    const reader = follow({}, ended.signal);
    await reader.until('one');
    rmSync(dirname(path), { recursive: true });
    ended.abort();
    await reader.done;
    expect(reader.text()).toBe('one\n');
  });
});

describe('what must not be read', () => {
  it.each([
    ['a link in place of the log', () => symlinkSync('/etc/hostname', path)],
    [
      'a link in place of a directory',
      () => {
        rmSync(dirname(path), { recursive: true });
        symlinkSync('/etc', dirname(path));
      },
    ],
    ['a pipe', () => execFileSync('mkfifo', [path])],
    ['a directory', () => mkdirSync(path)],
  ])('%s', async (_what, prepare) => {
    prepare();
    await expect(read()).rejects.toMatchObject({ code: expect.stringMatching(/^LOG_(UNSAFE|NOT_FOUND)$/) });
  });

  it('a log that is not there', async () => {
    await expect(read()).rejects.toMatchObject({
      code: 'LOG_NOT_FOUND',
      message: `cannot find the log "${path}"`,
    });
  });
});
