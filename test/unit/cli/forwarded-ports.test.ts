import { describe, expect, test } from 'vitest';
import { listenAddresses, parsePorts } from '../../../src/cli/forwarded-ports.ts';

describe('ports to forward', () => {
  test.each([
    ['8080:80', { local: 8080, remote: 80 }],
    ['80', { local: 80, remote: 80 }],
    [':80', { local: 0, remote: 80 }],
    ['0:80', { local: 0, remote: 80 }],
  ])('%s', (word, port) => {
    expect(parsePorts([word])).toEqual([port]);
  });

  test.each(['a:80', '80:0', '80:', '1:2:3', '70000', '-1', ''])('%j is refused', (word) => {
    expect(() => parsePorts([word])).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
  });
});

test('localhost is both loopback addresses, once', () => {
  expect(listenAddresses('localhost,127.0.0.1,10.0.0.1')).toEqual(['127.0.0.1', '::1', '10.0.0.1']);
  expect(() => listenAddresses('web')).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
});
