import { describe, expect, it, vi } from 'vitest';
import { LinkedSignal } from '../../../src/base/index.ts';

describe('a linked signal', () => {
  it('fires with the first of its sources, and with its reason', () => {
    const [a, b] = [new AbortController(), new AbortController()];
    using linked = new LinkedSignal([a.signal, b.signal]);
    const heard = vi.fn();
    linked.signal.addEventListener('abort', heard);
    b.abort('b');
    a.abort('a');
    expect(linked.signal.reason).toBe('b');
    expect(heard).toHaveBeenCalledTimes(1);
  });

  it('has fired where a source had fired before', () => {
    const [a, b] = [new AbortController(), new AbortController()];
    b.abort('b');
    using linked = new LinkedSignal([a.signal, b.signal], 1000);
    expect(linked.signal.reason).toBe('b');
  });

  it('fires after its time with a TimeoutError', () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      using linked = new LinkedSignal([], 1000);
      vi.advanceTimersByTime(999);
      expect(linked.signal.aborted).toBe(false);
      vi.advanceTimersByTime(1);
      expect((linked.signal.reason as Error).name).toBe('TimeoutError');
      expect(vi.getTimerCount()).toBe(0);
    } finally {
      vi.useRealTimers();
    }
  });

  it('leaves nothing at its sources once it is disposed or has fired', () => {
    const source = new AbortController();
    const added = vi.spyOn(source.signal, 'addEventListener');
    const removed = vi.spyOn(source.signal, 'removeEventListener');
    const linked = new LinkedSignal([source.signal], 1000);
    linked[Symbol.dispose]();
    linked[Symbol.dispose]();
    expect(removed.mock.calls).toEqual(added.mock.calls.map(([type, listener]) => [type, listener]));
    source.abort();
    expect(linked.signal.aborted).toBe(false);
  });
});
