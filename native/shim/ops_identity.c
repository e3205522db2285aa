/* The last part of a plan: standard streams, identity, privileges, exec. */
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <termios.h>

#include "shim.h"

#ifndef DEVPTS_SUPER_MAGIC
#define DEVPTS_SUPER_MAGIC 0x1cd1
#endif

int run_standard_streams(struct runner *r, const struct op_standard_streams *a) {
  const int32_t slots[3] = {a->stdin_, a->stdout_, a->stderr_};
  for (int i = 0; i < 3; i++) {
    int fd = slot_fd(r, slots[i]);
    if (fd < 0) return -EBADF;
    struct stat st;
    /* A program that is not root reopens /dev/stdout; a pipe has to be its own for that. */
    if (a->uid >= 0 && fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode)) (void)!fchown(fd, (uid_t)a->uid, (gid_t)-1);
    if (dup2(fd, i) < 0) return -errno;
  }
  return 0;
}

/* The pty comes from the devpts of the container, and its other end by TIOCGPTPEER: no name in /dev/pts is looked up,
 * so none can be replaced (CVE-2025-52565). */
int run_terminal(struct runner *r, const struct op_terminal *a) {
  int root = slot_fd(r, a->root), zero = 0;
  struct statfs fs;
  AUTO_CLOSE int master = open_in(root, "dev/pts/ptmx", O_RDWR | O_NOCTTY, RESOLVE_NO_SYMLINKS);
  if (master < 0) return fail_with(r, -master, "/dev/pts/ptmx");
  if (fstatfs(master, &fs) < 0) return -errno;
  if (fs.f_type != DEVPTS_SUPER_MAGIC) return fail_with(r, EXDEV, "/dev/pts is not devpts");
  if (ioctl(master, TIOCSPTLCK, &zero) < 0) return -errno;
  AUTO_CLOSE int peer = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (peer < 0) return -errno;
  struct winsize size = {.ws_row = (unsigned short)a->rows, .ws_col = (unsigned short)a->columns};
  if ((size.ws_row | size.ws_col) != 0 && ioctl(master, TIOCSWINSZ, &size) < 0) return -errno;
  if (fchown(peer, a->uid, (gid_t)a->gid) < 0) return -errno;
  if (a->console) {
    /* Through no link: with a /dev that others share the terminal would lie over a file of their choice (CVE-2026-88264). */
    AUTO_CLOSE int target = file_in(root, "dev/console", 0600, RESOLVE_NO_SYMLINKS);
    if (target < 0) return fail_with(r, -target, "/dev/console");
    AUTO_CLOSE int tree = (int)syscall(SYS_open_tree, peer, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    if (tree < 0) return -errno;
    if (syscall(SYS_move_mount, tree, "", target, "", 0x44 /* both paths empty */) < 0) return -errno;
  }
  if (ioctl(peer, TIOCSCTTY, 0) < 0) return -errno;
  int error = send_status(r->status, STATUS_TERMINAL, 0, master);
  if (error != 0) return error;
  for (int i = 0; i < 3; i++) {
    if (dup2(peer, i) < 0) return -errno;
  }
  return 0;
}

int run_umask(struct runner *r, const struct op_umask *a) {
  (void)r;
  umask((mode_t)a->mask);
  return 0;
}

/* Tried as root first (TOLERATE_DENIED); KEEP: again as the user, where root was refused. */
int run_working_directory(struct runner *r, const struct op_working_directory *a) {
  if ((a->flags & KEEP) && !r->directory_denied) return 0;
  if (chdir(a->path) < 0) {
    if ((a->flags & TOLERATE_DENIED) && errno == EACCES) {
      r->directory_denied = true;
      return 0;
    }
    return fail_with(r, errno, "%s", a->path);
  }
  /* A directory outside the root shows as "(unreachable)/…" (CVE-2024-21626). */
  char at[PATH_MAX];
  long n = syscall(SYS_getcwd, at, sizeof at);
  if (n < 0) return fail_with(r, errno, "%s", a->path);
  if (at[0] != '/') return fail_with(r, EXDEV, "%s is outside the container", a->path);
  return 0;
}

int run_bounding_set(struct runner *r, const struct op_bounding_set *a) {
  (void)r;
  for (unsigned long cap = 0; cap < 64; cap++) {
    if (a->keep & (1ull << cap)) continue;
    if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) return errno == EINVAL ? 0 : -errno; /* past the last one */
  }
  return 0;
}

