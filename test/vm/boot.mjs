// One run of QEMU: started, watched, ended.
import { spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { dirname } from 'node:path';

/** Seconds until the guest's own init has to have spoken. */
const BOOT_DEADLINE = 120;

/**
 * Boots the guest and resolves when QEMU has ended.
 *
 * disks: files in the order vda, vdb …; `keep: false` throws away what the guest writes.
 * deadline: seconds for the whole run; the guest ends its tests before that by itself.
 * line: called with each line of the console.
 * interactive: the console is this terminal's, and no deadline holds.
 *
 * Resolves to `{ console, exit, ended }`: the console's text, QEMU's exit status, and why it ended, one of "itself",
 * "boot" (nothing heard from the guest's init in time), "deadline", "signal".
 */
export function boot({ kernel, initrd, disks, memory, cpus, deadline, log, line, interactive = false }) {
  const mode = interactive ? 'shell' : 'tests';
  const drives = disks.map(
    ({ file, keep }) =>
      `file=${file.replaceAll(',', ',,')},format=raw,if=virtio,cache=unsafe,snapshot=${keep ? 'off' : 'on'}`,
  );
  const args = [
    // Emulated even where /dev/kvm is: it can be there and hang, and a result should not depend on it.
    ['-accel', 'tcg,thread=multi,tb-size=512'],
    ['-cpu', 'max'],
    ['-smp', String(cpus)],
    ['-m', String(memory)],
    ['-nodefaults', '-no-user-config', '-display', 'none', '-net', 'none'],
    ['-serial', interactive ? 'mon:stdio' : 'stdio'],
    ['-device', 'virtio-rng-pci'],
    ['-kernel', kernel, '-initrd', initrd],
    // Panics end the run at once: the guest reboots, which -no-reboot turns into an exit.
    [
      '-append',
      `console=ttyS0 quiet panic=-1 oops=panic random.trust_cpu=on nodelet.mode=${mode}`,
      '-no-reboot',
    ],
    ...drives.map((drive) => ['-drive', drive]),
  ].flat();
  const child = spawn('qemu-system-x86_64', args, {
    stdio: interactive ? 'inherit' : ['ignore', 'pipe', 'pipe'],
    // What the guest writes to a disk that is not kept goes to a nameless file there.
    env: { ...process.env, TMPDIR: dirname(initrd) },
  });
  const { promise, resolve, reject } = Promise.withResolvers?.() ?? withResolvers();
  let ended = 'itself';
  let text = '';
  let rest = '';
  const end = (why) => {
    if (ended !== 'itself') return;
    ended = why;
    child.kill('SIGKILL');
  };
  const timers = interactive
    ? []
    : [
        setTimeout(() => (text.includes('vm: tests begin') ? undefined : end('boot')), BOOT_DEADLINE * 1000),
        setTimeout(() => end('deadline'), deadline * 1000),
      ];
  const onSignal = () => end('signal');
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, onSignal);
  const file = interactive ? undefined : createWriteStream(log);
  const hear = (chunk) => {
    file?.write(chunk);
    const clean = chunk.replaceAll('\r', '');
    text += clean;
    const lines = (rest + clean).split('\n');
    rest = lines.pop() ?? '';
    for (const one of lines) line(one);
  };
  for (const stream of [child.stdout, child.stderr]) stream?.setEncoding('utf8').on('data', hear);
  child.on('error', (error) => reject(new Error(`cannot start "qemu-system-x86_64": ${error.message}`)));
  child.on('close', (exit) => {
    for (const timer of timers) clearTimeout(timer);
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.off(signal, onSignal);
    if (rest !== '') line(rest);
    if (file === undefined) resolve({ console: text, exit, ended });
    else file.end(() => resolve({ console: text, exit, ended }));
  });
  return promise;
}

/** Promise.withResolvers, which Node 20 lacks. */
function withResolvers() {
  let resolve;
  let reject;
  const promise = new Promise((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
