/* Container output in the CRI log format: "<RFC 3339 time> <stream> <F|P> <text>\n". A line longer than the limit is
 * written in parts, all but the last marked P; so is what has no end when the stream ends. A log that cannot be written
 * (a full disk) costs lines, which are counted and reported, and never stops a container. */
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "shim.h"

#define READ_SIZE 65536
#define STAMP_SIZE 64

static char input[READ_SIZE];
static char output[READ_SIZE * 2];

int log_open(int directory, const char *path) {
  /* Through no link on the way: a pod that mounts the logs' directory could put one there. */
  struct open_how how = {
      .flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK,
      .mode = 0640,
      .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
  };
  int fd = (int)syscall(SYS_openat2, directory, path, &how, sizeof how);
  if (fd < 0) return -errno;
  /* Nor into what that pod may have put there in the place of a file: the device cgroup that keeps a container from a
   * disk's node does not keep us. */
  struct stat st;
  if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) return fd;
  close(fd);
  return -EINVAL;
}

/* Decimal digits with leading zeros. */
static char *digits(char *to, unsigned long value, int width) {
  for (int i = width - 1; i >= 0; i--, value /= 10) to[i] = (char)('0' + value % 10);
  return to + width;
}

/* "2026-01-02T03:04:05" in UTC. The C library's gmtime and strftime would double the size of this program. The calendar
 * is counted in 400-year eras that begin on 1 March, so that the leap day is the last of its year. */
static void civil_time(char *to, uint64_t seconds) {
  uint64_t days = seconds / 86400 + 719468, rest = seconds % 86400;
  uint64_t era = days / 146097, day_of_era = days % 146097;
  uint64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  uint64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  uint64_t month = (5 * day_of_year + 2) / 153;
  uint64_t day = day_of_year - (153 * month + 2) / 5 + 1;
  month = month < 10 ? month + 3 : month - 9;
  to = digits(to, year_of_era + era * 400 + (month <= 2), 4);
  *to++ = '-';
  to = digits(to, month, 2);
  *to++ = '-';
  to = digits(to, day, 2);
  *to++ = 'T';
  to = digits(to, rest / 3600, 2);
  *to++ = ':';
  to = digits(to, rest / 60 % 60, 2);
  *to++ = ':';
  digits(to, rest % 60, 2);
}

/* "2026-01-02T03:04:05.123456789Z stdout " */
static size_t stamp(char *to, const char *label) {
  static time_t cached = -1;
  static char seconds[19];
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (now.tv_sec != cached) {
    civil_time(seconds, (uint64_t)now.tv_sec);
    cached = now.tv_sec;
  }
  char *at = to;
  memcpy(at, seconds, sizeof seconds);
  at += sizeof seconds;
  *at++ = '.';
  at = digits(at, (unsigned long)now.tv_nsec, 9);
  *at++ = 'Z';
  *at++ = ' ';
  size_t size = strlen(label);
  memcpy(at, label, size);
  at += size;
  *at++ = ' ';
  return (size_t)(at - to);
}

static void write_log(struct process *p, const char *data, size_t size) {
  if (p->torn && p->log >= 0 && size > 0) {
    /* What was cut off by a full disk gets its end first, so that the next line is a line again. */
    if (write(p->log, "\n", 1) == 1) p->torn = false;
  }
  const char *begin = data;
  while (size > 0 && p->log >= 0) {
    ssize_t n = write(p->log, data, size);
    if (n < 0) {
      if (errno == EINTR) continue;
      /* Said once for each kind of trouble, not once for each line. */
      bool news = p->lost_error != errno;
      p->lost += size;
      p->lost_error = errno;
      if (data != begin && data[-1] != '\n') p->torn = true;
      if (news) send_log_lost(p);
      return;
    }
    data += n;
    size -= (size_t)n;
  }
  p->lost_error = 0;
}

/* Room for one record's prefix and a part of text is made by writing what has gathered. */
static size_t flush_if(struct process *p, size_t used, size_t wanted) {
  if (used + wanted + STAMP_SIZE + 4 <= sizeof output) return used;
  write_log(p, output, used);
  return 0;
}

static size_t emit(struct stream *s, size_t used, char tag, const char *text, size_t size) {
  used = flush_if(s->process, used, s->pending_size + size);
  used += stamp(output + used, s->label);
  output[used++] = tag;
  output[used++] = ' ';
  memcpy(output + used, s->pending, s->pending_size);
  used += s->pending_size;
  s->pending_size = 0;
  memcpy(output + used, text, size);
  used += size;
  output[used++] = '\n';
  return used;
}

/* Keeps a beginning of a line; the limit bounds what can gather. */
static bool keep(struct stream *s, const char *text, size_t size) {
  if (size == 0) return true;
  if (s->pending == NULL && (s->pending = malloc(s->process->line_limit)) == NULL) return false;
  memcpy(s->pending + s->pending_size, text, size);
  s->pending_size += (uint32_t)size;
  return true;
}

static void consume(struct stream *s, const char *at, size_t size) {
  struct process *p = s->process;
  const char *end = at + size;
  size_t used = 0;
  if (p->log < 0) return;
  while (at < end) {
    size_t room = p->line_limit - s->pending_size, left = (size_t)(end - at);
    const char *newline = memchr(at, '\n', left < room + 1 ? left : room + 1);
    if (newline != NULL) {
      used = emit(s, used, 'F', at, (size_t)(newline - at));
      at = newline + 1;
    } else if (left > room) {
      used = emit(s, used, 'P', at, room);
      at += room;
    } else {
      if (!keep(s, at, left)) used = emit(s, used, 'P', at, left);
      break;
    }
  }
  if (used > 0) write_log(p, output, used);
}

void stream_close(struct stream *s) {
  if (s->source.fd < 0) return;
  if (s->pending_size > 0 && s->process->log >= 0) {
    size_t used = emit(s, 0, 'P', "", 0);
    write_log(s->process, output, used);
  }
  unwatch(&s->source);
  sinks_close(s);
  close(s->source.fd);
  s->source.fd = -1;
  s->held = false;
  if (s->process->terminal >= 0 && s == &s->process->out) s->process->terminal = -1;
  free(s->pending);
  s->pending = NULL;
}

/* Bounded, so that one chatty container leaves room for the others. `last`: the container has ended, sinks are not waited
 * for. */
static bool read_some(struct stream *s, size_t budget, bool last) {
  for (size_t wanted; budget > 0; budget -= wanted < budget ? wanted : budget) {
    wanted = s->sinks == NULL ? sizeof input : SINK_PIECE;
    if (s->sinks != NULL && !last && !sinks_have_room(s)) return true;
    ssize_t n = read(s->source.fd, input, wanted);
    if (n > 0) {
      consume(s, input, (size_t)n);
      sinks_write(s, input, (size_t)n);
      continue;
    }
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return true;
    /* EIO is how a pty says that its last user has gone. */
    stream_close(s);
    return false;
  }
  return true;
}

static void stream_ready(struct source *source, uint32_t events) {
  (void)events;
  read_some((struct stream *)source, 4 * READ_SIZE, false);
}

void stream_drain(struct stream *s) {
  /* A pipe holds at most 1 MiB; what others write meanwhile is read by events. */
  if (s->source.fd < 0) return;
  sinks_widen(s);
  read_some(s, 64 * READ_SIZE, true);
}

void stream_open(struct stream *s, struct process *p, const char *label, int fd) {
  fcntl(fd, F_SETFL, O_NONBLOCK);
  s->process = p;
  s->label = label;
  s->source.fd = fd;
  s->source.ready = stream_ready;
  watch(&s->source, EPOLLIN);
}
