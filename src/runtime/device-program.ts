/** The eBPF program that says which devices a container may open. Most containers share one. */

import { defaultDeviceRules, loadDeviceProgram } from '../linux/devices/index.ts';
import type { RuntimeContext } from './context.ts';
import { requestedDevices } from './devices.ts';
import type { ContainerRecord } from './records.ts';

/** Undefined for a privileged container; close() frees a program that only one container uses. */
export function deviceProgram(
  context: RuntimeContext,
  { config, edits }: Pick<ContainerRecord, 'config' | 'edits'>,
): { readonly fd: number; close(): void } | undefined {
  if (config.linux?.securityContext?.privileged === true) return undefined;
  const rules = [...requestedDevices(config.devices ?? []).rules, ...(edits?.rules ?? [])];
  if (rules.length === 0) {
    const fd = context.defaultDeviceProgram();
    return fd === undefined ? undefined : { fd, close() {} };
  }
  const own = loadDeviceProgram([...defaultDeviceRules, ...rules]);
  return { fd: own.number, close: () => own.close() };
}
