import type { IncomingMessage } from 'node:http';
import { describe, expect, test } from 'vitest';
import { SPDY_VERSIONS, WEBSOCKET_VERSIONS } from '../../../../src/cri/streaming/command-streams.ts';
import { portsOf } from '../../../../src/cri/streaming/port-forward.ts';
import { SizeDecoder } from '../../../../src/cri/streaming/resize.ts';
import {
  encodeStatus,
  exitCodeOf,
  exitStatus,
  internalStatus,
  SUCCESS,
} from '../../../../src/cri/streaming/status.ts';
import { MAX_TOKENS, TOKEN_TTL, TokenCache } from '../../../../src/cri/streaming/tokens.ts';
import { spdyProtocol, webSocketProtocol } from '../../../../src/cri/streaming/upgrade.ts';
import { decodeMessage, encodeMessage } from '../../../../src/cri/streaming/websocket/protocols.ts';

const request = (headers: Record<string, string>): IncomingMessage =>
  ({ headers }) as unknown as IncomingMessage;

describe('a SPDY request', () => {
  const served = Object.keys(SPDY_VERSIONS);
  const ask = (protocols: string): string =>
    spdyProtocol(request({ upgrade: 'SPDY/3.1', 'x-stream-protocol-version': protocols }), served);

  test.each([
    ['v4.channel.k8s.io', 'v4.channel.k8s.io'],
    ['v4.channel.k8s.io, v3.channel.k8s.io', 'v4.channel.k8s.io'],
    ['v9.channel.k8s.io, v2.channel.k8s.io,v4.channel.k8s.io', 'v2.channel.k8s.io'],
    ['channel.k8s.io', 'channel.k8s.io'],
  ])('for %s speaks %s', (offered, chosen) => {
    expect(ask(offered)).toBe(chosen);
  });

  test.each<[string, Record<string, string>, number, string]>([
    ['without an upgrade', {}, 400, 'missing upgrade headers'],
    ['without a protocol', { upgrade: 'SPDY/3.1' }, 400, 'does not exist'],
    [
      'with an empty one',
      { upgrade: 'SPDY/3.1', 'x-stream-protocol-version': ' , ' },
      400,
      'no valid protocols',
    ],
    [
      'with none of ours',
      { upgrade: 'spdy/3.1', 'x-stream-protocol-version': 'v5' },
      403,
      'client supports [v5]',
    ],
  ])('%s is refused', (_, headers, status, words) => {
    expect(() => spdyProtocol(request(headers), served)).toThrow(
      expect.objectContaining({ code: 'UPGRADE_REFUSED', status, message: expect.stringContaining(words) }),
    );
  });
});

describe('a WebSocket request', () => {
  const served = Object.keys(WEBSOCKET_VERSIONS);

  test.each([
    ['v5.channel.k8s.io', 'v5.channel.k8s.io'],
    ['v4.base64.channel.k8s.io', 'v4.base64.channel.k8s.io'],
    ['chat, channel.k8s.io', 'channel.k8s.io'],
  ])('for %s speaks %s', (offered, chosen) => {
    expect(webSocketProtocol(request({ 'sec-websocket-protocol': offered }), served)).toBe(chosen);
  });

  test('without a protocol speaks the oldest', () => {
    expect(webSocketProtocol(request({}), served)).toBe('');
  });

  test('with none of ours is refused', () => {
    expect(() => webSocketProtocol(request({ 'sec-websocket-protocol': 'chat' }), served)).toThrow(
      expect.objectContaining({ status: 403 }),
    );
  });
});

