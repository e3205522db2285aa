/* The processes of a pod: started by plans, reaped, their exits recorded before anybody is told. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "shim.h"

static struct process *processes;
static int pod_slots[FIRST_PLAN_SLOT] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};

int pod_slot(unsigned index) { return index < FIRST_PLAN_SLOT ? pod_slots[index] : -1; }

struct process *process_first(void) { return processes; }

struct process *process_find(const char *name) {
  for (struct process *p = processes; p != NULL; p = p->next) {
    if (strcmp(p->name, name) == 0) return p;
  }
  return NULL;
}

bool process_any_alive(void) {
  for (struct process *p = processes; p != NULL; p = p->next) {
    if (p->state != EXITED) return true;
  }
  return false;
}

static struct process *process_new(const char *name, uint32_t kind) {
  struct process *p = calloc(1, sizeof *p);
  if (p == NULL) return NULL;
  snprintf(p->name, sizeof p->name, "%s", name);
  p->kind = kind;
  p->state = STARTING;
  p->status.fd = p->out.source.fd = p->err.source.fd = -1;
  p->log = p->log_directory = p->exit_file = p->stdin_write = p->terminal = p->terminal_peer = p->linger = -1;
  p->line_limit = 16384;
  p->next = processes;
  processes = p;
  return p;
}

static void end_start(struct process *p) {
  if (p->status.fd >= 0) {
    unwatch(&p->status);
    close(p->status.fd);
    p->status.fd = -1;
  }
  if (p->report != NULL) munmap(p->report, p->report_size);
  p->report = NULL;
  for (uint32_t i = 0; i < p->held_count; i++) close(p->held[i]);
  p->held_count = 0;
  p->requester = NULL;
}

void process_forget(struct process *p) {
  for (struct process **at = &processes; *at != NULL; at = &(*at)->next) {
    if (*at == p) {
      *at = p->next;
      break;
    }
  }
  end_start(p);
  stream_close(&p->out);
  stream_close(&p->err);
  close_fd(&p->log);
  close_fd(&p->log_directory);
  close_fd(&p->exit_file);
  close_fd(&p->stdin_write);
  close_fd(&p->linger);
  close_fd(&p->terminal_peer);
  free(p->log_path);
  free(p->oom_file);
  free(p->oom_key);
  free(p->kill_file);
  free_later(p);
}

void process_drop_connection(const struct connection *c) {
  for (struct process *p = processes; p != NULL; p = p->next) {
    if (p->requester == c) p->requester = NULL;
    if (p->stdin_owner != c) continue;
    p->stdin_owner = NULL;
    close_fd(&p->stdin_write);
    p->stdin_write = -1;
  }
}

/* --- exits ---------------------------------------------------------------------------------------------------- */

/* The number behind `key ` in a control file ("oom_kill 3"). */
static uint32_t counter(const char *path, const char *key) {
  char text[1024];
  if (path == NULL || path[0] == 0) return 0;
  AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t n = read(fd, text, sizeof text - 1);
  if (n <= 0) return 0;
  text[n] = 0;
  size_t length = strlen(key);
  for (char *line = text; line != NULL; line = strchr(line, '\n')) {
    if (*line == '\n') line++;
    if (strncmp(line, key, length) == 0 && line[length] == ' ') return (uint32_t)strtoul(line + length + 1, NULL, 10);
  }
  return 0;
}

/* One write into a file whose space was taken when the container started, so that a full disk cannot cost the exit, and
 * a reader finds the whole record or none. */
static void record_exit(const struct process *p) {
  char text[EXIT_RECORD_SIZE];
  if (p->exit_file < 0) return;
  memset(text, ' ', sizeof text);
  int size = snprintf(text, sizeof text,
                      "{\"version\":1,\"pid\":%d,\"code\":%u,\"oomKills\":%u,\"startedAt\":\"%llu\",\"finishedAt\":\"%llu\"}",
                      p->pid, p->code, p->oom_kills, (unsigned long long)p->started_at,
                      (unsigned long long)p->finished_at);
  text[size] = ' ';
  text[sizeof text - 1] = '\n';
  (void)!pwrite(p->exit_file, text, sizeof text, 0);
}

static void process_exited(struct process *p, int status) {
  /* The child of a plan that only prepares something has done its work; it was never a process of the pod. */
  if (p->finished) return process_forget(p);
  p->code = WIFSIGNALED(status) ? 128u + (uint32_t)WTERMSIG(status) : (uint32_t)WEXITSTATUS(status);
  p->finished_at = clock_ns(CLOCK_REALTIME);
  p->state = EXITED;
  /* Whoever is left of the container: with a shared PID namespace nobody else ends them. */
  if (p->kill_file != NULL && p->kill_file[0] != 0) {
    AUTO_CLOSE int fd = open(p->kill_file, O_WRONLY | O_CLOEXEC);
    if (fd >= 0) (void)!write(fd, "1", 1);
  }
  p->oom_kills = counter(p->oom_file, p->oom_key);
  close_fd(&p->terminal_peer);
  p->terminal_peer = -1;
  /* What it wrote before it ended lies in the pipes, so it is in the log before the exit is known. */
  stream_drain(&p->out);
  stream_drain(&p->err);
  close_fd(&p->stdin_write);
  p->stdin_write = -1;
  record_exit(p);
  send_exited(p);
  /* Everybody knows: now the mounts may go, which takes longer than all of this. */
  close_fd(&p->linger);
  p->linger = -1;
  if (p->kind == PLAN_EXEC) process_forget(p);
}

