/** From the CDI devices of a request to the edits that they stand for. Pure. */
import { NodeletError } from '../../base/index.ts';
import type { CdiFiles } from './files.ts';
import { type CdiContainerEdits, parseDeviceName } from './spec.ts';

const ANNOTATION = 'cdi.k8s.io/';

/** The names that a request has in its field and in annotations `cdi.k8s.io/…`, each once. Throws CDI_DEVICE_INVALID. */
export function requestedCdiDevices(
  field: readonly { readonly name?: string }[] | undefined,
  annotations: Readonly<Record<string, string>> | undefined,
): string[] {
  const names = new Set<string>((field ?? []).map(({ name = '' }) => name));
  for (const [key, value] of Object.entries(annotations ?? {})) {
    if (!key.startsWith(ANNOTATION)) continue;
    for (const name of value.split(',')) names.add(name.trim());
  }
  for (const name of names) parseDeviceName(name);
  return [...names];
}

/**
 * The edits of these devices: those of a file once, before those of its devices. Throws CDI_DEVICE_NOT_FOUND, naming all that
 * are missing, and CDI_EDIT_UNSUPPORTED.
 */
export function cdiEdits(names: readonly string[], { specs, problems }: CdiFiles): CdiContainerEdits[] {
  const missing: string[] = [];
  const used = new Set<string>();
  const edits: CdiContainerEdits[] = [];
  for (const name of names) {
    const { kind, device } = parseDeviceName(name);
    const having = specs.filter((spec) => spec.kind === kind && spec.devices.has(device));
    const best = Math.max(...having.map((spec) => spec.directory));
    const [found, twice] = having.filter((spec) => spec.directory === best);
    const own = found?.devices.get(device);
    if (found === undefined || own === undefined) {
      missing.push(name);
      continue;
    }
    if (twice !== undefined)
      throw new NodeletError(
        'CDI_DEVICE_NOT_FOUND',
        `CDI device ${JSON.stringify(name)} is defined twice: in ${found.file} and ${twice.file}`,
        { hint: 'remove one of the files' },
      );
    for (const part of used.has(found.file) ? [own] : [found.edits, own]) {
      const [beyond] = part.beyond;
      if (beyond !== undefined)
        throw new NodeletError(
          'CDI_EDIT_UNSUPPORTED',
          `CDI device ${JSON.stringify(name)}: ${found.file} asks for ${beyond}, which this runtime does not carry out`,
          { hint: 'use a specification that needs only env, deviceNodes, mounts and additionalGids' },
        );
      edits.push(part);
    }
    used.add(found.file);
  }
  if (missing.length > 0) {
    const because = problems.length === 0 ? '' : ` (${problems.join('; ')})`;
    throw new NodeletError(
      'CDI_DEVICE_NOT_FOUND',
      `cannot find the CDI devices ${missing.map((name) => JSON.stringify(name)).join(', ')}${because}`,
      { hint: 'their specifications belong into /etc/cdi or /var/run/cdi' },
    );
  }
  return edits;
}
