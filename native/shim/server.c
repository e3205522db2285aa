/* The shim's end of the conversation: a SEQPACKET socket with mode 0600 whose peer must be root. */
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>

#include "shim.h"

#define PACKET_SIZE 32768
#define MAX_PASSED 64

struct connection {
  struct source source;
  struct connection *next;
};

static struct connection *connections;
static struct source listener = {.fd = -1};
static const char *listening_on;
static uint8_t packet[PACKET_SIZE];

static struct writer begin(enum message type, uint32_t request) {
  struct writer w = {packet, packet, packet + sizeof packet, false};
  put_u16(&w, (uint16_t)type);
  put_u16(&w, 0);
  put_u32(&w, request);
  return w;
}

/* A peer that does not read loses its connection, not our time: it finds the state again by `list`. */
static void send_packet(struct connection *c, const struct writer *w, const int *fds, uint32_t fd_count);

static void connection_close(struct connection *c) {
  for (struct connection **at = &connections; *at != NULL; at = &(*at)->next) {
    if (*at == c) {
      *at = c->next;
      break;
    }
  }
  process_drop_connection(c);
  unwatch(&c->source);
  close(c->source.fd);
  c->source.fd = -1;
  free_later(c);
  /* Whoever has asked for the processes is gone and has not said that they may stay. */
  if (single) quitting = true;
}

