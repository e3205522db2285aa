/** `$(NAME)` references in environment values, commands and arguments; `$$` is a dollar. */

/** A reference to a name that `lookup` does not know stays as it is written. */
export function expand(text: string, lookup: (name: string) => string | undefined): string {
  return text.replace(/\$(?:\$|\(([^)]*)\))/g, (whole, name: string | undefined) =>
    name === undefined ? '$' : (lookup(name) ?? whole),
  );
}

/** The same, where a reference to an unknown name is an error: returns that name. */
export function expandStrictly(
  text: string,
  lookup: (name: string) => string | undefined,
): { readonly value: string } | { readonly missing: string } {
  let missing: string | undefined;
  const value = expand(text, (name) => {
    const found = lookup(name);
    if (found === undefined) missing ??= name;
    return found;
  });
  return missing === undefined ? { value } : { missing };
}
