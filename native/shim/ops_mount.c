/* Mounts. A file system or bind mount is first made detached, then attached by descriptor to a target that was resolved
 * inside the root: no path is ever walked twice. Mount API: Linux 5.2, mount_setattr 5.12. */
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/vfs.h>

#include "shim.h"

/* <sys/mount.h> and <linux/mount.h> cannot be included together in older C libraries. */
extern int mount(const char *, const char *, const char *, unsigned long, const void *);
extern int umount2(const char *, int);
#define MNT_DETACH 2
#ifndef MOVE_MOUNT_F_EMPTY_PATH
#define MOVE_MOUNT_F_EMPTY_PATH 4
#endif
#ifndef MOVE_MOUNT_T_EMPTY_PATH
#define MOVE_MOUNT_T_EMPTY_PATH 0x40
#endif

int run_propagation(struct runner *r, const struct op_propagation *a) {
  if (mount(NULL, a->path, NULL, a->flags, NULL) < 0) return fail_with(r, errno, "%s", a->path);
  return 0;
}

/* What the file system says about a failure ("e overlay: …") beside the errno. */
static int context_error(struct runner *r, int context, int error, const char *what) {
  char text[200];
  ssize_t n = read(context, text, sizeof text - 1);
  if (n > 0 && text[n - 1] == '\n') n--;
  text[n > 0 ? n : 0] = 0;
  return fail_with(r, error, "%s%s%s", what, n > 0 ? ": " : "", n > 2 ? text + 2 : "");
}

static int configure(int context, const char *option) {
  const char *equals = strchr(option, '=');
  if (equals == NULL) return syscall(SYS_fsconfig, context, FSCONFIG_SET_FLAG, option, NULL, 0) < 0 ? -errno : 0;
  char key[64];
  size_t length = (size_t)(equals - option);
  if (length >= sizeof key) return -EINVAL;
  memcpy(key, option, length);
  key[length] = 0;
  return syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, key, equals + 1, 0) < 0 ? -errno : 0;
}

static int names_source(const struct op_mount *a) {
  const uint8_t *cursor = a->options.data;
  for (uint32_t i = 0; i < a->options.count; i++)
    if (strncmp(next_str(&cursor), "source=", 7) == 0) return 1;
  return 0;
}

int run_mount(struct runner *r, const struct op_mount *a) {
  AUTO_CLOSE int context = (int)syscall(SYS_fsopen, a->type, FSOPEN_CLOEXEC);
  if (context < 0) return fail_with(r, errno, "%s", a->type);
  /* What /proc/mounts shows in the first column, once only; some file systems take none. */
  if (!names_source(a)) (void)!syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "source", a->type, 0);
  const uint8_t *cursor = a->options.data;
  for (uint32_t i = 0; i < a->options.count; i++) {
    const char *option = next_str(&cursor);
    int error = configure(context, option);
    if (error != 0) return context_error(r, context, -error, option);
  }
  if (syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0) {
    return context_error(r, context, errno, a->type);
  }
  int tree = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, a->attributes);
  if (tree < 0) return context_error(r, context, errno, a->type);
  return set_slot(r, a->out, tree);
}

/* A string value of fsconfig has 255 bytes and the options of mount(2) one page: a directory whose name is too long is
 * named by a descriptor (/proc is still the host's here). */
#define SHORT_NAME 32
struct layer_name {
  char text[256];
  int fd;
};

static int name_layer(struct layer_name *name, const char *path, bool always) {
  name->fd = -1;
  if (!always && strlen(path) < sizeof name->text) {
    strcpy(name->text, path);
    return 0;
  }
  name->fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (name->fd < 0) return -errno;
  snprintf(name->text, SHORT_NAME, "/proc/self/fd/%d", name->fd);
  return 0;
}