static void send_packet(struct connection *c, const struct writer *w, const int *fds, uint32_t fd_count) {
  if (w->full || c->source.fd < 0) return;
  struct iovec iov = {w->start, (size_t)(w->at - w->start)};
  union {
    char space[CMSG_SPACE(sizeof(int) * 16)];
    struct cmsghdr align;
  } control;
  struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
  if (fd_count > 0) {
    memset(&control, 0, sizeof control);
    message.msg_control = &control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
    memcpy(CMSG_DATA(header), fds, sizeof(int) * fd_count);
  }
  ssize_t n;
  do n = sendmsg(c->source.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  while (n < 0 && errno == EINTR);
  if (n < 0) connection_close(c);
}

static void broadcast(const struct writer *w) {
  for (struct connection *c = connections, *next; c != NULL; c = next) {
    next = c->next;
    send_packet(c, w, NULL, 0);
  }
}

static void put_times(struct writer *w, const struct report *report, uint32_t count) {
  put_u64(w, report->begun);
  /* An answer must reach the agent however long the plan was: without times rather than not at all. */
  if ((size_t)count * 4 + PACKET_SIZE / 4 > (size_t)(w->end - w->at)) count = 0;
  put_u32(w, count);
  put(w, report->times, (size_t)count * 4);
}

void send_started(struct connection *c, uint32_t request, const struct process *p) {
  const struct report *report = p->report;
  struct writer w = begin(MSG_STARTED, request);
  put_u32(&w, p->finished ? 0 : (uint32_t)p->pid);
  put_u64(&w, p->started_at);
  put_times(&w, report, p->operation_count);
  /* Clamped: the child writes the report, too. */
  uint32_t warnings = report->warning_count < MAX_WARNINGS ? report->warning_count : MAX_WARNINGS;
  put_u32(&w, warnings * 2);
  for (uint32_t i = 0; i < warnings; i++) {
    put_u32(&w, report->warnings[i].operation);
    put_u32(&w, report->warnings[i].error);
  }
  send_packet(c, &w, p->held, p->held_count);
}

void send_failed(struct connection *c, uint32_t request, const struct report *report, uint32_t count, int signal) {
  char detail[sizeof report->detail];
  memcpy(detail, report->detail, sizeof detail);
  detail[sizeof detail - 1] = 0;
  struct writer w = begin(MSG_FAILED, request);
  put_u32(&w, (uint32_t)report->current);
  put_u32(&w, (uint32_t)report->error);
  put_u32(&w, (uint32_t)signal);
  put_str(&w, detail);
  put_times(&w, report, count);
  send_packet(c, &w, NULL, 0);
}

void send_refused(struct connection *c, uint32_t request, int error, const char *detail) {
  struct writer w = begin(MSG_REFUSED, request);
  put_u32(&w, (uint32_t)error);
  put_str(&w, detail);
  send_packet(c, &w, NULL, 0);
}

static void send_done(struct connection *c, uint32_t request) {
  struct writer w = begin(MSG_DONE, request);
  send_packet(c, &w, NULL, 0);
}

void send_exited(const struct process *p) {
  struct writer w = begin(MSG_EXITED, 0);
  put_str(&w, p->name);
  put_u32(&w, p->kind);
  put_u32(&w, (uint32_t)p->pid);
  put_u32(&w, p->code);
  put_u32(&w, p->oom_kills);
  put_u64(&w, p->finished_at);
  broadcast(&w);
}

void send_log_lost(const struct process *p) {
  struct writer w = begin(MSG_LOG_LOST, 0);
  put_str(&w, p->name);
  put_u32(&w, (uint32_t)p->lost_error);
  put_u64(&w, p->lost);
  broadcast(&w);
}

void send_reached(const struct process *p) {
  struct writer w = begin(MSG_REACHED, 0);
  put_u32(&w, (uint32_t)p->pid);
  broadcast(&w);
}

static void send_welcome(struct connection *c, uint32_t request) {
  int fds[FIRST_PLAN_SLOT];
  uint32_t slots[FIRST_PLAN_SLOT], count = 0;
  for (uint32_t i = 0; i < FIRST_PLAN_SLOT; i++) {
    if (pod_slot(i) < 0) continue;
    slots[count] = i;
    fds[count++] = pod_slot(i);
  }
  struct writer w = begin(MSG_WELCOME, request);
  put_u32(&w, PROTOCOL_VERSION);
  put_u32(&w, (uint32_t)getpid());
  put_str(&w, sandbox_name);
  put_u32(&w, count);
  put(&w, slots, count * 4);
  send_packet(c, &w, fds, count);
}

static void send_processes(struct connection *c, uint32_t request) {
  for (const struct process *p = process_first(); p != NULL; p = p->next) {
    struct writer w = begin(MSG_PROCESS, request);
    put_str(&w, p->name);
    put_u32(&w, p->kind);
    put_u32(&w, (uint32_t)p->state);
    put_u32(&w, (uint32_t)p->pid);
    put_u64(&w, p->started_at);
    put_u32(&w, p->code);
    put_u32(&w, p->oom_kills);
    put_u64(&w, p->finished_at);
    send_packet(c, &w, NULL, 0);
  }
  send_done(c, request);
}

/* --- requests ------------------------------------------------------------------------------------------------------ */

static int do_signal(struct process *p, struct reader *in) {
  uint32_t number;
  if (!read_u32(in, &number) || !reader_done(in)) return -EBADMSG;
  if (p->state == EXITED || p->pid <= 0) return -ESRCH;
  /* Our own child that we have not reaped: the pid cannot have been reused. */
  return kill(p->pid, (int)number) < 0 ? -errno : 0;
}

static int do_resize(struct process *p, struct reader *in) {
  uint32_t rows, columns;
  if (!read_u32(in, &rows) || !read_u32(in, &columns) || !reader_done(in)) return -EBADMSG;
  if (p->terminal < 0) return -ENOTTY;
  struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns};
  return ioctl(p->terminal, TIOCSWINSZ, &size) < 0 ? -errno : 0;
}

static int do_reopen(struct process *p) {
  if (p->log_path == NULL) return 0;
  int fd = log_open(p->log_directory, p->log_path);
  if (fd < 0) return fd;
  if (p->log >= 0) close(p->log);
  p->log = fd;
  p->lost_error = 0;
  p->torn = false;
  return 0;
}