/* --- starts ----------------------------------------------------------------------------------------------------- */

static void close_status(struct process *p) {
  if (p->status.fd < 0) return;
  unwatch(&p->status);
  close(p->status.fd);
  p->status.fd = -1;
}

/* Nobody waits for an answer any more: the agent that asked has ended, and the next one finds how it went. */
static void fail_unheard(struct process *p) {
  p->code = 128;
  p->finished_at = clock_ns(CLOCK_REALTIME);
  p->state = EXITED;
  record_exit(p);
  send_exited(p);
  end_start(p);
}

static void tell_failure(struct process *p, int signal) {
  if (p->told) return;
  p->told = true;
  if (p->requester != NULL) send_failed(p->requester, p->request, p->report, p->operation_count, signal);
  p->requester = NULL;
}

/* A child that is killed ends when the kernel lets it, which a dead disk can put off for ever: what has to be said is said at
 * once, and the rest is done when it is reaped. Nothing waits for it. */
static void start_failed(struct process *p) {
  int signal = 0;
  bool heard = p->told || p->requester != NULL;
  close_status(p);
  if (p->pid > 0) {
    if (!p->exited_early) {
      kill(p->pid, SIGKILL);
      p->exited_early = waitpid(p->pid, &p->wait_status, WNOHANG) == p->pid;
    }
    if (!p->exited_early) {
      if (p->report->error != 0 && heard) tell_failure(p, 0);
      return;
    }
    /* Killed from outside before it came to its end: the memory limit is the usual reason. */
    if (p->report->error == 0 && WIFSIGNALED(p->wait_status)) signal = WTERMSIG(p->wait_status);
  }
  if (p->report->error == 0 && signal == 0) p->report->error = EIO;
  if (!heard && p->kind == PLAN_CONTAINER) return fail_unheard(p);
  tell_failure(p, signal);
  process_forget(p);
}

static void started(struct process *p) {
  p->state = RUNNING;
  p->finished = p->report->complete == PLAN_FINISHED;
  p->started_at = clock_ns(CLOCK_REALTIME);
  struct connection *c = p->requester;
  if (c != NULL) send_started(c, p->request, p);
  end_start(p);
  if (p->exited_early) process_exited(p, p->wait_status);
}

void process_hold(struct process *p, uint32_t slot, int fd) {
  if (slot >= FIRST_PLAN_SLOT || p->held_count >= 16) {
    close(fd);
    return;
  }
  if (pod_slots[slot] >= 0) close(pod_slots[slot]);
  pod_slots[slot] = fd;
  p->held[p->held_count] = dup(fd);
  if (p->held[p->held_count] >= 0) p->held_count++;
}

