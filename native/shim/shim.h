/* nodelet-shim: parent of one pod's containers. It interprets launch plans, copies output into CRI log files, records
 * exits, and knows nothing of Kubernetes. One thread; nothing waits except on epoll. */
#pragma once

#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "protocol.gen.h"

#define NAME_LIMIT 80
#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif
#define EXIT_RECORD_SIZE 256

static inline void close_fd(const int *fd) {
  if (*fd >= 0) close(*fd);
}
#define AUTO_CLOSE __attribute__((cleanup(close_fd)))

static inline uint64_t clock_ns(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- plans ------------------------------------------------------------------------------------------------ */

#define PLAN_MAGIC 0x504c444eu /* "NDLP" */
#define MAX_WARNINGS 16

/* Shared between the shim and the children that run one plan: how far it came, how long each operation took, why it
 * failed. Shared memory, so that reporting costs no system call. */
struct report {
  volatile int32_t current;    /* operation under way */
  volatile int32_t complete;   /* set just before the end: PLAN_FINISHED or PLAN_EXECUTED */
  volatile int32_t error;      /* errno of the operation that failed, 0 none */
  uint32_t warning_count;
  struct {
    uint32_t operation;
    uint32_t error;
  } warnings[MAX_WARNINGS];
  char detail[256];
  uint64_t begun;              /* CLOCK_MONOTONIC, ns */
  uint32_t times[];            /* microseconds from begun to the end of each operation */
};

enum plan_end { PLAN_FINISHED = 1, PLAN_EXECUTED = 2 };

struct plan {
  uint8_t *data;               /* mapped memory file */
  size_t size;
  uint32_t kind;
  uint32_t count;
  const char *name;
  struct reader operations;
};

/* What runs a plan: the shim until the first clone, then its child. */
struct runner {
  const struct plan *plan;
  struct report *report;
  size_t report_size;
  int *slots;
  int status;                  /* the child's end of the status socket */
  bool child;
  bool left;                   /* a clone has taken over the list */
  bool finished;               /* the list ended in the shim, without a child */
  unsigned moved;              /* CLONE_NEW* in which the shim is not at home while it runs the list */
  bool empty_attached;         /* see mask */
  bool null_attached;
  char *program;               /* what find-program found */
  bool directory_denied;       /* see working-directory */
  uint32_t code;               /* of the operation under way */
  char *state;                 /* what hooks read: from `proceed` or from who starts the container */
  int starter;                 /* who has started it hears of what fails until exec; -1 before */
  struct process *process;     /* in the shim only */
};

enum status_type { STATUS_HELLO = 1, STATUS_HOLD = 2, STATUS_TERMINAL = 3, STATUS_LINGER = 4, STATUS_HANDOVER = 5,
                   STATUS_CHECKPOINT = 6, STATUS_READY = 7 };
struct status_message {
  uint32_t type;
  uint32_t value;
};

/* Opens the shim's own namespaces, to come back to. */
int plan_prepare(void);
int plan_open(struct plan *plan, int fd);
void plan_close(struct plan *plan);
/* Runs the list. In the shim: 0 when a child took over, or a negative errno. In a child it does not return. */
int plan_run(struct runner *r);
int send_status(int fd, enum status_type type, uint32_t value, int descriptor);

/* Fails an operation with a text beside the errno. */
int fail_with(struct runner *r, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Turns an error into a warning where `flags` allow that. */
int tolerate(struct runner *r, int error, uint32_t flags);

/* A NULL-terminated vector of texts that stay where they are; NULL without memory. */
char **vector_of(const struct str_list *list);

int slot_fd(struct runner *r, int32_t slot);
int set_slot(struct runner *r, int32_t slot, int fd);

/* --- paths inside a root (paths.c) -------------------------------------------------------------------------- */

int open_in(int root, const char *path, uint64_t flags, uint64_t resolve);
int directory_in(int root, const char *path, uint32_t mode, uint64_t resolve);
int file_in(int root, const char *path, uint32_t mode, uint64_t resolve);
/* Opens the parent of `path` (made where missing) and points at the last component. */
int parent_in(int root, const char *path, uint64_t resolve, const char **last);

/* --- processes ---------------------------------------------------------------------------------------------- */

enum process_state { STARTING = 1, RUNNING = 2, EXITED = 3 };

struct source {
  void (*ready)(struct source *self, uint32_t events);
  int fd;
};

/* One reader of an output stream beside the log: the writing end of its pipe. */
struct sink {
  struct source source;
  struct sink *next;
  struct stream *stream;
  uint32_t session;            /* who reads: its other sink goes with this one */
  uint64_t full_since;         /* CLOCK_MONOTONIC, ns; 0 while it has room */
};

/* One output stream of a container on its way into the log. */
struct stream {
  struct source source;
  struct process *process;
  const char *label;
  char *pending;               /* a line that has no end yet, at most line_limit bytes; allocated at need */
  uint32_t pending_size;
  struct sink *sinks;
  bool held;                   /* not read until every sink has room */
};

struct process {
  struct process *next;
  char name[NAME_LIMIT];
  uint32_t kind;
  enum process_state state;
  pid_t pid;
  uint64_t started_at;         /* CLOCK_REALTIME, ns */
  uint64_t finished_at;
  uint32_t code;
  uint32_t oom_kills;
  bool exited_early;           /* reaped before its start was reported */
  bool told;                   /* that its start has failed; it is not reaped yet */
  bool ready;                  /* it waits at `await-start` */
  bool finished;               /* a plan that only prepared something: no process stays */
  int wait_status;
  /* starting */
  struct source status;
  struct report *report;
  size_t report_size;
  uint32_t operation_count;
  struct connection *requester;
  uint32_t request;
  int held[16];                /* descriptors to pass with the reply */
  uint32_t held_count;
  /* output */
  struct stream out;
  struct stream err;
  int log;
  int log_directory;
  char *log_path;              /* below it */
  uint32_t line_limit;
  uint64_t lost;
  int lost_error;
  bool torn;                   /* the last line in the log lacks its end */
  int stdin_write;
  struct connection *stdin_owner; /* its end ends the standard input */
  int linger;                  /* closed when the exit has been reported */
  int terminal;                /* pty master */
  int terminal_peer;           /* its other end: a program may close it and open it again */
  /* exit record */
  int exit_file;
  char *oom_file;
  char *oom_key;
  char *kill_file;
};

struct process *process_find(const char *name);
struct process *process_first(void);
bool process_any_alive(void);
/* Starts a plan; replies to the request now or when the child is done. Takes the plan and the descriptors. */
void process_start(struct connection *from, uint32_t request, int plan_fd, const int *fds, uint32_t fd_count);
void process_reap(void);
void process_forget(struct process *p);
/* A connection has ended: what was started or attached for it. */
void process_drop_connection(const struct connection *c);
void process_kill_all(void);
/* Sends the state to a child at its checkpoint. */
int process_proceed(struct process *p, const char *state);
int pod_slot(unsigned index);
/* Takes the descriptor. */
void process_hold(struct process *p, uint32_t slot, int fd);

/* --- log (log.c) -------------------------------------------------------------------------------------------- */

void stream_open(struct stream *s, struct process *p, const char *label, int fd);
/* Reads what is there without waiting; at the end of the stream closes it. */
void stream_drain(struct stream *s);
void stream_close(struct stream *s);
int log_open(int directory, const char *path);

/* --- attached readers (sinks.c) ------------------------------------------------------------------------------- */

/* What a pipe with room takes whole (PIPE_BUF). */
#define SINK_PIECE 4096

/* Adds a reader; returns the end that it reads, or a negative errno. */
int sink_open(struct stream *s, uint32_t session);
/* True where every sink takes a piece; else the stream is held until they do. */
bool sinks_have_room(struct stream *s);
/* Gives them at most a piece; one that has no room for it is let go. */
void sinks_write(struct stream *s, const char *data, size_t size);
/* Makes room for all that a pipe of the container can hold: nobody waits for its last words. */
void sinks_widen(struct stream *s);
void sinks_close(struct stream *s);
/* Lets go of sinks that have taken nothing for too long; milliseconds until that may be so, -1 never. */
int sinks_expire(void);

/* --- server (server.c) -------------------------------------------------------------------------------------- */

struct connection;
void server_start(const char *socket_path, int first);
void server_stop(void);
/* A listening SEQPACKET socket with mode 0600, or a negative errno. */
int listen_at(const char *directory, const char *name);
void server_close_in_child(void);
void send_started(struct connection *c, uint32_t request, const struct process *p);
void send_failed(struct connection *c, uint32_t request, const struct report *report, uint32_t count, int signal);
void send_refused(struct connection *c, uint32_t request, int error, const char *detail);
void send_exited(const struct process *p);
void send_log_lost(const struct process *p);
void send_reached(const struct process *p);
/* Tells who started a container why it did not come to exec. */
void report_to_starter(const struct runner *r);

/* --- event loop (main.c) ------------------------------------------------------------------------------------ */

void watch(struct source *s, uint32_t events);
void unwatch(struct source *s);
void loop_close_in_child(void);
/* Defers free() to the end of the current round of events, which may still point at it. */
void free_later(void *memory);
extern const char *sandbox_name;
extern bool quitting;
/* No socket of its own: it lives as long as its one connection, or until told to leave. */
extern bool single;
/* Its processes outlive it. */
extern bool leaving;
/* Until they end: their exits are told. */
extern bool staying;
