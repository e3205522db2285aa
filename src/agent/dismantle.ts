import { hasCode } from '../base/index.ts';
import { processesIn, readCgroupHost, removeCgroup } from '../linux/cgroups/index.ts';
import type { Agent } from './agent.ts';

/** Removes the agent's cgroups from every hierarchy; they stay while a process is in one of them. */
export async function removeCgroups(agent: Agent): Promise<void> {
  const host = agent.local?.runtime.context.cgroups.host ?? readCgroupHost();
  const { cgroupRoot } = agent.config;
  try {
    if (processesIn(host, cgroupRoot).length === 0) await removeCgroup(host, cgroupRoot, { deadline: 2000 });
  } catch (error) {
    if (!hasCode(error, 'CGROUP_BUSY')) throw error;
  }
}
