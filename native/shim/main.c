/* nodelet-shim ID SOCKET: the agent's first connection is descriptor 3. With an empty SOCKET that is its only one, and
 * what it has started may outlive it (nodelet oci). */
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "shim.h"

const char *sandbox_name = "";
bool quitting;
bool single;
bool leaving;
bool staying;

static int loop = -1;
static struct source signals = {.fd = -1};

/* Events of one round may still point at what an earlier one of the round has ended: it is freed between rounds. */
static void *graveyard[256];
static unsigned buried;

void free_later(void *memory) {
  if (buried == sizeof graveyard / sizeof graveyard[0]) return; /* cannot happen: more than one round's events */
  graveyard[buried++] = memory;
}

static void bury(void) {
  while (buried > 0) free(graveyard[--buried]);
}

void watch(struct source *s, uint32_t events) {
  struct epoll_event event = {.events = events, .data.ptr = s};
  epoll_ctl(loop, EPOLL_CTL_ADD, s->fd, &event);
}

void unwatch(struct source *s) {
  if (s->fd >= 0) epoll_ctl(loop, EPOLL_CTL_DEL, s->fd, NULL);
}

void loop_close_in_child(void) {
  close_fd(&loop);
  close_fd(&signals.fd);
}

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#else
#error "no seccomp architecture for this machine"
#endif

/* Waiting for signals and children is all that a pause process does; whoever takes it over can do no more. */
static void pause_filter(void) {
#define ALLOW(call) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NATIVE_ARCH, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      ALLOW(SYS_rt_sigtimedwait),
      ALLOW(SYS_wait4),
      ALLOW(SYS_rt_sigprocmask),
      ALLOW(SYS_rt_sigreturn),
      ALLOW(SYS_restart_syscall),
      ALLOW(SYS_exit_group),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
  };
#undef ALLOW
  struct sock_fprog program = {.len = sizeof code / sizeof code[0], .filter = code};
  /* no_new_privs was set on the way here. A kernel without filters has no container either. */
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0) _exit(3);
}

/* PID 1 of a PID namespace that the pod's containers share: inherits their orphans and reaps them. It runs in an empty
 * read-only root, without descriptors and privileges, because containers can look at it. */
static _Noreturn void pause_main(void) {
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  prctl(PR_SET_NAME, "pause");
  pause_filter();
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  /* Blocked, so that a child that ends between the last look and the wait is not missed. */
  sigprocmask(SIG_BLOCK, &child, NULL);
  for (;;) {
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
    sigwaitinfo(&child, NULL);
  }
}

static void signals_ready(struct source *s, uint32_t events) {
  struct signalfd_siginfo info;
  (void)events;
  while (read(s->fd, &info, sizeof info) == sizeof info) {
  }
  /* Only SIGCHLD matters. SIGTERM and the like do not end a parent of containers: the agent says quit. */
  process_reap();
}

int main(int argc, char **argv) {
  if (argc == 1 && strcmp(argv[0], "pause") == 0) pause_main();
  if (argc != 3) {
    fputs("usage: nodelet-shim SANDBOX-ID SOCKET (started by nodelet)\n", stderr);
    return 2;
  }
  sandbox_name = argv[1];
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, NULL);
  /* Not dumpable: a process that joins the pod's namespaces on its way to exec cannot be traced or read from inside
   * (CVE-2016-9962); exec makes it dumpable again. */
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) return 3;
  umask(0);
  if (chdir("/") < 0) return 3;
  loop = epoll_create1(EPOLL_CLOEXEC);
  signals.fd = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
  signals.ready = signals_ready;
  if (loop < 0 || signals.fd < 0 || plan_prepare() < 0) return 3;
  watch(&signals, EPOLLIN);
  int first = fcntl(3, F_GETFD) < 0 ? -1 : 3;
  if (first >= 0) {
    fcntl(first, F_SETFD, FD_CLOEXEC);
    fcntl(first, F_SETFL, O_NONBLOCK);
  }
  single = argv[2][0] == 0;
  server_start(argv[2], first);
  while (!quitting) {
    struct epoll_event events[32];
    int n = epoll_wait(loop, events, 32, sinks_expire());
    if (n < 0 && errno != EINTR) return 3;
    for (int i = 0; i < n; i++) {
      struct source *s = events[i].data.ptr;
      if (s->fd >= 0) s->ready(s, events[i].events);
    }
    bury();
  }
  if (single && !leaving) process_kill_all();
  server_stop();
  return 0;
}
