/**
 * i386 reaches the socket and System V IPC calls in two ways: directly, and through socketcall(2) and ipc(2), whose
 * first argument says which call is meant (linux/net.h, linux/ipc.h). A rule about one of them has to hold for both.
 */
const SOCKETCALL: readonly string[] = [
  'socket', // 1
  'bind',
  'connect',
  'listen',
  'accept',
  'getsockname',
  'getpeername',
  'socketpair',
  'send',
  'recv',
  'sendto',
  'recvfrom',
  'shutdown',
  'setsockopt',
  'getsockopt',
  'sendmsg',
  'recvmsg',
  'accept4',
  'recvmmsg',
  'sendmmsg', // 20
];

const IPC: Readonly<Record<string, number>> = {
  semop: 1,
  semget: 2,
  semctl: 3,
  semtimedop: 4,
  msgsnd: 11,
  msgrcv: 12,
  msgget: 13,
  msgctl: 14,
  shmat: 21,
  shmdt: 22,
  shmget: 23,
  shmctl: 24,
};

/** The multiplexer of a call on i386, and what its first argument is then; undefined for all other calls. */
export function multiplexed(
  name: string,
): { readonly through: 'socketcall' | 'ipc'; readonly call: number } | undefined {
  const socket = SOCKETCALL.indexOf(name);
  if (socket >= 0) return { through: 'socketcall', call: socket + 1 };
  return Object.hasOwn(IPC, name) ? { through: 'ipc', call: IPC[name]! } : undefined;
}
