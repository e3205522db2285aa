/* Fills a fresh file system with what lies under it in the image (the mount option tmpcopyup). The image is hostile: nothing
 * is followed, everything is named by its parent's descriptor, and depth is bounded. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "shim.h"

#define DEPTH_LIMIT 256

static int copy_directory(int from, int to, unsigned depth);

static int copy_file(int from, int to, const char *name, const struct stat *st) {
  AUTO_CLOSE int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (in < 0) return -errno;
  AUTO_CLOSE int out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (out < 0) return -errno;
  ssize_t n;
  do n = sendfile(out, in, NULL, 1 << 30);
  while (n > 0 || (n < 0 && errno == EINTR));
  if (n < 0) return -errno;
  /* The owner first: a change of it takes the set-user-id bit away. */
  if (fchown(out, st->st_uid, st->st_gid) < 0 || fchmod(out, st->st_mode & 07777) < 0) return -errno;
  return 0;
}

static int copy_link(int from, int to, const char *name, const struct stat *st) {
  char target[PATH_MAX];
  ssize_t n = readlinkat(from, name, target, sizeof target - 1);
  if (n < 0) return -errno;
  target[n] = 0;
  if (symlinkat(target, to, name) < 0) return -errno;
  return fchownat(to, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int copy_entry(int from, int to, const char *name, unsigned depth) {
  struct stat st;
  if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0) return -errno;
  if (S_ISREG(st.st_mode)) return copy_file(from, to, name, &st);
  if (S_ISLNK(st.st_mode)) return copy_link(from, to, name, &st);
  if (!S_ISDIR(st.st_mode)) {
    if (S_ISSOCK(st.st_mode)) return 0;
    if (mknodat(to, name, st.st_mode, st.st_rdev) < 0) return -errno;
    return fchownat(to, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
  }
  if (depth >= DEPTH_LIMIT) return -ELOOP;
  AUTO_CLOSE int in = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (in < 0) return -errno;
  if (mkdirat(to, name, 0700) < 0) return -errno;
  AUTO_CLOSE int out = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (out < 0) return -errno;
  int error = copy_directory(in, out, depth + 1);
  if (error != 0) return error;
  if (fchown(out, st.st_uid, st.st_gid) < 0 || fchmod(out, st.st_mode & 07777) < 0) return -errno;
  return 0;
}

static int copy_directory(int from, int to, unsigned depth) {
  int copy = fcntl(from, F_DUPFD_CLOEXEC, 3), error = 0;
  if (copy < 0) return -errno;
  DIR *list = fdopendir(copy);
  if (list == NULL) {
    close(copy);
    return -ENOMEM;
  }
  for (;;) {
    errno = 0;
    const struct dirent *entry = readdir(list);
    if (entry == NULL) {
      error = -errno;
      break;
    }
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    error = copy_entry(from, to, entry->d_name, depth);
    if (error != 0) break;
  }
  closedir(list);
  return error;
}

int run_copy_up(struct runner *r, const struct op_copy_up *a) {
  struct stat st;
  int root = slot_fd(r, a->root), tree = slot_fd(r, a->tree);
  if (root < 0 || tree < 0) return -EBADF;
  AUTO_CLOSE int from = open_in(root, a->path, O_RDONLY | O_DIRECTORY, 0);
  if (from == -ENOENT || from == -ENOTDIR) return 0;
  if (from < 0) return fail_with(r, -from, "%s", a->path);
  AUTO_CLOSE int to = openat(tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (to < 0) return fail_with(r, errno, "%s", a->path);
  int error = copy_directory(from, to, 0);
  if (error == 0 && (fstat(from, &st) < 0 || fchown(to, st.st_uid, st.st_gid) < 0 || fchmod(to, st.st_mode & 07777) < 0))
    error = -errno;
  return error == 0 ? 0 : fail_with(r, -error, "what is at %s", a->path);
}