static int on_process(uint16_t type, struct reader *in) {
  const char *name;
  if (!read_str(in, &name)) return -EBADMSG;
  struct process *p = process_find(name);
  if (p == NULL) return -ESRCH;
  switch (type) {
    case MSG_SIGNAL: return do_signal(p, in);
    case MSG_RESIZE: return do_resize(p, in);
    case MSG_CLOSE_STDIN:
      close_fd(&p->stdin_write);
      p->stdin_write = -1;
      return 0;
    case MSG_REOPEN_LOG: return do_reopen(p);
    case MSG_PROCEED: {
      const char *state;
      return read_str(in, &state) && reader_done(in) ? process_proceed(p, state) : -EBADMSG;
    }
    case MSG_FORGET:
      if (p->state != EXITED) return -EBUSY;
      process_forget(p);
      return 0;
    default: return -EBADMSG;
  }
}

static void do_attach(struct connection *c, uint32_t request, struct reader *in) {
  static uint32_t sessions;
  const char *name;
  uint32_t wanted[3], once;
  if (!read_str(in, &name) || !read_u32(in, &wanted[0]) || !read_u32(in, &wanted[1]) || !read_u32(in, &wanted[2]) ||
      !read_u32(in, &once) || !reader_done(in))
    return send_refused(c, request, EBADMSG, "");
  struct process *p = process_find(name);
  if (p == NULL || p->kind != PLAN_CONTAINER || p->state != RUNNING) return send_refused(c, request, ESRCH, "");
  const bool terminal = p->terminal >= 0;
  const int input = terminal ? p->terminal : p->stdin_write;
  int fds[3], outputs[2] = {-1, -1};
  uint32_t count = 0;
  struct stream *const streams[2] = {&p->out, &p->err};
  sessions++;
  for (int i = 0; i < 2; i++) {
    if (!wanted[1 + i] || streams[i]->source.fd < 0) continue;
    outputs[i] = sink_open(streams[i], sessions);
    if (outputs[i] >= 0) continue;
    /* The reader's end of the first is closed, which ends its sink. */
    close_fd(&outputs[0]);
    return send_refused(c, request, -outputs[i], "no more readers");
  }
  struct writer w = begin(MSG_ATTACHED, request);
  put_u32(&w, wanted[0] && input >= 0);
  if (wanted[0] && input >= 0) fds[count++] = input;
  for (int i = 0; i < 2; i++) {
    put_u32(&w, outputs[i] >= 0);
    if (outputs[i] >= 0) fds[count++] = outputs[i];
  }
  put_u32(&w, terminal);
  if (once && wanted[0] && !terminal && input >= 0) p->stdin_owner = c;
  send_packet(c, &w, fds, count);
  for (int i = 0; i < 2; i++) close_fd(&outputs[i]);
}

static void handle(struct connection *c, const uint8_t *data, size_t size, int *fds, uint32_t fd_count) {
  uint16_t type;
  uint32_t request;
  if (size < 8) return connection_close(c);
  memcpy(&type, data, 2);
  memcpy(&request, data + 4, 4);
  struct reader in = {data + 8, data + size};
  switch (type) {
    case MSG_HELLO: {
      uint32_t version;
      if (!read_u32(&in, &version)) return connection_close(c);
      if (version != PROTOCOL_VERSION) return send_refused(c, request, EPROTO, "another protocol version");
      return send_welcome(c, request);
    }
    case MSG_RUN:
      if (fd_count == 0) return send_refused(c, request, EBADMSG, "no plan came along");
      /* process_start takes every descriptor but the plan's. */
      process_start(c, request, fds[0], fds + 1, fd_count - 1);
      for (uint32_t i = 1; i < fd_count; i++) fds[i] = -1;
      return;
    case MSG_LIST: return send_processes(c, request);
    case MSG_ATTACH: return do_attach(c, request, &in);
    case MSG_QUIT:
      if (process_any_alive()) return send_refused(c, request, EBUSY, "a process still runs");
      send_done(c, request);
      quitting = true;
      return;
    case MSG_LEAVE: {
      uint32_t stay;
      if (!single || !read_u32(&in, &stay) || !reader_done(&in)) return send_refused(c, request, EINVAL, "");
      leaving = true;
      staying = stay != 0;
      send_done(c, request);
      if (staying) process_reap(); /* one that has ended already was left for somebody above */
      else quitting = true;
      return;
    }
    default: {
      int error = on_process(type, &in);
      if (error == 0) send_done(c, request);
      else send_refused(c, request, -error, "");
    }
  }
}

