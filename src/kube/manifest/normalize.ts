/**
 * A document as plain JSON of our own: every value new (aliases no longer shared), null fields dropped as the API
 * server's decoder does. Throws a RangeError-free description of what JSON cannot hold.
 */

export type Normalized =
  | { readonly value: unknown }
  | { readonly problem: string; readonly path: (string | number)[] };

export function normalize(input: unknown): Normalized {
  const path: (string | number)[] = [];
  const visit = (value: unknown): unknown => {
    if (Array.isArray(value)) {
      return value.map((item: unknown, i) => {
        path.push(i);
        const out = visit(item) ?? null;
        path.pop();
        return out;
      });
    }
    if (typeof value === 'number' && !Number.isFinite(value)) throw new NotJson(`the number ${value}`);
    if (typeof value !== 'object' || value === null) return value ?? undefined;
    if (!isPlain(value)) throw new NotJson(`a value of YAML type ${value.constructor.name}`);
    const entries: [string, unknown][] = [];
    for (const [name, item] of Object.entries(value)) {
      path.push(name);
      const out = visit(item);
      path.pop();
      if (out !== undefined && out !== null) entries.push([name, out]);
    }
    // fromEntries defines properties: a key named __proto__ stays a key
    return Object.fromEntries(entries);
  };
  try {
    return { value: visit(input) };
  } catch (error) {
    if (error instanceof NotJson)
      return { problem: `${error.message} has no meaning in JSON`, path: [...path] };
    throw error;
  }
}

class NotJson extends Error {}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