int run_identity(struct runner *r, const struct op_identity *a) {
  (void)r;
  if (a->keep && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0) return -errno;
  gid_t groups[256];
  if (a->groups.count > 256) return -E2BIG;
  for (uint32_t i = 0; i < a->groups.count; i++) groups[i] = u32_at(&a->groups, i);
  /* Raw calls: the C library's would also tell threads that do not exist. */
  if (syscall(SYS_setgroups, (size_t)a->groups.count, groups) < 0) return -errno;
  if (syscall(SYS_setresgid, a->gid, a->gid, a->gid) < 0) return -errno;
  if (syscall(SYS_setresuid, a->uid, a->uid, a->uid) < 0) return -errno;
  return 0;
}

int run_capabilities(struct runner *r, const struct op_capabilities *a) {
  (void)r;
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2] = {
      {(uint32_t)a->effective, (uint32_t)a->permitted, (uint32_t)a->inheritable},
      {(uint32_t)(a->effective >> 32), (uint32_t)(a->permitted >> 32), (uint32_t)(a->inheritable >> 32)},
  };
  if (syscall(SYS_capset, &header, data) < 0) return -errno;
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0) return -errno;
  for (unsigned long cap = 0; cap < 64; cap++) {
    if ((a->ambient & (1ull << cap)) && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0) return -errno;
  }
  return 0;
}

