/* The interpreter: walks the list, in the shim up to the first clone and in the child after it. */
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "shim.h"

int plan_open(struct plan *plan, int fd) {
  struct stat st;
  memset(plan, 0, sizeof *plan);
  /* Sealed, or the agent could change what was checked. */
  int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & (F_SEAL_WRITE | F_SEAL_SHRINK)) != (F_SEAL_WRITE | F_SEAL_SHRINK)) return -EPERM;
  if (fstat(fd, &st) < 0) return -errno;
  if (st.st_size < 16) return -EBADMSG;
  plan->size = (size_t)st.st_size;
  plan->data = mmap(NULL, plan->size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (plan->data == MAP_FAILED) {
    plan->data = NULL;
    return -errno;
  }
  struct reader in = {plan->data, plan->data + plan->size};
  uint32_t magic, version;
  if (!read_u32(&in, &magic) || !read_u32(&in, &version) || !read_u32(&in, &plan->kind) ||
      !read_u32(&in, &plan->count) || !read_str(&in, &plan->name) || magic != PLAN_MAGIC ||
      version != PROTOCOL_VERSION || plan->count > 65536 || strlen(plan->name) >= NAME_LIMIT) {
    plan_close(plan);
    return -EBADMSG;
  }
  plan->operations = in;
  return 0;
}

void plan_close(struct plan *plan) {
  if (plan->data != NULL) munmap(plan->data, plan->size);
  plan->data = NULL;
}

int fail_with(struct runner *r, int error, const char *format, ...) {
  va_list list;
  va_start(list, format);
  vsnprintf(r->report->detail, sizeof r->report->detail, format, list);
  va_end(list);
  return -error;
}

int tolerate(struct runner *r, int error, uint32_t flags) {
  if ((flags & TOLERATE_MISSING) && error == ENOENT) return 0;
  if ((flags & TOLERATE_DENIED) &&
      (error == EPERM || error == EACCES || error == EDQUOT || error == ENOSYS || error == EOPNOTSUPP)) {
    struct report *report = r->report;
    if (report->warning_count < MAX_WARNINGS) {
      report->warnings[report->warning_count].operation = (uint32_t)report->current;
      report->warnings[report->warning_count].error = (uint32_t)error;
      report->warning_count++;
    }
    return 0;
  }
  return -error;
}

int slot_fd(struct runner *r, int32_t slot) {
  if (slot < 0 || slot >= MAX_SLOTS) return -1;
  return slot < FIRST_PLAN_SLOT ? pod_slot((unsigned)slot) : r->slots[slot];
}

int set_slot(struct runner *r, int32_t slot, int fd) {
  if (fd < 0) return fd;
  if (slot < 0) {
    close(fd);
    return 0;
  }
  if (slot < FIRST_PLAN_SLOT || slot >= MAX_SLOTS) {
    close(fd);
    return -EBADF;
  }
  if (r->slots[slot] >= 0) close(r->slots[slot]);
  r->slots[slot] = fd;
  return 0;
}

