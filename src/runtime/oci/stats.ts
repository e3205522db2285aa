/** What a cgroup uses in the words of `runc events` (types/events.go of runc), which containerd and podman read. */
import type { CgroupStats } from '../../linux/cgroups/index.ts';

export function runcStats({ cpu, memory, pids, io }: CgroupStats): Record<string, unknown> {
  const operation = (op: string, value: number) => ({ major: 0, minor: 0, op, value });
  return {
    cpu: {
      usage: {
        total: cpu?.usageNanos ?? 0,
        kernel: cpu?.systemNanos ?? 0,
        user: cpu?.userNanos ?? 0,
      },
      throttling: {
        periods: cpu?.periods ?? 0,
        throttledPeriods: cpu?.throttledPeriods ?? 0,
        throttledTime: cpu?.throttledNanos ?? 0,
      },
    },
    memory: {
      cache: memory?.fileCache ?? 0,
      usage: {
        limit: memory?.limit ?? 0,
        usage: memory?.usage ?? 0,
        max: memory?.peak ?? 0,
        failcnt: 0,
      },
      swap: {
        limit: memory?.swapLimit ?? 0,
        usage: memory?.swapUsage ?? 0,
        max: 0,
        failcnt: 0,
      },
      raw: {
        rss: memory?.rss ?? 0,
        cache: memory?.fileCache ?? 0,
        inactive_file: memory?.inactiveFile ?? 0,
        pgfault: memory?.pageFaults ?? 0,
        pgmajfault: memory?.majorPageFaults ?? 0,
      },
    },
    pids: { current: pids?.current ?? 0, limit: pids?.limit ?? 0 },
    blkio:
      io === undefined
        ? {}
        : {
            ioServiceBytesRecursive: [operation('Read', io.readBytes), operation('Write', io.writtenBytes)],
            ioServicedRecursive: [operation('Read', io.reads), operation('Write', io.writes)],
          },
    hugetlb: {},
  };
}
