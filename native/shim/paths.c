/* Paths inside a container's root. The root's content is the image's and, once a volume is shared, somebody else's who
 * may change it at any moment: a path is resolved once, by openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS), and from
 * then on only the descriptor is used (CVE-2019-19921, CVE-2021-30465, CVE-2025-31133). */
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "shim.h"

int open_in(int root, const char *path, uint64_t flags, uint64_t resolve) {
  struct open_how how = {
      .flags = flags | O_CLOEXEC,
      .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve,
  };
  /* EAGAIN: a rename or mount elsewhere raced with a ".." in the path. */
  for (int tries = 0; tries < 128; tries++) {
    long fd = syscall(SYS_openat2, root, *path ? path : ".", &how, sizeof how);
    if (fd >= 0) return (int)fd;
    if (errno != EAGAIN && errno != EINTR) return -errno;
  }
  return -EAGAIN;
}

/* As many links as the kernel follows (path_resolution(7)). */
#define MOST_LINKS 40

/* `path` with its component from `start` to `end`, a symbolic link in `parent`, replaced by what the link says. */
static int through_link(int parent, const char *path, size_t start, size_t end, char out[PATH_MAX]) {
  char name[NAME_MAX + 1], target[PATH_MAX];
  if (end - start >= sizeof name) return -ENAMETOOLONG;
  memcpy(name, path + start, end - start);
  name[end - start] = 0;
  ssize_t length = readlinkat(parent, name, target, sizeof target);
  if (length < 0) return errno == EINVAL ? -ELOOP : -errno;
  size_t before = target[0] == '/' ? 0 : start;
  size_t after = strlen(path + end);
  if (before + (size_t)length + after >= PATH_MAX) return -ENAMETOOLONG;
  memcpy(out, path, before);
  memcpy(out + before, target, (size_t)length);
  memcpy(out + before + (size_t)length, path + end, after + 1);
  return 0;
}

/* One walk along `path`. A link that leads nowhere ends it with -ENOENT and, in `next`, the path to walk instead. */
static int walk_in(int root, const char *path, uint32_t mode, uint64_t resolve, char next[PATH_MAX]) {
  char prefix[PATH_MAX];
  size_t length = strlen(path);
  if (length >= sizeof prefix) return -ENAMETOOLONG;
  int at = open_in(root, ".", O_PATH | O_DIRECTORY, resolve);
  if (at < 0) return at;
  size_t i = 0;
  while (i < length) {
    while (path[i] == '/') i++;
    size_t start = i;
    while (i < length && path[i] != '/') i++;
    if (start == i) break;
    memcpy(prefix, path, i);
    prefix[i] = 0;
    int found = open_in(root, prefix, O_PATH | O_DIRECTORY, resolve);
    if (found == -ENOENT) {
      if (mkdirat(at, prefix + start, mode) < 0 && errno != EEXIST) {
        int error = errno;
        close(at);
        return -error;
      }
      found = open_in(root, prefix, O_PATH | O_DIRECTORY, resolve);
    }
    if (found == -ENOENT) {
      int error = through_link(at, path, start, i, next);
      close(at);
      return error < 0 ? error : -ENOENT;
    }
    close(at);
    if (found < 0) return found;
    at = found;
  }
  return at;
}

/* Makes what is missing. A link whose target is missing is followed as well, as a base image's /etc/resolv.conf is, which
 * leads into a /run that only a running system fills: what it names is made, inside the root. */
int directory_in(int root, const char *path, uint32_t mode, uint64_t resolve) {
  int found = open_in(root, path, O_PATH | O_DIRECTORY, resolve);
  char paths[2][PATH_MAX];
  for (int links = 0; found == -ENOENT; links++) {
    if (links == MOST_LINKS) return -ELOOP;
    char *next = paths[links % 2];
    *next = 0;
    found = walk_in(root, path, mode, resolve, next);
    if (*next == 0) return found;
    path = next;
  }
  return found;
}

int parent_in(int root, const char *path, uint64_t resolve, const char **last) {
  size_t end = strlen(path);
  while (end > 0 && path[end - 1] == '/') end--;
  size_t start = end;
  while (start > 0 && path[start - 1] != '/') start--;
  if (start == end || end != strlen(path)) return -EINVAL;
  *last = path + start;
  if (strcmp(*last, "..") == 0 || strcmp(*last, ".") == 0) return -EINVAL;
  char parent[PATH_MAX];
  if (start >= sizeof parent) return -ENAMETOOLONG;
  memcpy(parent, path, start);
  parent[start] = 0;
  return directory_in(root, parent, 0755, resolve);
}

int file_in(int root, const char *path, uint32_t mode, uint64_t resolve) {
  char paths[2][PATH_MAX];
  for (int links = 0; links < MOST_LINKS; links++) {
    int found = open_in(root, path, O_PATH, resolve);
    if (found != -ENOENT) return found;
    const char *last;
    AUTO_CLOSE int parent = parent_in(root, path, resolve, &last);
    if (parent < 0) return parent;
    AUTO_CLOSE int made = openat(parent, last, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, mode);
    if (made >= 0) return open_in(parent, last, O_PATH | O_NOFOLLOW, resolve);
    if (errno != EEXIST) return -errno;
    size_t start = (size_t)(last - path);
    int error = through_link(parent, path, start, start + strlen(last), paths[links % 2]);
    if (error < 0) return error;
    path = paths[links % 2];
  }
  return -ELOOP;
}