static void connection_ready(struct source *source, uint32_t events) {
  struct connection *c = (struct connection *)source;
  (void)events;
  static uint8_t incoming[PACKET_SIZE];
  union {
    char space[CMSG_SPACE(sizeof(int) * MAX_PASSED)];
    struct cmsghdr align;
  } control;
  struct iovec iov = {incoming, sizeof incoming};
  struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t n = recvmsg(source->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  int fds[MAX_PASSED];
  uint32_t count = 0;
  if (n > 0) {
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&message); h != NULL; h = CMSG_NXTHDR(&message, h)) {
      if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS) continue;
      size_t total = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < total && count < MAX_PASSED; i++) memcpy(&fds[count++], CMSG_DATA(h) + i * sizeof(int), sizeof(int));
    }
  }
  if (n <= 0 || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) connection_close(c);
  else handle(c, incoming, (size_t)n, fds, count);
  for (uint32_t i = 0; i < count; i++) close_fd(&fds[i]);
}

static void connection_add(int fd) {
  struct ucred peer;
  socklen_t size = sizeof peer;
  struct connection *c = NULL;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || peer.uid != 0 || (c = calloc(1, sizeof *c)) == NULL) {
    close(fd);
    return;
  }
  /* Hundreds of programs may end while the agent has other things to do; what does not fit costs it the connection. */
  int room = 4 << 20;
  if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room) < 0) {
    (void)!setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
  }
  c->source.fd = fd;
  c->source.ready = connection_ready;
  c->next = connections;
  connections = c;
  watch(&c->source, EPOLLIN);
}

static void listener_ready(struct source *source, uint32_t events) {
  (void)events;
  int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd >= 0) connection_add(fd);
}

int listen_at(const char *directory, const char *name) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  /* A socket's name has 107 bytes, a state directory may be deeper: the directory is named by a descriptor. */
  AUTO_CLOSE int parent = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (parent < 0) return -errno;
  int length = snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", parent, name);
  if ((size_t)length >= sizeof address.sun_path) return -ENAMETOOLONG;
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -errno;
  /* The mode is right from the first moment: bind() applies the umask. */
  mode_t before = umask(0177);
  int error = bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4) < 0 ? -errno : 0;
  umask(before);
  if (error == 0) return fd;
  close(fd);
  return error;
}

void server_start(const char *socket_path, int first) {
  if (!single) {
    const char *name = strrchr(socket_path, '/');
    if (name == NULL || name == socket_path || (size_t)(name - socket_path) >= PATH_MAX) exit(2);
    char directory[PATH_MAX];
    memcpy(directory, socket_path, (size_t)(name - socket_path));
    directory[name - socket_path] = 0;
    listener.fd = listen_at(directory, name + 1);
    if (listener.fd < 0) exit(3);
    listening_on = socket_path;
    listener.ready = listener_ready;
    watch(&listener, EPOLLIN);
  }
  if (first >= 0) connection_add(first);
}

void server_stop(void) {
  if (listening_on != NULL) unlink(listening_on);
}

void server_close_in_child(void) {
  close_fd(&listener.fd);
  for (const struct connection *c = connections; c != NULL; c = c->next) close_fd(&c->source.fd);
  loop_close_in_child();
}