static int set_layer(struct runner *r, int context, const char *key, const char *path) {
  struct layer_name name;
  int error = name_layer(&name, path, false);
  if (error != 0) return fail_with(r, -error, "%s", path);
  error = syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, key, name.text, 0) < 0 ? -errno : 0;
  close_fd(&name.fd);
  return error;
}

/* Whether overlayfs takes its lower directories one by one (lowerdir+, Linux 6.7). Asked of the version: before 6.5 its
 * context takes any option as text, and what it does not know shows at the end only, as an EINVAL without a word. */
static bool takes_single_layers(void) {
  struct utsname name;
  unsigned major = 0, minor = 0;
  if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2) return true;
  return major > 6 || (major == 6 && minor >= 7);
}

/* One layer a call: their number is no limit. */
static int overlay_by_context(struct runner *r, const struct op_overlay *a) {
  AUTO_CLOSE int context = (int)syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC);
  if (context < 0) return -errno;
  (void)!syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "source", "overlay", 0);
  const uint8_t *cursor = a->lower.data;
  for (uint32_t i = 0; i < a->lower.count; i++) {
    const char *path = next_str(&cursor);
    int error = set_layer(r, context, "lowerdir+", path);
    if (error != 0) return context_error(r, context, -error, path);
  }
  int error = 0;
  if (a->upper[0] != 0) {
    error = set_layer(r, context, "upperdir", a->upper);
    if (error != 0) return context_error(r, context, -error, a->upper);
    error = set_layer(r, context, "workdir", a->work);
    if (error != 0) return context_error(r, context, -error, a->work);
  }
  cursor = a->options.data;
  for (uint32_t i = 0; i < a->options.count; i++) {
    const char *option = next_str(&cursor);
    error = configure(context, option);
    if (error != 0) return context_error(r, context, -error, option);
  }
  if (syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0) {
    return context_error(r, context, errno, "overlay");
  }
  int tree = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0);
  if (tree < 0) return context_error(r, context, errno, "overlay");
  return set_slot(r, a->out, tree);
}

/* Appends to the page of options; false where it is full. */
static bool append(char *page, size_t size, size_t *at, const char *separator, const char *text) {
  int n = snprintf(page + *at, size - *at, "%s%s", separator, text);
  if (n < 0 || *at + (size_t)n >= size) return false;
  *at += (size_t)n;
  return true;
}

/* The same for a directory: a comma would end the option. */
static bool append_path(char *page, size_t size, size_t *at, const char *option, const char *path) {
  if (!append(page, size, at, option, "")) return false;
  for (const char *c = path; *c != 0; c++) {
    char text[2] = {*c, 0};
    if (!append(page, size, at, *c == ',' || *c == '\\' ? "\\" : "", text)) return false;
  }
  return true;
}

