import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Quantity } from '../../../src/kube/index.ts';

// Checked against k8s.io/apimachinery v0.36.0 (ParseQuantity, String, Value, MilliValue).
const rows: readonly (readonly [input: string | number, canonical: string, value: bigint, milli: bigint])[] =
  [
    ['0', '0', 0n, 0n],
    ['0Gi', '0', 0n, 0n],
    [1, '1', 1n, 1000n],
    [0.5, '500m', 1n, 500n],
    ['100m', '100m', 1n, 100n],
    ['0.1', '100m', 1n, 100n],
    ['1.5', '1500m', 2n, 1500n],
    ['1000m', '1', 1n, 1000n],
    ['1.5Gi', '1536Mi', 1_610_612_736n, 1_610_612_736_000n],
    ['128Mi', '128Mi', 134_217_728n, 134_217_728_000n],
    ['1024Ki', '1Mi', 1_048_576n, 1_048_576_000n],
    ['0.5Ki', '512', 512n, 512_000n],
    ['1.1Ki', '1126400m', 1127n, 1_126_400n],
    ['1k', '1k', 1000n, 1_000_000n],
    ['1e3', '1e3', 1000n, 1_000_000n],
    ['12E6', '12e6', 12_000_000n, 12_000_000_000n],
    ['1E', '1E', 10n ** 18n, 10n ** 21n],
    ['1Ei', '1Ei', 2n ** 60n, 1000n * 2n ** 60n],
    ['16Ei', '9223372036854775807', 2n ** 63n - 1n, 1000n * (2n ** 63n - 1n)],
    ['0.1m', '100u', 1n, 1n],
    ['0.0000000001', '1n', 1n, 1n],
    ['-1', '-1', -1n, -1000n],
    ['-1.5', '-1500m', -2n, -1500n],
    ['.5', '500m', 1n, 500n],
    ['5.', '5', 5n, 5000n],
    ['+3', '3', 3n, 3000n],
    ['007', '7', 7n, 7000n],
  ];

const refused = [
  '',
  ' ',
  '.',
  '-',
  'abc',
  '1 Gi',
  '1Gi ',
  '--1',
  '1..5',
  '1.5.5',
  '1Kib',
  '1ki',
  '1K',
  '1mi',
  '1e',
  '1e1.5',
  '1k2',
  '1e999999999',
  '0x10',
  '１',
];

describe('a quantity', () => {
  it.each(rows)('%s is written %s', (input, canonical, value, milli) => {
    const quantity = Quantity.parse(input);
    expect(quantity.toString()).toBe(canonical);
    expect(quantity.value()).toBe(value);
    expect(quantity.milliValue()).toBe(milli);
  });

  it.each(refused)('refuses %j', (input) => {
    expect(() => Quantity.parse(input)).toThrow(expect.objectContaining({ code: 'INVALID_QUANTITY' }));
  });

  it('refuses numbers that are none', () => {
    for (const input of [Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => Quantity.parse(input)).toThrow(expect.objectContaining({ code: 'INVALID_QUANTITY' }));
    }
  });

  const suffix = fc.constantFrom(
    '',
    'n',
    'u',
    'm',
    'k',
    'M',
    'G',
    'T',
    'P',
    'E',
    'Ki',
    'Mi',
    'Gi',
    'Ti',
    'e3',
    'E-2',
    'e+6',
  );
  const number = fc
    .tuple(
      fc.constantFrom('', '-', '+'),
      fc.bigInt(0n, 10n ** 9n),
      fc.option(fc.integer({ min: 0, max: 99_999 })),
    )
    .map(([sign, whole, fraction]) => `${sign}${whole}${fraction === null ? '' : `.${fraction}`}`);
  const text = fc.tuple(number, suffix).map(([digits, unit]) => digits + unit);

  it('survives its canonical form', () => {
    fc.assert(
      fc.property(text, (input) => {
        const quantity = Quantity.parse(input);
        const again = Quantity.parse(quantity.toString());
        expect(again.nanos).toBe(quantity.nanos);
        expect(again.toString()).toBe(quantity.toString());
      }),
    );
  });

  it('compares and adds as its value does', () => {
    fc.assert(
      fc.property(text, text, (a, b) => {
        const [x, y] = [Quantity.parse(a), Quantity.parse(b)];
        expect(x.add(y).nanos).toBe(x.nanos + y.nanos);
        expect(x.compare(y)).toBe(x.nanos < y.nanos ? -1 : x.nanos > y.nanos ? 1 : 0);
        expect(y.compare(x)).toBe(x.compare(y) === 0 ? 0 : -x.compare(y));
      }),
    );
  });

  it('is refused or parsed, never anything else', () => {
    fc.assert(
      fc.property(fc.string(), (input) => {
        try {
          expect(Quantity.parse(Quantity.parse(input).toString()).nanos).toBe(Quantity.parse(input).nanos);
        } catch (error) {
          expect(error).toMatchObject({ code: 'INVALID_QUANTITY' });
        }
      }),
    );
  });

  it('is rounded up to thousandths as the API server does', () => {
    expect(Quantity.parse('0.0001').roundUpToMilli().toString()).toBe('1m');
    expect(Quantity.parse('1.0005').roundUpToMilli().toString()).toBe('1001m');
    expect(Quantity.parse('128Mi').roundUpToMilli().toString()).toBe('128Mi');
  });
});
