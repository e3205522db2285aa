/** Runs a command and says what it cost: wall and CPU time with all of its children, and the largest of them in memory. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';

export interface Cost {
  /** Seconds. */
  readonly wall: number;
  readonly cpu: number;
  /** Bytes: the highest resident size of any one process. */
  readonly peak: number;
}

/** getrusage(2) of children is what Node lacks. */
const PYTHON = [
  'import json,resource,subprocess,sys,time',
  'a=time.monotonic()',
  'r=subprocess.run(sys.argv[1:],stdin=subprocess.DEVNULL,stdout=subprocess.DEVNULL,stderr=subprocess.PIPE)',
  'b=time.monotonic()',
  'u=resource.getrusage(resource.RUSAGE_CHILDREN)',
  'print(json.dumps({"status":r.returncode,"errors":r.stderr.decode(errors="replace")[-2000:],"wall":b-a,"cpu":u.ru_utime+u.ru_stime,"peak":u.ru_maxrss*1024}))',
].join('\n');

export async function cost(command: string, ...args: readonly string[]): Promise<Cost> {
  const child = spawn('python3', ['-c', PYTHON, command, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.on('data', (data: Buffer) => {
    text += data.toString();
  });
  await new Promise((resolve) => child.once('close', resolve));
  const { status, errors, ...found } = JSON.parse(text) as Cost & { status: number; errors: string };
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: exit ${status}: ${errors}`);
  return found;
}

/** CPU seconds that a process has used so far. */
export function cpuOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
