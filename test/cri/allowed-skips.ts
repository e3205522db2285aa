/** The specs of critest that may be skipped, and why; docs/conformance.md says the same. */
import type { AllowedSkip } from './report.ts';

export const ALLOWED_SKIPS: readonly AllowedSkip[] = [
  {
    spec: /\bAppArmor\b/,
    message: /^AppArmor is disabled on this host$/,
    reason: 'the kernel has no AppArmor',
  },
];
