import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { commentRecord, readComment, setUserdata } from '../../../src/linux/nftables/userdata.ts';

const table = { family: 'ip', name: 't' } as const;

describe('userdata', () => {
  it('holds a comment with its NUL', () => {
    expect(commentRecord(0, 'abcd').toString('hex')).toBe('00056162636400');
  });

  it('says the byte order of the key, and of the value of a map', () => {
    const set = { table, name: 's', key: ['mark'] as const, comment: 'c' };
    expect(setUserdata(set).toString('hex')).toBe('00040100000007026300');
    expect(
      setUserdata({ ...set, key: ['ipv4_addr'] })
        .toString('hex')
        .slice(0, 12),
    ).toBe('000402000000');
    expect(setUserdata({ ...set, data: 'verdict' }).toString('hex')).toBe('00040100000001040000000007026300');
  });

  it('is found among other records, and read without harm from any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.stringMatching(/^[ -~]{1,40}$/), (noise, comment) => {
        const other = Buffer.concat([Uint8Array.of(3, noise.length), noise]);
        expect(readComment(Buffer.concat([other, commentRecord(7, comment)]), 7)).toBe(comment);
        expect(typeof readComment(Buffer.from(noise), 0)).toMatch(/string|undefined/);
      }),
    );
    expect(readComment(undefined, 0)).toBeUndefined();
    expect(readComment(Buffer.from('0009616263', 'hex'), 0)).toBeUndefined();
  });
});
