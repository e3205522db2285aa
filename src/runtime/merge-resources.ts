/** An update of resources over those that a container has: what it leaves out stays. Pure. */
import type { LinuxContainerResources } from '../cri/index.ts';

/** On the wire 0, an empty text and an empty list are what is left out (as containerd takes them). */
export function mergeResources(
  current: LinuxContainerResources,
  update: LinuxContainerResources,
): LinuxContainerResources {
  const { unified, hugepageLimits, ...plain } = update;
  const said = Object.entries(plain).filter(
    ([, value]) => value !== undefined && value !== 0 && value !== '',
  );
  const sizes = new Set((hugepageLimits ?? []).map(({ pageSize }) => pageSize));
  const pages = [
    ...(current.hugepageLimits ?? []).filter(({ pageSize }) => !sizes.has(pageSize)),
    ...(hugepageLimits ?? []),
  ];
  const files = { ...current.unified, ...unified };
  const merged: LinuxContainerResources = {
    ...current,
    ...Object.fromEntries(said),
    ...(pages.length === 0 ? {} : { hugepageLimits: pages }),
    ...(Object.keys(files).length === 0 ? {} : { unified: files }),
  };
  // A new limit without a word on swap takes the swap of the old one with it.
  if ((update.memoryLimitInBytes ?? 0) !== 0 && (update.memorySwapLimitInBytes ?? 0) === 0)
    delete merged.memorySwapLimitInBytes;
  return merged;
}
