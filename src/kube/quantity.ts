/**
 * Kubernetes resource quantities, exact: a bigint of nano units (10⁻⁹) and the notation that it was written in.
 * Grammar and canonical form: the description of `Quantity` in the OpenAPI.
 */
import { NodeletError } from '../base/index.ts';

type Notation = 'decimal' | 'binary' | 'exponent';

const NANO = 1_000_000_000n;

/** Powers of ten (decimal) and of two (binary) by suffix. */
const DECIMAL: ReadonlyMap<string, number> = new Map([
  ['n', -9],
  ['u', -6],
  ['m', -3],
  ['', 0],
  ['k', 3],
  ['M', 6],
  ['G', 9],
  ['T', 12],
  ['P', 15],
  ['E', 18],
]);
const BINARY: ReadonlyMap<string, number> = new Map([
  ['Ki', 10],
  ['Mi', 20],
  ['Gi', 30],
  ['Ti', 40],
  ['Pi', 50],
  ['Ei', 60],
]);

/** Exponents beyond this mean no machine; without a bound `1e999999999` would fill the memory. */
const MAX_EXPONENT = 60;

/** A binary quantity is capped here, as the API server does. */
const MAX_BINARY = (2n ** 63n - 1n) * NANO;

const PATTERN = /^([+-]?)(\d*)(?:\.(\d*))?([A-Za-z]*)([+-]?\d*)$/;

const WRONG_FORMAT =
  "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
const WRONG_SUFFIX = "unable to parse quantity's suffix";

export class Quantity {
  /** The value in units of 10⁻⁹. */
  readonly nanos: bigint;
  readonly #notation: Notation;

  private constructor(nanos: bigint, notation: Notation) {
    this.nanos = nanos;
    this.#notation = notation;
  }

  static readonly zero = new Quantity(0n, 'decimal');

  /** Whole units (bytes, cores, pages). */
  static units(value: bigint | number, notation: Notation = 'decimal'): Quantity {
    return new Quantity(BigInt(value) * NANO, notation);
  }

  /** Thousandths. */
  static milli(value: bigint | number): Quantity {
    return new Quantity((BigInt(value) * NANO) / 1000n, 'decimal');
  }

  /** Throws INVALID_QUANTITY. What is finer than 10⁻⁹ is rounded away from zero. */
  static parse(input: string | number): Quantity {
    const text = typeof input === 'number' ? numberText(input) : input;
    const match = PATTERN.exec(text);
    const whole = match?.[2] ?? '';
    const fraction = match?.[3] ?? '';
    if (!match || (whole === '' && fraction === '')) throw invalid(text, WRONG_FORMAT);
    const scale = readSuffix(text, match[4] ?? '', match[5] ?? '');
    const digits = BigInt(`${whole}${fraction}`);
    // value = digits · 10^(ten − |fraction|) · 2^two, wanted in 10⁻⁹
    const ten = scale.ten - fraction.length + 9;
    const scaled = digits << BigInt(scale.two);
    let nanos = ten >= 0 ? scaled * 10n ** BigInt(ten) : divideUp(scaled, 10n ** BigInt(-ten));
    let notation = scale.notation;
    if (notation === 'binary') {
      if (nanos > MAX_BINARY) nanos = MAX_BINARY;
      if (nanos > 0n && nanos < NANO) notation = 'decimal';
    }
    return new Quantity(match[1] === '-' ? -nanos : nanos, notation);
  }

  add(other: Quantity): Quantity {
    // As upstream, a sum takes the notation of its first operand that is not zero.
    return new Quantity(this.nanos + other.nanos, this.nanos === 0n ? other.#notation : this.#notation);
  }

  compare(other: Quantity): -1 | 0 | 1 {
    return this.nanos < other.nanos ? -1 : this.nanos > other.nanos ? 1 : 0;
  }

  get isZero(): boolean {
    return this.nanos === 0n;
  }

  /** Whole units, rounded away from zero. */
  value(): bigint {
    return roundAway(this.nanos, NANO);
  }

  /** Thousandths, rounded away from zero. */
  milliValue(): bigint {
    return roundAway(this.nanos, NANO / 1000n);
  }

  /** With nothing finer than a thousandth, rounded up: what the API server does to every resource list. */
  roundUpToMilli(): Quantity {
    const step = NANO / 1000n;
    return this.nanos % step === 0n ? this : new Quantity(roundAway(this.nanos, step) * step, this.#notation);
  }

  /** True where the value is a multiple of `unit` units. */
  isMultipleOf(unit: bigint): boolean {
    return this.nanos % (unit * NANO) === 0n;
  }

  /** Canonical form: no fraction, no precision lost, the largest suffix. */
  toString(): string {
    if (this.nanos === 0n) return '0';
    const small = this.nanos > -1024n * NANO && this.nanos < 1024n * NANO;
    if (this.#notation === 'binary' && !small && this.nanos % NANO === 0n) return this.#binary();
    let number = this.nanos;
    let exponent = -9;
    const limit = this.#notation === 'exponent' ? MAX_EXPONENT : 18;
    while (exponent + 3 <= limit && number % 1000n === 0n) {
      number /= 1000n;
      exponent += 3;
    }
    return `${number}${this.#notation === 'exponent' ? exponentSuffix(exponent) : suffixOf(DECIMAL, exponent)}`;
  }

  toJSON(): string {
    return this.toString();
  }

  #binary(): string {
    let number = this.nanos / NANO;
    let exponent = 0;
    while (exponent < 60 && number % 1024n === 0n) {
      number /= 1024n;
      exponent += 10;
    }
    return `${number}${exponent === 0 ? '' : suffixOf(BINARY, exponent)}`;
  }
}

interface Scale {
  readonly ten: number;
  readonly two: number;
  readonly notation: Notation;
}

function readSuffix(text: string, letters: string, digits: string): Scale {
  if (digits === '') {
    const ten = DECIMAL.get(letters);
    if (ten !== undefined) return { ten, two: 0, notation: 'decimal' };
    const two = BINARY.get(letters);
    if (two !== undefined) return { ten: 0, two, notation: 'binary' };
    throw invalid(text, WRONG_SUFFIX);
  }
  const exponent = Number(digits);
  if (
    (letters !== 'e' && letters !== 'E') ||
    !Number.isInteger(exponent) ||
    Math.abs(exponent) > MAX_EXPONENT
  ) {
    throw invalid(text, letters === '' ? WRONG_FORMAT : WRONG_SUFFIX);
  }
  return { ten: exponent, two: 0, notation: 'exponent' };
}

/** A number from YAML or JSON in a form that the grammar knows. */
function numberText(value: number): string {
  if (!Number.isFinite(value)) throw invalid(String(value), WRONG_FORMAT);
  return String(value).replace('e+', 'e');
}

function invalid(text: string, reason: string): NodeletError {
  return new NodeletError('INVALID_QUANTITY', reason, { details: { value: text } });
}

function divideUp(value: bigint, by: bigint): bigint {
  return (value + by - 1n) / by;
}

function roundAway(value: bigint, by: bigint): bigint {
  return value < 0n ? -divideUp(-value, by) : divideUp(value, by);
}

function suffixOf(table: ReadonlyMap<string, number>, exponent: number): string {
  for (const [suffix, value] of table) if (value === exponent) return suffix;
  return '';
}

function exponentSuffix(exponent: number): string {
  return exponent === 0 ? '' : `e${exponent}`;
}
