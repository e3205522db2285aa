/* Attached readers of a container's output: each gets what is written from now on, by a pipe of its own. Nothing is kept
 * here: while there are readers a stream is read in pieces that fit whole into a pipe with room, and only when all its
 * pipes have room. So a slow reader slows the container down, as its own terminal would, and one that takes nothing for
 * ten seconds is let go. */
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "shim.h"

#define MAX_SINKS 16
#define PATIENCE 10000000000u /* ns */
/* What a pipe may be without a privilege (/proc/sys/fs/pipe-max-size). */
#define WIDE (1 << 20)

static unsigned full;

static void set_full(struct sink *sink, uint64_t since) {
  if ((sink->full_since != 0) == (since != 0)) return;
  sink->full_since = since;
  if (since != 0) full++;
  else full--;
  /* The end of its reader is told in any case. */
  unwatch(&sink->source);
  watch(&sink->source, since != 0 ? EPOLLOUT : 0);
}

static void resume(struct stream *s) {
  if (!s->held || s->source.fd < 0) return;
  for (const struct sink *sink = s->sinks; sink != NULL; sink = sink->next) {
    if (sink->full_since != 0) return;
  }
  s->held = false;
  watch(&s->source, EPOLLIN);
}

static void sink_close(struct sink *sink) {
  for (struct sink **at = &sink->stream->sinks; *at != NULL; at = &(*at)->next) {
    if (*at == sink) {
      *at = sink->next;
      break;
    }
  }
  if (sink->full_since != 0) full--;
  unwatch(&sink->source);
  close(sink->source.fd);
  sink->source.fd = -1;
  resume(sink->stream);
  free_later(sink);
}

static void sink_ready(struct source *source, uint32_t events) {
  struct sink *sink = (struct sink *)source;
  if (events & (EPOLLERR | EPOLLHUP)) return sink_close(sink);
  set_full(sink, 0);
  resume(sink->stream);
}

int sink_open(struct stream *s, uint32_t session) {
  unsigned count = 0;
  for (const struct sink *sink = s->sinks; sink != NULL; sink = sink->next) count++;
  if (count >= MAX_SINKS) return -EMFILE;
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) return -errno;
  struct sink *sink = calloc(1, sizeof *sink);
  if (sink == NULL) {
    close(ends[0]);
    close(ends[1]);
    return -ENOMEM;
  }
  sink->source.fd = ends[1];
  sink->source.ready = sink_ready;
  sink->stream = s;
  sink->session = session;
  sink->next = s->sinks;
  s->sinks = sink;
  watch(&sink->source, 0);
  return ends[0];
}

bool sinks_have_room(struct stream *s) {
  bool room = true;
  for (struct sink *sink = s->sinks, *next; sink != NULL; sink = next) {
    next = sink->next;
    struct pollfd ask = {.fd = sink->source.fd, .events = POLLOUT};
    poll(&ask, 1, 0);
    if (ask.revents & POLLERR) {
      sink_close(sink);
    } else if (!(ask.revents & POLLOUT)) {
      set_full(sink, clock_ns(CLOCK_MONOTONIC));
      room = false;
    }
  }
  if (!room && !s->held) {
    s->held = true;
    unwatch(&s->source);
  }
  return room;
}

void sinks_write(struct stream *s, const char *data, size_t size) {
  for (struct sink *sink = s->sinks, *next; sink != NULL; sink = next) {
    next = sink->next;
    if (write(sink->source.fd, data, size) != (ssize_t)size) sink_close(sink);
  }
}

void sinks_widen(struct stream *s) {
  for (const struct sink *sink = s->sinks; sink != NULL; sink = sink->next) fcntl(sink->source.fd, F_SETPIPE_SZ, WIDE);
}

void sinks_close(struct stream *s) {
  s->held = false;
  while (s->sinks != NULL) sink_close(s->sinks);
}

static void session_close(struct stream *s, uint32_t session) {
  for (struct sink *sink = s->sinks, *next; sink != NULL; sink = next) {
    next = sink->next;
    if (sink->session == session) sink_close(sink);
  }
}

/* Nanoseconds until the first full sink of a stream must have taken something; 0 where one should have already, which is
 * then `late`. */
static uint64_t patience(const struct stream *s, uint64_t now, uint64_t first, uint32_t *late) {
  for (const struct sink *sink = s->sinks; sink != NULL; sink = sink->next) {
    if (sink->full_since == 0) continue;
    uint64_t end = sink->full_since + PATIENCE;
    if (end <= now) {
      *late = sink->session;
      return 0;
    }
    if (end - now < first) first = end - now;
  }
  return first;
}

int sinks_expire(void) {
  if (full == 0) return -1;
  uint64_t now = clock_ns(CLOCK_MONOTONIC), first = PATIENCE;
  for (struct process *p = process_first(); p != NULL; p = p->next) {
    uint32_t late = 0;
    uint64_t next;
    while ((next = patience(&p->err, now, patience(&p->out, now, first, &late), &late)) == 0) {
      session_close(&p->out, late);
      session_close(&p->err, late);
    }
    first = next;
  }
  return full == 0 ? -1 : (int)(first / 1000000) + 1;
}
