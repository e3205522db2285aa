/**
 * The command that runs `program` in network, mount and IPC namespaces of its own: what a suite or a peer's daemon leaves
 * of links, mounts and shared memory ends with it. Mounts made inside spread among all who are inside, none to the host.
 */
export function enclosed(program, args) {
  const begin =
    'mount --make-rshared / && ip link set lo up && echo 1 >/proc/sys/net/ipv4/ip_forward && exec "$@"';
  return [
    'unshare',
    '--net',
    '--mount',
    '--ipc',
    '--propagation',
    'private',
    'sh',
    '-c',
    begin,
    'enclosed',
    program,
    ...args,
  ];
}
