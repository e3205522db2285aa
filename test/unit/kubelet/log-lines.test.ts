import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Observed, ObservedContainer } from '../../../src/kubelet/index.ts';
import { logContainer } from '../../../src/kubelet/index.ts';
import { nanosOf, parseLogLine } from '../../../src/kubelet/logs/line.ts';
import { podOf } from './world.ts';

const TIME = '2026-01-02T15:04:05.123456789Z';

describe('a line of a CRI log', () => {
  it.each([
    [`${TIME} stdout F hello world`, { stream: 'stdout', partial: false, text: 'hello world' }],
    [`${TIME} stderr P part`, { stream: 'stderr', partial: true, text: 'part' }],
    [`${TIME} stdout F `, { stream: 'stdout', partial: false, text: '' }],
    [`${TIME} stdout F`, { stream: 'stdout', partial: false, text: '' }],
    [`${TIME} stdout F:more tags`, { stream: 'stdout', partial: false, text: 'tags' }],
    [`${TIME} stdout P:more  x`, { stream: 'stdout', partial: true, text: ' x' }],
    [`${TIME} stdin F x`, undefined],
    [`${TIME} stdout`, undefined],
    [`${TIME} stdout `, undefined],
    ['yesterday stdout F x', undefined],
    ['', undefined],
  ])('%j', (line, expected) => {
    const entry = parseLogLine(Buffer.from(line));
    const found = entry && { stream: entry.stream, partial: entry.partial, text: entry.text.toString() };
    expect(found).toEqual(expected);
  });

  it('any text comes back byte for byte, and any bytes are survived', () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.boolean(), (bytes, partial) => {
        const text = Buffer.from(bytes);
        expect(() => parseLogLine(text)).not.toThrow();
        const line = Buffer.concat([Buffer.from(`${TIME} stdout ${partial ? 'P' : 'F'} `), text]);
        const entry = parseLogLine(line);
        expect(entry?.partial).toBe(partial);
        expect(entry && Buffer.compare(entry.text, text)).toBe(0);
      }),
    );
  });
});

describe('times', () => {
  it.each([
    ['1970-01-01T00:00:00Z', 0n],
    ['1970-01-01T00:00:00.000000001Z', 1n],
    ['1970-01-01T00:00:01.5Z', 1_500_000_000n],
    ['1970-01-01T01:00:00+01:00', 0n],
    ['2026-01-02T15:04:05.123456789Z', 1_767_366_245_123_456_789n],
    ['2026-01-02', undefined],
    ['2026-13-02T15:04:05Z', undefined],
    ['now', undefined],
  ])('%s', (text, expected) => {
    expect(nanosOf(text)).toBe(expected);
  });

  it('order as their texts do', () => {
    const time = fc.date({ min: new Date(0), max: new Date('2100-01-01'), noInvalidDate: true });
    fc.assert(
      fc.property(time, fc.nat(999_999), time, fc.nat(999_999), (a, aNanos, b, bNanos) => {
        const text = (date: Date, nanos: number) =>
          date.toISOString().replace('Z', `${String(nanos).padStart(6, '0')}Z`);
        const [left, right] = [text(a, aNanos), text(b, bNanos)];
        expect((nanosOf(left) ?? 0n) < (nanosOf(right) ?? 0n)).toBe(left < right);
      }),
    );
  });
});

describe('which log is meant', () => {
  const container = (name: string, attempt: number, state: ObservedContainer['state'], exitCode = 0) =>
    ({ id: `${name}${attempt}`, name, attempt, state, exitCode }) as ObservedContainer;
  const two = { containers: [{ name: 'a' }, { name: 'b' }] };
  const observed = (...containers: ObservedContainer[]): Observed => ({ sandboxes: [], containers });
  const restarted = observed(container('a', 1, 'running'), container('a', 0, 'exited', 1));

  it('the only container’s, the newest attempt', async () => {
    expect(logContainer(await podOf({}), restarted, {}).id).toBe('a1');
  });

  it('the one before', async () => {
    expect(logContainer(await podOf({}), restarted, { previous: true }).id).toBe('a0');
  });

  it('of a container that waits for its restart the last end is the previous one', async () => {
    const waiting = observed(container('a', 1, 'exited', 1), container('a', 0, 'exited', 1));
    expect(logContainer(await podOf({}), waiting, { previous: true }).id).toBe('a1');
    expect(logContainer(await podOf({ restartPolicy: 'Never' }), waiting, { previous: true }).id).toBe('a0');
  });

  it('one that was made and not started has none: the one before it counts', async () => {
    const made = observed(container('a', 1, 'created'), container('a', 0, 'exited', 1));
    expect(logContainer(await podOf({}), made, {}).id).toBe('a0');
  });

  it('of several containers the one that the annotation names', async () => {
    const annotations = { 'kubectl.kubernetes.io/default-container': 'b' };
    const pod = await podOf(two, { annotations });
    expect(logContainer(pod, observed(container('b', 0, 'running')), {}).id).toBe('b0');
  });

  it.each([
    ['no name among several', {}, 'pod web has more than one container'],
    ['a name that is none', { container: 'c' }, 'container c is not valid for pod web'],
    ['one that never ran', { container: 'b' }, 'container "b" in pod "web" is waiting to start'],
    [
      'no one before',
      { container: 'a', previous: true },
      'previous terminated container "a" in pod "web" not found',
    ],
  ])('%s is said so', async (_what, request, message) => {
    const pod = await podOf(two);
    expect(() => logContainer(pod, observed(container('a', 0, 'running')), request)).toThrow(message);
  });
});
