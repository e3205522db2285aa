import { describe, expect, it } from 'vitest';
import { deferred, KeyedMutex } from '../../../src/base/index.ts';

describe('work on one key', () => {
  it('goes one after another, in the order of the calls; other keys do not wait', async () => {
    const locks = new KeyedMutex();
    const gate = deferred<void>();
    const done: string[] = [];
    const first = locks.run('a', async () => {
      await gate.promise;
      done.push('first');
    });
    const second = locks.run('a', () => void done.push('second'));
    await locks.run('b', () => void done.push('other'));
    expect(done).toEqual(['other']);
    gate.resolve();
    await Promise.all([first, second]);
    expect(done).toEqual(['other', 'first', 'second']);
  });

  it('is given up at once by who waits and is aborted, and nobody overtakes the holder because of it', async () => {
    const locks = new KeyedMutex();
    const gate = deferred<void>();
    const gone = new AbortController();
    const done: string[] = [];
    const holder = locks.run('a', async () => {
      await gate.promise;
      done.push('holder');
    });
    const waiter = locks.run('a', () => void done.push('never'), gone.signal);
    const reason = new Error('gone');
    gone.abort(reason);
    await expect(waiter).rejects.toBe(reason);
    // The one who left was the last: whoever comes now still finds the holder.
    expect(locks.isBusy('a')).toBe(true);
    const next = locks.run('a', () => void done.push('next'));
    await locks.run('b', () => {});
    expect(done).toEqual([]);
    gate.resolve();
    await Promise.all([holder, next]);
    expect(done).toEqual(['holder', 'next']);
  });

  it('does not begin for a signal that has fired already, and goes on after work that fails', async () => {
    const locks = new KeyedMutex();
    await expect(locks.run('a', () => 1, AbortSignal.abort(new Error('early')))).rejects.toThrow('early');
    await expect(locks.run('a', () => Promise.reject(new Error('failed')))).rejects.toThrow('failed');
    expect(await locks.run('a', () => 2)).toBe(2);
    await Promise.resolve();
    expect(locks.isBusy('a')).toBe(false);
  });
});
