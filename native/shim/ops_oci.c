/* Operations of a container that one program creates and another one starts, as OCI runtimes do: the child waits at a
 * socket, and hooks run at their points. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/personality.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "shim.h"

#define STATE_LIMIT (1u << 20)

int run_listen(struct runner *r, const struct op_listen *a) {
  int fd = listen_at(a->directory, a->name);
  if (fd < 0) return fail_with(r, -fd, "%s/%s", a->directory, a->name);
  int flags = fcntl(fd, F_GETFL);
  /* Who waits here has nothing else to do. */
  if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0) {
    int error = errno;
    close(fd);
    return -error;
  }
  return set_slot(r, a->out, fd);
}

/* One packet as a text that this process owns. */
static int receive_text(int fd, char **out) {
  ssize_t n;
  do n = recv(fd, NULL, 0, MSG_PEEK | MSG_TRUNC);
  while (n < 0 && errno == EINTR);
  if (n < 0) return -errno;
  if (n == 0) return -EPIPE;
  if ((size_t)n > STATE_LIMIT) return -E2BIG;
  char *text = malloc((size_t)n + 1);
  if (text == NULL) return -ENOMEM;
  do n = recv(fd, text, (size_t)n, 0);
  while (n < 0 && errno == EINTR);
  if (n <= 0) {
    int error = n < 0 ? errno : EPIPE;
    free(text);
    return -error;
  }
  text[n] = 0;
  free(*out);
  *out = text;
  return 0;
}

int run_checkpoint(struct runner *r) {
  int error = send_status(r->status, STATUS_CHECKPOINT, 0, -1);
  return error != 0 ? error : receive_text(r->status, &r->state);
}

int run_await_start(struct runner *r, const struct op_await_start *a) {
  int socket = slot_fd(r, a->socket);
  if (socket < 0) return -EBADF;
  /* The report is done with: whoever starts the container hears the rest. */
  int error = send_status(r->status, STATUS_READY, 0, -1);
  if (error != 0) return error;
  close(r->status);
  r->status = -1;
  int peer;
  do peer = accept4(socket, NULL, NULL, SOCK_CLOEXEC);
  while (peer < 0 && (errno == EINTR || errno == ECONNABORTED));
  if (peer < 0) _exit(125);
  /* From here on nobody else can start it. */
  close(socket);
  r->slots[a->socket] = -1;
  r->starter = peer;
  return receive_text(peer, &r->state);
}

/* "operation code, errno, detail"; a closed connection without it says that the program runs. */
void report_to_starter(const struct runner *r) {
  char text[512];
  if (r->starter < 0) return;
  int n = snprintf(text, sizeof text, "%u %d %s", r->code, r->report->error, r->report->detail);
  (void)!send(r->starter, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1, MSG_NOSIGNAL);
}

/* The state goes in as the hook reads it; one that does not read ends without it. */
static void feed(int fd, const char *text) {
  struct timespec none = {0, 0};
  sigset_t pipes, before;
  size_t size = strlen(text);
  sigemptyset(&pipes);
  sigaddset(&pipes, SIGPIPE);
  sigprocmask(SIG_BLOCK, &pipes, &before);
  while (size > 0) {
    ssize_t n = write(fd, text, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    text += n;
    size -= (size_t)n;
  }
  while (sigtimedwait(&pipes, NULL, &none) > 0) {
  }
  sigprocmask(SIG_SETMASK, &before, NULL);
}

int run_hook(struct runner *r, const struct op_hook *a) {
  char **argv = vector_of(&a->argv), **env = vector_of(&a->env);
  int ends[2], status = 0;
  if (argv == NULL || env == NULL) return -ENOMEM;
  if (pipe2(ends, O_CLOEXEC) < 0) return -errno;
  /* Not clone3: a filter may have been installed that answers ENOSYS to it. */
  pid_t pid = fork();
  if (pid < 0) {
    int error = errno;
    close(ends[0]);
    close(ends[1]);
    return -error;
  }
  if (pid == 0) {
    if (dup2(ends[0], 0) < 0) _exit(126);
    syscall(SYS_close_range, 3, ~0U, 4U /* CLOSE_RANGE_CLOEXEC */);
    execve(a->path, argv, env);
    _exit(errno == ENOENT ? 127 : 126);
  }
  close(ends[0]);
  int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
  feed(ends[1], r->state == NULL ? "" : r->state);
  close(ends[1]);
  struct pollfd watched = {.fd = pidfd, .events = POLLIN};
  int n = 1;
  if (pidfd >= 0 && a->timeout > 0) {
    do n = poll(&watched, 1, (int)(a->timeout > 2000000u ? 2000000000u : a->timeout * 1000u));
    while (n < 0 && errno == EINTR);
  }
  close_fd(&pidfd);
  if (n == 0) kill(pid, SIGKILL);
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  free(argv);
  free(env);
  if (n == 0) return fail_with(r, ETIMEDOUT, "hook %s: not done in %u s", a->path, a->timeout);
  if (WIFSIGNALED(status)) return fail_with(r, ECANCELED, "hook %s: killed by signal %d", a->path, WTERMSIG(status));
  if (WEXITSTATUS(status) != 0) return fail_with(r, ECANCELED, "hook %s: exit status %d", a->path, WEXITSTATUS(status));
  return 0;
}

int run_personality(struct runner *r, const struct op_personality *a) {
  (void)r;
  return personality(a->domain) < 0 ? -errno : 0;
}

int run_io_priority(struct runner *r, const struct op_io_priority *a) {
  (void)r;
  return syscall(SYS_ioprio_set, 1 /* IOPRIO_WHO_PROCESS */, 0, a->value) < 0 ? -errno : 0;
}

int run_scheduler(struct runner *r, const struct op_scheduler *a) {
  (void)r;
  struct {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime;
    uint64_t deadline;
    uint64_t period;
  } attr = {sizeof attr, a->policy, a->flags, a->nice, a->priority, a->runtime, a->deadline, a->period};
  return syscall(SYS_sched_setattr, 0, &attr, 0) < 0 ? -errno : 0;
}

/* Whatever is in the way of the new numbers moves up first. */
int run_pass_descriptors(struct runner *r, const struct op_pass_descriptors *a) {
  int end = 3 + (int)a->slots.count;
  if (r->status >= 3 && r->status < end) {
    int moved = fcntl(r->status, F_DUPFD_CLOEXEC, end);
    if (moved < 0) return -errno;
    r->status = moved;
  }
  for (int i = FIRST_PLAN_SLOT; i < MAX_SLOTS; i++) {
    if (r->slots[i] < 3 || r->slots[i] >= end) continue;
    int moved = fcntl(r->slots[i], F_DUPFD_CLOEXEC, end);
    if (moved < 0) return -errno;
    r->slots[i] = moved;
  }
  for (uint32_t i = 0; i < a->slots.count; i++) {
    int fd = slot_fd(r, (int32_t)u32_at(&a->slots, i));
    if (fd < 0) return -EBADF;
    if (dup2(fd, 3 + (int)i) < 0) return -errno;
  }
  return 0;
}