int run_no_new_privileges(struct runner *r) {
  (void)r;
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

/* Through a /proc that is procfs, and in it through no mount of somebody else's: a profile must not be written into a file
 * that only looks like the kernel's (CVE-2019-16884, CVE-2025-52881). */
int run_exec_profile(struct runner *r, const struct op_exec_profile *a) {
  struct open_how how = {.flags = O_WRONLY | O_CLOEXEC, .resolve = RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS};
  struct statfs fs;
  char text[300];
  AUTO_CLOSE int proc = open("/proc", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (proc < 0) return fail_with(r, errno, "/proc");
  if (fstatfs(proc, &fs) < 0) return -errno;
  if (fs.f_type != PROC_SUPER_MAGIC) return fail_with(r, EXDEV, "/proc is not procfs");
  /* The module's own file since Linux 5.1, beside that of whichever module is the first. */
  AUTO_CLOSE int fd = (int)syscall(SYS_openat2, proc, "thread-self/attr/apparmor/exec", &how, sizeof how);
  if (fd < 0 && errno == ENOENT) fd = (int)syscall(SYS_openat2, proc, "thread-self/attr/exec", &how, sizeof how);
  if (fd < 0) return fail_with(r, errno, "/proc/thread-self/attr/exec");
  int size = snprintf(text, sizeof text, "exec %s", a->name);
  if (size < 0 || (size_t)size >= sizeof text) return -ENAMETOOLONG;
  if (write(fd, text, (size_t)size) < 0) return fail_with(r, errno, "AppArmor profile %s", a->name);
  return 0;
}

int run_seccomp(struct runner *r, const struct op_seccomp *a) {
  (void)r;
  size_t count = a->filter.size / sizeof(struct sock_filter);
  if (a->filter.size % sizeof(struct sock_filter) != 0 || count == 0 || count > 4096) return -EINVAL;
  struct sock_filter code[4096];
  memcpy(code, a->filter.data, a->filter.size);
  struct sock_fprog program = {.len = (unsigned short)count, .filter = code};
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, a->flags, &program) < 0 ? -errno : 0;
}

/* Everything that the shim has is inherited: the host's namespaces, the directories of logs and cgroups, from which ".."
 * leads to the host's root. Closed for good, because the next child is in sight of the container from its birth, and
 * whoever may trace it may walk through its descriptors. */
int run_drop_descriptors(struct runner *r, const struct op_drop_descriptors *a) {
  int kept[MAX_SLOTS];
  if (!r->child || r->status < 3) return -EINVAL;
  for (int i = 0; i < MAX_SLOTS; i++) kept[i] = -1;
  for (uint32_t i = 0; i < a->keep.count; i++) {
    uint32_t slot = u32_at(&a->keep, i);
    if (slot < FIRST_PLAN_SLOT || slot >= MAX_SLOTS) return -EBADF;
    kept[slot] = r->slots[slot];
  }
  /* From one that stays to the next: what lies between goes. */
  for (unsigned from = 3;;) {
    int next = r->status >= (int)from ? r->status : -1;
    for (int i = FIRST_PLAN_SLOT; i < MAX_SLOTS; i++) {
      if (kept[i] >= (int)from && (next < 0 || kept[i] < next)) next = kept[i];
    }
    if (next < 0) {
      if (syscall(SYS_close_range, from, ~0U, 0U) < 0) return -errno;
      break;
    }
    if (next > (int)from && syscall(SYS_close_range, from, (unsigned)next - 1, 0U) < 0) return -errno;
    from = (unsigned)next + 1;
  }
  memcpy(r->slots, kept, sizeof kept);
  return 0;
}

/* Marked rather than closed: the status socket has to live until exec, and its end is the sign of success. */
int run_close_descriptors(struct runner *r, const struct op_close_descriptors *a) {
  (void)r;
  if (syscall(SYS_close_range, a->from, ~0U, 4U /* CLOSE_RANGE_CLOEXEC */) == 0) return 0;
  if (errno != ENOSYS && errno != EPERM) return -errno;
  /* A filter that is older than the call (Linux 5.9): one by one. Numbers are given out from below, and there are few. */
  for (int fd = (int)a->from; fd < 65536; fd++) (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
  return 0;
}

char **vector_of(const struct str_list *list) {
  char **out = calloc((size_t)list->count + 1, sizeof *out);
  if (out == NULL) return NULL;
  const uint8_t *cursor = list->data;
  for (uint32_t i = 0; i < list->count; i++) out[i] = (char *)next_str(&cursor);
  return out;
}

/* A file that may be executed: a directory of that name in PATH is passed over, as a shell does. */
static int executable(const char *path) {
  struct stat st;
  if (stat(path, &st) < 0) return -errno;
  if (S_ISDIR(st.st_mode)) return -EISDIR;
  return syscall(SYS_faccessat, AT_FDCWD, path, X_OK) < 0 ? -errno : 0;
}

int run_find_program(struct runner *r, const struct op_find_program *a) {
  const char *file = a->file;
  if (file[0] == 0) return fail_with(r, ENOENT, "no command");
  free(r->program);
  r->program = NULL;
  if (strchr(file, '/') != NULL) {
    int error = executable(file);
    /* What execve says of a directory. */
    if (error != 0) return fail_with(r, error == -EISDIR ? EACCES : -error, "%s", file);
    r->program = strdup(file);
    return r->program == NULL ? -ENOMEM : 0;
  }
  char path[PATH_MAX];
  int best = -ENOENT;
  for (const char *at = a->path;;) {
    const char *end = strchrnul(at, ':');
    int n = snprintf(path, sizeof path, "%.*s/%s", (int)(end - at), at, file);
    if (n > 0 && (size_t)n < sizeof path && end != at) {
      int error = executable(path);
      if (error == 0) {
        r->program = strdup(path);
        return r->program == NULL ? -ENOMEM : 0;
      }
      if (error == -EACCES) best = error;
    }
    if (*end == 0) break;
    at = end + 1;
  }
  return fail_with(r, -best, best == -EACCES ? "%s" : "%s: not found in PATH", file);
}

static int not_executed(struct runner *r, const char *file) {
  int error = errno;
  r->report->complete = 0;
  return fail_with(r, error, "%s", file);
}

int run_execute(struct runner *r, const struct op_execute *a) {
  char **argv = vector_of(&a->argv), **env = vector_of(&a->env);
  if (argv == NULL || env == NULL) return -ENOMEM;
  if (r->program == NULL || argv[0] == NULL) return -EINVAL;
  r->report->complete = PLAN_EXECUTED;
  execve(r->program, argv, env);
  return not_executed(r, r->program);
}

int run_execute_program(struct runner *r, const struct op_execute_program *a) {
  char **argv = vector_of(&a->argv), **env = vector_of(&a->env);
  int fd = slot_fd(r, a->program);
  if (argv == NULL || env == NULL) return -ENOMEM;
  if (fd < 0 || argv[0] == NULL) return -EBADF;
  r->report->complete = PLAN_EXECUTED;
  syscall(SYS_execveat, fd, "", argv, env, AT_EMPTY_PATH);
  return not_executed(r, argv[0]);
}
