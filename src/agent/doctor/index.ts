/** Examines this machine: every probe first, then the verdicts on what they brought back. Leaves nothing behind. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { capabilityNames } from '../../linux/capabilities.ts';
import { native, nativeFile } from '../../linux/native.ts';
import { packageRoot } from '../../linux/package-root.ts';
import { readLimits, readMeminfo, readStatus } from '../../linux/procfs.ts';
import { AgentClient } from '../api/client.ts';
import { type AgentConfig, socketPath } from '../config.ts';
import type { Facts, MachineFacts, ProgramFacts, RightsFacts } from './facts.ts';
import { probeCgroups } from './probe-cgroups.ts';
import { probeKernel, readNumberIf } from './probe-kernel.ts';
import { probeNetwork } from './probe-network.ts';
import { probeStorage } from './probe-storage.ts';
import { attempt, works } from './tools.ts';
import type { Diagnosis } from './types.ts';
import { judge } from './verdicts.ts';

export async function examine(config: AgentConfig): Promise<Diagnosis> {
  const findings = judge(await probe(config));
  const ready = !findings.some(({ level, status }) => level === 'needed' && status !== 'ok');
  return { root: config.root, findings, ready };
}

async function probe(config: AgentConfig): Promise<Facts> {
  const [program, kernel, cgroups, storage, network] = await Promise.all([
    probeProgram(config),
    probeKernel(),
    probeCgroups(),
    probeStorage(config.root),
    probeNetwork(config),
  ]);
  return { program, rights: probeRights(), kernel, cgroups, storage, network, machine: probeMachine() };
}

async function probeProgram(config: AgentConfig): Promise<ProgramFacts> {
  const socket = socketPath(config);
  return {
    node: process.versions.node,
    addon: await works(() => native()),
    shim: await works(() => nativeFile('nodelet-shim')),
    agent: await runningAgent(socket),
    socket,
  };
}

async function runningAgent(socket: string): Promise<number | undefined> {
  const answer = await attempt(() => new AgentClient(socket).version());
  return answer.ok ? answer.value.pid : undefined;
}

function probeRights(): RightsFacts {
  const sets = readStatus('self')?.capabilities;
  return {
    uid: process.getuid?.() ?? -1,
    capabilities: capabilityNames((sets?.effective ?? 0n) & (sets?.bounding ?? 0n)),
  };
}

function probeMachine(): MachineFacts {
  const memory = readMeminfo();
  const files = readLimits('self')?.get('Max open files')?.hard ?? 0;
  const sysctl = (name: string): number | undefined => readNumberIf(`/proc/sys/${name}`);
  return {
    memory: { available: memory.get('MemAvailable') ?? 0, total: memory.get('MemTotal') ?? 0 },
    openFiles: files === 'unlimited' ? Number.MAX_SAFE_INTEGER : files,
    inotify: {
      instances: sysctl('fs/inotify/max_user_instances'),
      watches: sysctl('fs/inotify/max_user_watches'),
    },
    maxPid: sysctl('kernel/pid_max'),
    clock: { now: Date.now(), built: statSync(join(packageRoot(), 'package.json')).mtimeMs },
  };
}