describe('a WebSocket message', () => {
  const binary = { base64: false, closes: false };
  const text = { base64: true, closes: false };
  const v5 = { base64: false, closes: true };

  test('names its channel by a byte, or by a digit before base64', () => {
    expect(encodeMessage(binary, 1, Buffer.from('hi'))).toEqual(Buffer.from([1, 0x68, 0x69]));
    expect(encodeMessage(text, 1, Buffer.from('hi'))).toBe('1aGk=');
    expect(decodeMessage(text, Buffer.from('0aGk='))).toEqual({
      type: 'data',
      channel: 0,
      data: Buffer.from('hi'),
    });
  });

  test('closes a channel in version 5 only', () => {
    expect(decodeMessage(v5, Buffer.from([255, 0]))).toEqual({ type: 'close', channel: 0 });
    expect(decodeMessage(binary, Buffer.from([255, 0]))).toMatchObject({ type: 'data', channel: 255 });
  });

  test.each([
    ['a close signal without a channel', v5, Buffer.from([255])],
    ['a close signal with more', v5, Buffer.from([255, 0, 0])],
    ['no base64', text, Buffer.from('0%%%')],
  ])('with %s is refused', (_, codec, message) => {
    expect(() => decodeMessage(codec, message)).toThrow(expect.objectContaining({ code: 'STREAM_PROTOCOL' }));
  });

  test('that is empty says nothing', () => {
    expect(decodeMessage(v5, Buffer.alloc(0))).toBeUndefined();
  });
});

describe('a status', () => {
  test.each([0, 1, 42, 255])('carries exit code %i there and back', (code) => {
    expect(exitCodeOf(encodeStatus(exitStatus(code), true).toString(), true)).toBe(code);
  });

  test('before version 4 is a text, or nothing', () => {
    expect(encodeStatus(SUCCESS, false)).toHaveLength(0);
    expect(exitCodeOf('', false)).toBe(0);
    expect(() => exitCodeOf(encodeStatus(internalStatus('no'), false).toString(), false)).toThrow(
      expect.objectContaining({ code: 'REMOTE_FAILED', message: 'Internal error occurred: no' }),
    );
  });

  test.each([
    ['nothing', '', 'EXEC_LOST'],
    ['no JSON', 'oops', 'STREAM_PROTOCOL'],
    ['a failure', '{"status":"Failure","message":"no"}', 'REMOTE_FAILED'],
    [
      'an exit code that is none',
      '{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"-1"}]}}',
      'REMOTE_FAILED',
    ],
  ])('that is %s is an error', (_, words, code) => {
    expect(() => exitCodeOf(words, true)).toThrow(expect.objectContaining({ code }));
  });
});

describe('sizes of a terminal', () => {
  test('are read from pieces of any length, what is none passed over', () => {
    const decoder = new SizeDecoder();
    const text = '{"Width":80,"Height":24}\n{"Width":"x"}{"Width":1e9,"Height":1}\n{"Width":100,"Height":30}';
    const sizes = text.split('').flatMap((letter) => decoder.push(Buffer.from(letter)));
    expect(sizes).toEqual([
      { width: 80, height: 24 },
      { width: 100, height: 30 },
    ]);
  });

  test('without an end are not kept', () => {
    const decoder = new SizeDecoder();
    expect(decoder.push(Buffer.alloc(1_000_000, 'x'))).toEqual([]);
    expect(decoder.push(Buffer.from('{"Width":80,"Height":24}'))).toEqual([{ width: 80, height: 24 }]);
  });
});

describe('tokens', () => {
  test('serve once, for a minute, a thousand at a time', () => {
    let now = 0;
    const cache = new TokenCache<number>(() => now);
    const tokens = Array.from({ length: MAX_TOKENS }, (_, i) => cache.insert(i));
    expect(new Set(tokens).size).toBe(MAX_TOKENS);
    expect(() => cache.insert(0)).toThrow(expect.objectContaining({ code: 'RESOURCE_EXHAUSTED' }));
    expect([cache.consume(tokens[7] ?? ''), cache.consume(tokens[7] ?? ''), cache.consume('none')]).toEqual([
      7,
      undefined,
      undefined,
    ]);
    now = TOKEN_TTL + 1;
    expect(cache.consume(tokens[8] ?? '')).toBeUndefined();
    const last = cache.insert(9);
    expect(cache.size).toBe(1);
    expect(cache.consume(last)).toBe(9);
  });
});

describe('ports of a query', () => {
  test('are all of them', () => {
    expect(portsOf('/portforward/x?port=80,443&port=1')).toEqual([80, 443, 1]);
  });

  test.each([
    ['/x', 'is required'],
    ['/x?port=', 'cannot be empty'],
    ['/x?port=0', 'must be > 0'],
    ['/x?port=70000', 'unable to parse'],
    ['/x?port=http', 'unable to parse'],
  ])('%s is refused', (url, words) => {
    expect(() => portsOf(url)).toThrow(expect.objectContaining({ message: expect.stringContaining(words) }));
  });
});