static void take_terminal(struct process *p, int fd) {
  if (p->kind == PLAN_EXEC) {
    /* The terminal of an exec belongs to whoever asked for it. */
    if (p->held_count < 16) p->held[p->held_count++] = fd;
    else close(fd);
    return;
  }
  p->terminal = fd;
  /* Without anybody at its other end a master gives EIO, and what comes after that would be lost. */
  p->terminal_peer = ioctl(fd, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  stream_open(&p->out, p, "stdout", fd);
}

static bool is_our_child(pid_t pid) {
  siginfo_t info;
  return pid > 0 && waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

/* One message of the child; false at the end of the socket: exec, exit, or death. */
static bool read_status(struct process *p) {
  struct status_message body;
  struct iovec iov = {&body, sizeof body};
  union {
    char space[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control;
  struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t n;
  do n = recvmsg(p->status.fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  if (n < 0 && errno == EAGAIN) return true;
  if (n != sizeof body) return false;
  int fd = -1;
  pid_t sender = 0;
  for (struct cmsghdr *h = CMSG_FIRSTHDR(&message); h != NULL; h = CMSG_NXTHDR(&message, h)) {
    if (h->cmsg_level != SOL_SOCKET) continue;
    if (h->cmsg_type == SCM_RIGHTS) memcpy(&fd, CMSG_DATA(h), sizeof fd);
    if (h->cmsg_type == SCM_CREDENTIALS) {
      struct ucred from;
      memcpy(&from, CMSG_DATA(h), sizeof from);
      sender = from.pid;
    }
  }
  switch (body.type) {
    case STATUS_HELLO:
      /* The latest child is the one that stays; those before it only led there. */
      p->pid = sender;
      break;
    case STATUS_HANDOVER:
      /* Ours, or it is not what the plan has cloned: nobody else is ever signalled. */
      if (is_our_child((pid_t)body.value)) p->pid = (pid_t)body.value;
      break;
    case STATUS_HOLD:
      if (fd >= 0 && p->kind == PLAN_SANDBOX) {
        process_hold(p, body.value, fd);
        fd = -1;
      }
      break;
    case STATUS_TERMINAL:
      if (fd >= 0) take_terminal(p, fd);
      fd = -1;
      break;
    case STATUS_LINGER:
      close_fd(&p->linger);
      p->linger = fd;
      fd = -1;
      break;
    case STATUS_CHECKPOINT:
      send_reached(p);
      break;
    case STATUS_READY:
      p->ready = true;
      break;
    default:
      break;
  }
  close_fd(&fd);
  return read_status(p);
}

static void status_ready(struct source *source, uint32_t events) {
  (void)events;
  struct process *p = (struct process *)((char *)source - offsetof(struct process, status));
  if (read_status(p) && !p->ready) return;
  if (p->ready || (p->report->complete && p->report->error == 0)) started(p);
  else start_failed(p);
}

void process_start(struct connection *from, uint32_t request, int plan_fd, const int *fds, uint32_t fd_count) {
  static int slots[MAX_SLOTS];
  struct plan plan;
  int error = plan_open(&plan, plan_fd);
  for (int i = 0; i < MAX_SLOTS; i++) slots[i] = -1;
  for (uint32_t i = 0; i < fd_count; i++) slots[FIRST_PLAN_SLOT + i] = fds[i];
  struct process *p = NULL;
  int ends[2] = {-1, -1};
  if (error != 0) {
    send_refused(from, request, -error, "the launch plan is malformed");
    goto out;
  }
  if (process_find(plan.name) != NULL) {
    send_refused(from, request, EEXIST, "a process of that name exists");
    goto out;
  }
  p = process_new(plan.name, plan.kind);
  if (p == NULL) {
    send_refused(from, request, ENOMEM, "no memory");
    goto out;
  }
  p->requester = from;
  p->request = request;
  p->operation_count = plan.count;
  p->report_size = sizeof(struct report) + (size_t)plan.count * 4;
  p->report = mmap(NULL, p->report_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  int one = 1;
  if (p->report == MAP_FAILED || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0 ||
      setsockopt(ends[0], SOL_SOCKET, SO_PASSCRED, &one, sizeof one) < 0) {
    if (p->report == MAP_FAILED) p->report = NULL;
    send_refused(from, request, errno, "no memory or descriptors");
    process_forget(p);
    goto out;
  }
  p->report->begun = clock_ns(CLOCK_MONOTONIC);
  p->report->current = -1;
  p->status.fd = ends[0];
  p->status.ready = status_ready;
  struct runner runner = {
      .plan = &plan,
      .report = p->report,
      .report_size = p->report_size,
      .slots = slots,
      .status = ends[1],
      .process = p,
      .starter = -1,
  };
  error = plan_run(&runner);
  close(ends[1]);
  if (error != 0) {
    p->report->error = -error;
    /* A child may exist already (its id maps could not be written): it ends by itself. */
    start_failed(p);
  } else if (runner.finished) {
    p->pid = 0;
    started(p);
    process_forget(p);
  } else {
    /* Only its end: what the child says before waits until then, and wakes nobody while it works. */
    watch(&p->status, single ? EPOLLIN : 0);
  }
out:
  for (int i = 0; i < MAX_SLOTS; i++) close_fd(&slots[i]);
  plan_close(&plan);
}

void process_kill_all(void) {
  for (struct process *p = processes; p != NULL; p = p->next) {
    if (p->state != EXITED && p->pid > 0) kill(p->pid, SIGKILL);
  }
}

int process_proceed(struct process *p, const char *state) {
  if (p->state != STARTING || p->status.fd < 0) return -ESRCH;
  ssize_t n;
  do n = send(p->status.fd, state, strlen(state) + 1, MSG_NOSIGNAL);
  while (n < 0 && errno == EINTR);
  return n < 0 ? -errno : 0;
}

/* Who it was that ended: known by its pid, once everything was read that it and its parent said before. */
static struct process *process_of(pid_t pid) {
  for (struct process *p = processes, *next; p != NULL; p = next) {
    next = p->next;
    if (p->state == STARTING && p->status.fd >= 0) status_ready(&p->status, 0);
  }
  for (struct process *p = processes; p != NULL; p = p->next) {
    if (p->pid == pid && p->state != EXITED && !p->exited_early) return p;
  }
  return NULL;
}

void process_reap(void) {
  for (;;) {
    siginfo_t info = {.si_pid = 0};
    int status;
    /* Looked at first and reaped after: a child says hello before it can end, but maybe only just. */
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0) return;
    struct process *p = process_of(info.si_pid);
    /* Its exit is for the reaper above, who inherits it with its children; nobody waits for it here. */
    if (single && !staying && p != NULL && p->state == RUNNING) return;
    if (waitpid(info.si_pid, &status, WNOHANG) != info.si_pid || p == NULL) continue;
    if (p->state == RUNNING) {
      process_exited(p, status);
    } else {
      p->exited_early = true;
      p->wait_status = status;
      /* Its end of the status socket is closed by now; ours, too, where its start had failed already. */
      if (p->status.fd >= 0) status_ready(&p->status, 0);
      else start_failed(p);
    }
  }
}
