import type { RuntimeContext } from './context.ts';

/** Operations that were refused but may be: said once for each kind and process lifetime. */
export function logWarnings(
  context: RuntimeContext,
  id: string,
  warnings: readonly { readonly operation: string; readonly error: string }[],
): void {
  for (const { operation, error } of warnings) {
    const expected =
      !context.host.features.sysResource && (operation === 'oom-score' || operation === 'rlimit');
    context.log[expected ? 'debug' : 'warn'](
      { id, operation, error },
      'the host refused a launch operation that containers can do without',
    );
  }
}
