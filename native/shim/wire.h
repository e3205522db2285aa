/* Reading and writing of plans and messages. Little endian, no padding; text carries a NUL that its length leaves
 * out, so that it can be used where it lies. Nothing read here is trusted: every length is checked against what is
 * left, because a plan is also what a bug in the agent would produce (CVE-2021-43784 is such a bug). */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
  const uint8_t *data;
  uint32_t size;
};

/* Texts one after another; next_str() walks them. */
struct str_list {
  uint32_t count;
  const uint8_t *data;
  uint32_t size;
};

struct u32_list {
  uint32_t count;
  const uint8_t *data;
};

struct reader {
  const uint8_t *at;
  const uint8_t *end;
};

static inline bool reader_done(const struct reader *r) { return r->at == r->end; }

static inline bool read_u32(struct reader *r, uint32_t *out) {
  if ((size_t)(r->end - r->at) < 4) return false;
  memcpy(out, r->at, 4);
  r->at += 4;
  return true;
}

static inline bool read_i32(struct reader *r, int32_t *out) {
  uint32_t v;
  if (!read_u32(r, &v)) return false;
  memcpy(out, &v, 4);
  return true;
}

static inline bool read_u64(struct reader *r, uint64_t *out) {
  if ((size_t)(r->end - r->at) < 8) return false;
  memcpy(out, r->at, 8);
  r->at += 8;
  return true;
}

static inline bool read_bytes(struct reader *r, struct span *out) {
  uint32_t n;
  if (!read_u32(r, &n) || (size_t)(r->end - r->at) < n) return false;
  out->data = r->at;
  out->size = n;
  r->at += n;
  return true;
}

/* Text must hold no NUL of its own: "a\0b" would mean two things to two readers. */
static inline bool read_str(struct reader *r, const char **out) {
  struct span s;
  if (!read_bytes(r, &s)) return false;
  if (r->at == r->end || *r->at != 0) return false;
  if (memchr(s.data, 0, s.size) != NULL) return false;
  r->at += 1;
  *out = (const char *)s.data;
  return true;
}

static inline bool read_strs(struct reader *r, struct str_list *out) {
  if (!read_u32(r, &out->count)) return false;
  out->data = r->at;
  for (uint32_t i = 0; i < out->count; i++) {
    const char *s;
    if (!read_str(r, &s)) return false;
  }
  out->size = (uint32_t)(r->at - out->data);
  return true;
}

static inline bool read_u32s(struct reader *r, struct u32_list *out) {
  if (!read_u32(r, &out->count)) return false;
  if ((size_t)(r->end - r->at) / 4 < out->count) return false;
  out->data = r->at;
  r->at += (size_t)out->count * 4;
  return true;
}

static inline uint32_t u32_at(const struct u32_list *list, uint32_t i) {
  uint32_t v;
  memcpy(&v, list->data + (size_t)i * 4, 4);
  return v;
}

/* Steps to the next text of a list: start with cursor = list->data. */
static inline const char *next_str(const uint8_t **cursor) {
  uint32_t n;
  memcpy(&n, *cursor, 4);
  const char *s = (const char *)(*cursor + 4);
  *cursor += 4 + n + 1;
  return s;
}

/* A message under construction. What does not fit sets `full`, and the message is not sent. */
struct writer {
  uint8_t *start;
  uint8_t *at;
  uint8_t *end;
  bool full;
};

static inline void put(struct writer *w, const void *data, size_t size) {
  if ((size_t)(w->end - w->at) < size) {
    w->full = true;
    return;
  }
  memcpy(w->at, data, size);
  w->at += size;
}

static inline void put_u16(struct writer *w, uint16_t v) { put(w, &v, 2); }
static inline void put_u32(struct writer *w, uint32_t v) { put(w, &v, 4); }
static inline void put_u64(struct writer *w, uint64_t v) { put(w, &v, 8); }
static inline void put_str(struct writer *w, const char *s) {
  uint32_t n = (uint32_t)strlen(s);
  put_u32(w, n);
  put(w, s, n + 1);
}
