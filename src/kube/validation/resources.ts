import { messageOf } from '../../base/index.ts';
import { child, type FieldErrors, key } from '../field-error.ts';
import type { ResourceRequirements } from '../gen/types.gen.ts';
import { Quantity } from '../quantity.ts';
import { qualifiedName } from './names.ts';

const HUGEPAGES = 'hugepages-';
const STANDARD = new Set(['cpu', 'memory', 'ephemeral-storage']);

export function isHugePages(name: string): boolean {
  return name.startsWith(HUGEPAGES);
}

/** Bytes of one page of a resource `hugepages-2Mi`; undefined where the name holds no size. */
export function hugePageSize(name: string): bigint | undefined {
  try {
    const size = Quantity.parse(name.slice(HUGEPAGES.length)).value();
    return size > 0n ? size : undefined;
  } catch {
    return undefined;
  }
}

/** The parsed quantity, or undefined after an error was added. */
export function parseQuantity(
  value: string | number,
  path: string,
  errors: FieldErrors,
): Quantity | undefined {
  try {
    return Quantity.parse(value);
  } catch (error) {
    errors.invalid(path, value, messageOf(error));
    return undefined;
  }
}

export function validateResources(resources: ResourceRequirements, path: string, errors: FieldErrors): void {
  const limits = parseList(resources.limits ?? {}, child(path, 'limits'), errors);
  const requests = parseList(resources.requests ?? {}, child(path, 'requests'), errors);
  for (const [name, request] of requests) {
    const limit = limits.get(name);
    const at = child(path, 'requests');
    if (limit === undefined) {
      if (isHugePages(name))
        errors.required(child(path, 'limits'), 'Limit must be set for non overcommitable resources');
    } else if (isHugePages(name) && request.compare(limit) !== 0) {
      errors.invalid(at, request.toString(), `must be equal to ${name} limit of ${limit.toString()}`);
    } else if (request.compare(limit) > 0) {
      errors.invalid(
        at,
        request.toString(),
        `must be less than or equal to ${name} limit of ${limit.toString()}`,
      );
    }
  }
  const names = [...limits.keys(), ...requests.keys()];
  if (names.some(isHugePages) && !names.some((name) => name === 'cpu' || name === 'memory')) {
    errors.forbidden(path, 'HugePages require cpu or memory');
  }
}

function parseList(
  list: Readonly<Record<string, string | number>>,
  path: string,
  errors: FieldErrors,
): Map<string, Quantity> {
  const parsed = new Map<string, Quantity>();
  for (const [name, value] of Object.entries(list)) {
    const at = key(path, name);
    validateName(name, at, errors);
    const quantity = parseQuantity(value, at, errors);
    if (quantity === undefined) continue;
    parsed.set(name, quantity);
    if (quantity.nanos < 0n) errors.invalid(at, quantity.toString(), 'must be greater than or equal to 0');
    const page = isHugePages(name) ? hugePageSize(name) : undefined;
    if (page !== undefined && !quantity.isMultipleOf(page)) {
      errors.invalid(
        at,
        quantity.toString(),
        `${quantity.toString()} is not positive integer multiple of ${name}`,
      );
    }
    if (name.includes('/') && !quantity.isMultipleOf(1n))
      errors.invalid(at, quantity.toString(), 'must be an integer');
  }
  return parsed;
}

function validateName(name: string, path: string, errors: FieldErrors): void {
  const reasons = qualifiedName(name);
  errors.invalidEach(path, name, reasons);
  if (reasons.length > 0 || name.includes('/') || STANDARD.has(name)) return;
  if (isHugePages(name) && hugePageSize(name) !== undefined) return;
  errors.invalid(path, name, 'must be a standard resource for containers');
}
