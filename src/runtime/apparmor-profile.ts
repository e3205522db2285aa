/** The AppArmor profile of containers that ask for none of their own: what Docker's and containerd's default also denies. */

export const DEFAULT_APPARMOR_PROFILE = 'nodelet-default';

/** Text for apparmor_parser. Namespaces, capabilities and seccomp do the rest: this is the second lock on the same door. */
export function defaultAppArmorProfile(): string {
  const name = DEFAULT_APPARMOR_PROFILE;
  return [
    `profile ${name} flags=(attach_disconnected,mediate_deleted) {`,
    '  network,',
    '  capability,',
    '  file,',
    '  umount,',
    '  # Signals of the runtime, and among the processes of containers.',
    '  signal (receive) peer=unconfined,',
    `  signal (send,receive) peer=${name},`,
    '  deny mount,',
    '  # The kernel through /proc: what belongs to no process.',
    '  deny /proc/* w,',
    '  deny /proc/{acpi,bus,fs,irq,scsi,tty}/** w,',
    '  deny /proc/sys/{abi,crypto,debug,dev,fs,sunrpc,user,vm}/** w,',
    '  deny /proc/sys/kernel/[^ms]** w,',
    '  deny /proc/{kcore,sysrq-trigger} rwklx,',
    '  # The kernel through /sys: all but cgroups.',
    '  deny /sys/{block,bus,class,dev,devices,hypervisor,kernel,module,power}/** wklx,',
    '  deny /sys/fs/[^c]** wklx,',
    '  deny /sys/firmware/** rwklx,',
    '  deny /sys/devices/virtual/powercap/** rwklx,',
    '  deny /sys/kernel/security/** rwklx,',
    `  ptrace (trace,read,tracedby,readby) peer=${name},`,
    '}',
    '',
  ].join('\n');
}
