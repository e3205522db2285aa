/** Types of judges.mjs, which is plain Node because it runs before anything is bundled. */
export function atLeast(a: string, b: string): boolean;
export function judges(
  cache: string,
  say: (text: string) => void,
): { readonly obstacle: string } | { readonly critest: string; readonly crictl: string };
