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

int directory_in(int root, const char *path, uint32_t mode, uint64_t resolve) {
  int found = open_in(root, path, O_PATH | O_DIRECTORY, resolve);
  if (found != -ENOENT) return found;
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
    int next = open_in(root, prefix, O_PATH | O_DIRECTORY, resolve);
    if (next == -ENOENT) {
      if (mkdirat(at, prefix + start, mode) < 0 && errno != EEXIST) {
        int error = errno;
        close(at);
        return -error;
      }
      next = open_in(root, prefix, O_PATH | O_DIRECTORY, resolve);
      /* There is a name, but it leads nowhere: a dangling symbolic link. */
      if (next == -ENOENT) next = -ELOOP;
    }
    close(at);
    if (next < 0) return next;
    at = next;
  }
  return at;
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
  int found = open_in(root, path, O_PATH, resolve);
  if (found != -ENOENT) return found;
  const char *last;
  AUTO_CLOSE int parent = parent_in(root, path, resolve, &last);
  if (parent < 0) return parent;
  AUTO_CLOSE int made = openat(parent, last, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, mode);
  if (made < 0) return errno == EEXIST ? -ELOOP : -errno;
  return open_in(parent, last, O_PATH | O_NOFOLLOW, resolve);
}
