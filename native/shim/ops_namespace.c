/* Operations on namespaces, sessions and limits of the calling child. */
#include <fcntl.h>
#include <linux/keyctl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "shim.h"

/* One call for all of them: the kernel checks permissions against the namespaces' own owner (Linux 5.8). */
int run_join_process(struct runner *r, const struct op_join_process *a) {
  int fd = slot_fd(r, a->pidfd);
  if (fd < 0) return -EBADF;
  return setns(fd, (int)a->kinds) < 0 ? -errno : 0;
}

/* A keyring of its own, so that the container sees no key of ours; anybody in it may search it. */
int run_session_keyring(struct runner *r, const struct op_session_keyring *a) {
  long key = syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, a->name, 0, 0, 0);
  if (key < 0) return tolerate(r, errno, a->flags);
  const unsigned long user_search = 0x00080000;
  long description = syscall(SYS_keyctl, KEYCTL_SETPERM, key, 0x3f000000 | user_search, 0, 0);
  return description < 0 ? tolerate(r, errno, a->flags) : 0;
}

int run_death_signal(struct runner *r, const struct op_death_signal *a) {
  (void)r;
  if (prctl(PR_SET_PDEATHSIG, a->signal_number) < 0) return -errno;
  return 0;
}

int run_session(struct runner *r) {
  (void)r;
  /* EPERM: this process leads a group already, which a fresh child cannot. */
  return setsid() < 0 ? -errno : 0;
}

int run_rlimit(struct runner *r, const struct op_rlimit *a) {
  struct rlimit limit = {.rlim_cur = a->soft, .rlim_max = a->hard};
  if (setrlimit((int)a->resource, &limit) == 0) return 0;
  return tolerate(r, errno, a->flags);
}

int run_hostname(struct runner *r, const struct op_hostname *a) {
  (void)r;
  return sethostname(a->name, strlen(a->name)) < 0 ? -errno : 0;
}

int run_domainname(struct runner *r, const struct op_domainname *a) {
  (void)r;
  return setdomainname(a->name, strlen(a->name)) < 0 ? -errno : 0;
}

int run_loopback_up(struct runner *r) {
  (void)r;
  struct ifreq request = {.ifr_name = "lo"};
  AUTO_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  if (ioctl(fd, SIOCGIFFLAGS, &request) < 0) return -errno;
  request.ifr_flags |= IFF_UP | IFF_RUNNING;
  return ioctl(fd, SIOCSIFFLAGS, &request) < 0 ? -errno : 0;
}