static int overlay_by_mount(struct runner *r, const struct op_overlay *a) {
  char page[4096];
  size_t at = 0;
  bool fits = append(page, sizeof page, &at, "", "lowerdir=");
  const uint8_t *cursor = a->lower.data;
  for (uint32_t i = 0; fits && i < a->lower.count; i++) {
    const char *path = next_str(&cursor);
    struct layer_name name;
    /* Left open: the names are read by mount(2) below. */
    int error = name_layer(&name, path, true);
    if (error != 0) return fail_with(r, -error, "%s", path);
    fits = append(page, sizeof page, &at, i == 0 ? "" : ":", name.text);
  }
  if (a->upper[0] != 0) {
    fits = fits && append_path(page, sizeof page, &at, ",upperdir=", a->upper) &&
           append_path(page, sizeof page, &at, ",workdir=", a->work);
  }
  cursor = a->options.data;
  for (uint32_t i = 0; fits && i < a->options.count; i++) fits = append(page, sizeof page, &at, ",", next_str(&cursor));
  if (!fits) {
    return fail_with(r, E2BIG, "%u layers do not fit into one page of mount options on this kernel", a->lower.count);
  }
  if (mount("overlay", a->staging, "overlay", 0, page) < 0) return fail_with(r, errno, "overlay on %s", a->staging);
  /* From here on like the other way: a detached tree. */
  int tree = (int)syscall(SYS_open_tree, AT_FDCWD, a->staging, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  int error = tree < 0 ? -errno : 0;
  umount2(a->staging, MNT_DETACH);
  return error != 0 ? error : set_slot(r, a->out, tree);
}

int run_overlay(struct runner *r, const struct op_overlay *a) {
  if (a->lower.count == 0) return -EINVAL;
  return takes_single_layers() ? overlay_by_context(r, a) : overlay_by_mount(r, a);
}

int run_enter_directory(struct runner *r, const struct op_enter_directory *a) {
  int fd = slot_fd(r, a->directory);
  if (fd < 0) return -EBADF;
  return fchdir(fd) < 0 ? -errno : 0;
}

/* mkdir -p. What stands in the way is said by the attempt that follows. */
static void make_directories(const char *path) {
  char part[PATH_MAX];
  size_t length = strlen(path);
  if (length >= sizeof part) return;
  for (size_t i = 1; i <= length; i++) {
    if (path[i] != '/' && path[i] != 0) continue;
    memcpy(part, path, i);
    part[i] = 0;
    if (mkdir(part, 0755) < 0 && errno != EEXIST) return;
  }
}

int run_open_tree(struct runner *r, const struct op_open_tree *a) {
  int base = a->base < 0 ? AT_FDCWD : slot_fd(r, a->base);
  if (a->base >= 0 && base < 0) return -EBADF;
  unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
  if (a->flags & RECURSIVE) flags |= AT_RECURSIVE;
  if (a->path[0] == 0) flags |= AT_EMPTY_PATH;
  int tree = (int)syscall(SYS_open_tree, base, a->path, flags);
  if (tree < 0 && errno == ENOENT && (a->flags & MAKE_MISSING)) {
    make_directories(a->path);
    tree = (int)syscall(SYS_open_tree, base, a->path, flags);
  }
  if (tree < 0) return fail_with(r, errno, "%s", a->path);
  return set_slot(r, a->out, tree);
}

int run_open_beneath(struct runner *r, const struct op_open_beneath *a) {
  int base = slot_fd(r, a->base);
  if (base < 0) return -EBADF;
  struct open_how how = {.flags = a->open | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
  long fd;
  int tries = 0;
  do fd = syscall(SYS_openat2, base, a->path, &how, sizeof how);
  while (fd < 0 && (errno == EAGAIN || errno == EINTR) && ++tries < 128);
  if (fd < 0) return fail_with(r, errno, "%s", a->path);
  return set_slot(r, a->out, (int)fd);
}

/* Of what will be mounted, whatever its path has led to when somebody else looked. */
int run_expect_type(struct runner *r, const struct op_expect_type *a) {
  struct stat st;
  int tree = slot_fd(r, a->tree);
  if (tree < 0) return -EBADF;
  if (fstat(tree, &st) < 0) return -errno;
  return (st.st_mode & S_IFMT) == a->type ? 0 : fail_with(r, ENXIO, "it is of another type than the volume says");
}

static int set_attributes(int tree, uint32_t flags, struct mount_attr *attr) {
  unsigned at = AT_EMPTY_PATH | ((flags & RECURSIVE) ? AT_RECURSIVE : 0);
  return syscall(SYS_mount_setattr, tree, "", at, attr, sizeof *attr) < 0 ? -errno : 0;
}

int run_id_map(struct runner *r, const struct op_id_map *a) {
  int tree = slot_fd(r, a->tree), namespace = slot_fd(r, a->namespace);
  if (tree < 0 || namespace < 0) return -EBADF;
  struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)namespace};
  int error = set_attributes(tree, a->flags, &attr);
  return error == 0 ? 0 : fail_with(r, -error, "the file system may not support id-mapped mounts");
}