int send_status(int fd, enum status_type type, uint32_t value, int descriptor) {
  struct status_message body = {type, value};
  struct iovec iov = {&body, sizeof body};
  union {
    char space[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control;
  struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
  if (descriptor >= 0) {
    memset(&control, 0, sizeof control);
    message.msg_control = &control;
    message.msg_controllen = sizeof control.space;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
  }
  ssize_t n;
  do n = sendmsg(fd, &message, MSG_NOSIGNAL);
  while (n < 0 && errno == EINTR);
  return n < 0 ? -errno : 0;
}

static int write_map(pid_t pid, const char *file, const char *map) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
  AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  size_t size = strlen(map);
  ssize_t n = write(fd, map, size);
  return n == (ssize_t)size ? 0 : n < 0 ? -errno : -EIO;
}

/* In the child, first of all: ordinary signals again, and a sign of life that carries our pid as the shim sees it
 * (SCM_CREDENTIALS), before anything of ours can exit. */
static void become_child(struct runner *r) {
  sigset_t none;
  /* Once: the numbers mean something else when the child clones again. A child that outlived the shim must not keep its
   * socket alive for an agent that waits for an answer. */
  if (!r->child) server_close_in_child();
  r->child = true;
  /* While it sets up, the child goes where its parent goes; the plan ends that before it executes anything. */
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  if (send_status(r->status, STATUS_HELLO, 0, -1) < 0) _exit(125);
}

int run_clone(struct runner *r, const struct op_clone *a) {
  int cgroup = slot_fd(r, a->cgroup);
  bool maps = a->uid_map[0] != 0;
  int go[2] = {-1, -1};
  if (maps && pipe2(go, O_CLOEXEC) < 0) return -errno;
  struct clone_args args = {
      .flags = a->flags | (cgroup >= 0 ? CLONE_INTO_CGROUP : 0),
      /* CLONE_PARENT takes the exit signal of the caller's own. */
      .exit_signal = (a->flags & CLONE_PARENT) ? 0 : SIGCHLD,
      .cgroup = cgroup >= 0 ? (uint64_t)cgroup : 0,
  };
  if (a->cgroup >= 0 && cgroup < 0) return -EBADF;
  pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
  if (pid < 0) {
    int error = errno;
    close_fd(&go[0]);
    close_fd(&go[1]);
    return -error;
  }
  if (pid == 0) {
    become_child(r);
    if (maps) {
      char byte;
      close(go[1]);
      /* Without its maps this child has no identity; end of file means that the parent could not write them. */
      if (read(go[0], &byte, 1) != 1) _exit(125);
      close(go[0]);
    }
    return 0;
  }
  r->left = true;
  /* From here on the process is that one. An intermediate child says so before it leaves. */
  if (!r->child) r->process->pid = pid;
  else if (send_status(r->status, STATUS_HANDOVER, (uint32_t)pid, -1) < 0) return -EPIPE;
  if (maps) {
    close(go[0]);
    int error = write_map(pid, "uid_map", a->uid_map);
    if (error == 0) error = write_map(pid, "gid_map", a->gid_map);
    if (error == 0 && write(go[1], "1", 1) != 1) error = -errno;
    close(go[1]);
    if (error != 0) return fail_with(r, -error, "cannot write the id maps of the new user namespace");
  }
  return 0;
}

static int plan_walk(struct runner *r) {
  struct report *report = r->report;
  struct reader at = r->plan->operations;
  int error = 0;
  for (uint32_t i = 0; i < r->plan->count; i++) {
    uint32_t code;
    struct span body;
    report->current = (int32_t)i;
    r->code = 0;
    if (!read_u32(&at, &code) || !read_bytes(&at, &body)) {
      error = -EBADMSG;
      break;
    }
    r->code = code;
    struct reader in = {body.data, body.data + body.size};
    error = dispatch(r, code, &in);
    if (error != 0) break;
    report->times[i] = (uint32_t)((clock_ns(CLOCK_MONOTONIC) - report->begun) / 1000);
    if (r->finished) return 0;
    if (r->left) {
      /* The list goes on in the child. An intermediate child has nothing left to do. */
      if (r->child) _exit(0);
      return 0;
    }
  }
  if (error == 0) error = -EBADMSG; /* a list that ends in nothing */
  report->complete = 0;
  report->error = -error;
  if (r->child) {
    report_to_starter(r);
    _exit(125);
  }
  return error;
}

/* The namespaces that the shim may leave while it runs a list, and comes back to. */
static struct {
  int kind;
  const char *path;
  int fd;
} homes[] = {
    {CLONE_NEWNET, "/proc/self/ns/net", -1},
    {CLONE_NEWIPC, "/proc/self/ns/ipc", -1},
    {CLONE_NEWUTS, "/proc/self/ns/uts", -1},
    {CLONE_NEWPID, "/proc/self/ns/pid", -1},
};
#define HOMES (sizeof homes / sizeof homes[0])

int plan_prepare(void) {
  for (size_t i = 0; i < HOMES; i++) {
    homes[i].fd = open(homes[i].path, O_RDONLY | O_CLOEXEC);
    if (homes[i].fd < 0) return -errno;
  }
  return 0;
}

/* A shim whose children are born elsewhere is of no use to anybody. */
static void go_home(struct runner *r) {
  if (r->child) return;
  for (size_t i = 0; i < HOMES; i++) {
    if ((r->moved & (unsigned)homes[i].kind) && setns(homes[i].fd, homes[i].kind) < 0) abort();
  }
  r->moved = 0;
}

int plan_run(struct runner *r) {
  int error = plan_walk(r);
  go_home(r);
  return error;
}

/* The shim itself may only go where it comes back from. */
static int leave_home(struct runner *r, unsigned kinds) {
  unsigned known = 0;
  if (r->child) return 0;
  for (size_t i = 0; i < HOMES; i++) known |= (unsigned)homes[i].kind;
  if (kinds & ~known) return fail_with(r, EINVAL, "the shim itself cannot leave these namespaces");
  r->moved |= kinds;
  return 0;
}

int run_unshare(struct runner *r, const struct op_unshare *a) {
  int error = leave_home(r, a->kinds);
  if (error != 0) return error;
  return unshare((int)a->kinds) < 0 ? -errno : 0;
}

int run_join_namespace(struct runner *r, const struct op_join_namespace *a) {
  int fd = slot_fd(r, a->namespace);
  if (fd < 0) return fail_with(r, EBADF, "the pod has no such namespace");
  int error = leave_home(r, a->kind);
  if (error != 0) return error;
  return setns(fd, (int)a->kind) < 0 ? -errno : 0;
}

int run_hold(struct runner *r, const struct op_hold *a) {
  int fd = slot_fd(r, a->source);
  if (fd < 0) return -EBADF;
  if (r->child) return send_status(r->status, STATUS_HOLD, a->pod, fd);
  int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) return -errno;
  process_hold(r->process, a->pod, copy);
  return 0;
}

int run_linger(struct runner *r, const struct op_linger *a) {
  int folder = slot_fd(r, a->namespaces);
  if (folder < 0) return -EBADF;
  AUTO_CLOSE int fd = openat(folder, a->name, O_RDONLY | O_CLOEXEC);
  return fd < 0 ? -errno : send_status(r->status, STATUS_LINGER, 0, fd);
}

int run_finish(struct runner *r) {
  r->report->complete = PLAN_FINISHED;
  if (r->child) _exit(0);
  r->finished = true;
  return 0;
}