int run_mount_attributes(struct runner *r, const struct op_mount_attributes *a) {
  int tree = slot_fd(r, a->tree);
  if (tree < 0) return -EBADF;
  struct mount_attr attr = {.attr_set = a->set, .attr_clr = a->clear, .propagation = a->propagation};
  return set_attributes(tree, a->flags, &attr);
}

static int move_tree(int tree, int target) {
  if (syscall(SYS_move_mount, tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0) return -errno;
  return 0;
}

int run_attach(struct runner *r, const struct op_attach *a) {
  int tree = slot_fd(r, a->tree);
  if (tree < 0) return -EBADF;
  if (syscall(SYS_move_mount, tree, "", AT_FDCWD, a->path, MOVE_MOUNT_F_EMPTY_PATH) < 0) {
    return fail_with(r, errno, "%s", a->path);
  }
  return 0;
}

/* Of what is there, not of what its name says. */
static bool is_procfs(int fd) {
  struct statfs fs;
  return fstatfs(fd, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC;
}

int run_attach_in(struct runner *r, const struct op_attach_in *a) {
  struct stat st;
  int tree = slot_fd(r, a->tree), root = slot_fd(r, a->root);
  if (tree < 0 || root < 0) return -EBADF;
  if (fstat(tree, &st) < 0) return -errno;
  uint64_t resolve = (a->flags & NO_SYMLINKS) ? RESOLVE_NO_SYMLINKS : 0;
  AUTO_CLOSE int target =
      S_ISDIR(st.st_mode) ? directory_in(root, a->path, 0755, resolve) : file_in(root, a->path, 0644, resolve);
  if (target < 0) return fail_with(r, -target, "%s", a->path);
  /* Neither may a link in the image, or in a volume while somebody swaps it, lead a mount onto a file of /proc, nor may
   * something else stand in for /proc: labels, masks and sysctls are written there (CVE-2019-16884, CVE-2019-19921). */
  if (!(a->flags & OVER_PROC) && is_procfs(target)) return fail_with(r, EXDEV, "%s leads into /proc", a->path);
  if ((a->flags & ONLY_PROC) && !is_procfs(tree)) return fail_with(r, EXDEV, "%s would be no procfs", a->path);
  int error = move_tree(tree, target);
  if (error != 0) return fail_with(r, -error, "%s", a->path);
  if (a->tree >= FIRST_PLAN_SLOT && !(a->flags & KEEP)) {
    close(r->slots[a->tree]);
    r->slots[a->tree] = -1;
  }
  return 0;
}

int run_directory_in(struct runner *r, const struct op_directory_in *a) {
  int root = slot_fd(r, a->root);
  AUTO_CLOSE int found = open_in(root, a->path, O_PATH | O_DIRECTORY, 0);
  if (found >= 0) return 0;
  AUTO_CLOSE int fd = directory_in(root, a->path, a->mode, 0);
  if (fd < 0) return fail_with(r, -fd, "%s", a->path);
  if (fchownat(fd, "", a->uid, a->gid, AT_EMPTY_PATH) < 0) return -errno;
  return 0;
}

int run_device_in(struct runner *r, const struct op_device_in *a) {
  const char *last;
  AUTO_CLOSE int parent = parent_in(slot_fd(r, a->root), a->path, 0, &last);
  if (parent < 0) return fail_with(r, -parent, "%s", a->path);
  if (mknodat(parent, last, a->mode, makedev(a->major, a->minor)) < 0) {
    struct stat st;
    int error = errno;
    /* A root that has been used before has its nodes: the same one is fine, anything else is not. */
    if (error == EEXIST && fstatat(parent, last, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        (st.st_mode & S_IFMT) == (a->mode & S_IFMT) &&
        (S_ISFIFO(st.st_mode) || st.st_rdev == makedev(a->major, a->minor)))
      return 0;
    return fail_with(r, error, "%s", a->path);
  }
  /* The kernel applied no umask (it is 0), but the owner has to be set. */
  if ((a->uid | a->gid) != 0 && fchownat(parent, last, a->uid, a->gid, AT_SYMLINK_NOFOLLOW) < 0) return -errno;
  return 0;
}

int run_link_in(struct runner *r, const struct op_link_in *a) {
  const char *last;
  AUTO_CLOSE int parent = parent_in(slot_fd(r, a->root), a->path, 0, &last);
  if (parent < 0) return fail_with(r, -parent, "%s", a->path);
  if (symlinkat(a->target, parent, last) < 0 && errno != EEXIST) return fail_with(r, errno, "%s", a->path);
  return 0;
}

/* One tree serves all masks of its kind: attached for the first path, cloned from there for the others (a clone needs a
 * tree of this mount namespace). A mount for each CPU's thermal_throttle would be costly enough. */
static int mask_tree(struct runner *r, int32_t slot, bool *attached) {
  int fd = slot_fd(r, slot);
  if (fd < 0) return -EBADF;
  int tree = *attached ? (int)syscall(SYS_open_tree, fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH) : dup(fd);
  *attached = true;
  return tree < 0 ? -errno : tree;
}

int run_mask(struct runner *r, const struct op_mask *a) {
  struct stat st;
  AUTO_CLOSE int target = open_in(slot_fd(r, a->root), a->path, O_PATH, 0);
  if (target == -ENOENT || target == -ENOTDIR) return 0;
  if (target < 0) return fail_with(r, -target, "%s", a->path);
  if (fstat(target, &st) < 0) return -errno;
  AUTO_CLOSE int tree = -1;
  if (S_ISDIR(st.st_mode)) {
    tree = mask_tree(r, a->empty, &r->empty_attached);
  } else {
    /* What hides a file must be the null device and nothing that an image calls so (CVE-2025-31133). */
    if (fstat(slot_fd(r, a->null_slot), &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3)) {
      return fail_with(r, ENODEV, "/dev/null of the host is not c 1:3");
    }
    tree = mask_tree(r, a->null_slot, &r->null_attached);
  }
  if (tree < 0) return fail_with(r, -tree, "%s", a->path);
  int error = move_tree(tree, target);
  return error == 0 ? 0 : fail_with(r, -error, "%s", a->path);
}

int run_read_only(struct runner *r, const struct op_read_only *a) {
  AUTO_CLOSE int target = open_in(slot_fd(r, a->root), a->path, O_PATH, 0);
  if (target == -ENOENT || target == -ENOTDIR) return 0;
  if (target < 0) return fail_with(r, -target, "%s", a->path);
  AUTO_CLOSE int tree = (int)syscall(SYS_open_tree, target, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);
  if (tree < 0) return fail_with(r, errno, "%s", a->path);
  struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
  int error = set_attributes(tree, RECURSIVE, &attr);
  if (error == 0) error = move_tree(tree, target);
  return error == 0 ? 0 : fail_with(r, -error, "%s", a->path);
}

/* pivot_root(2): with "." twice the old root ends up on top of the new one and is detached from there. */
int run_pivot(struct runner *r, const struct op_pivot *a) {
  int root = slot_fd(r, a->root);
  if (root < 0) return -EBADF;
  if (fchdir(root) < 0) return -errno;
  if (syscall(SYS_pivot_root, ".", ".") < 0) return -errno;
  if (umount2(".", MNT_DETACH) < 0) return -errno;
  return chdir("/") < 0 ? -errno : 0;
}

/* Where the namespace came empty, the root lies on its only other mount, which nothing leads back to. */
int run_enter_root(struct runner *r, const struct op_enter_root *a) {
  int root = slot_fd(r, a->root);
  if (root < 0) return -EBADF;
  if (fchdir(root) < 0 || chroot(".") < 0) return -errno;
  return 0;
}
