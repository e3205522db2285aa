/* Operations on host files: control files of cgroupfs and procfs, and what the shim keeps for a process. */
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include "shim.h"

int run_make_directory(struct runner *r, const struct op_make_directory *a) {
  if (mkdir(a->path, a->mode) < 0 && errno != EEXIST) return fail_with(r, errno, "%s", a->path);
  return 0;
}

/* A control file takes its value in one write. */
static int write_once(const char *path, const char *data) {
  AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) return -errno;
  size_t size = strlen(data);
  ssize_t n = write(fd, data, size);
  if (n < 0) return -errno;
  return (size_t)n == size ? 0 : -EIO;
}

int run_write_file(struct runner *r, const struct op_write_file *a) {
  int error = write_once(a->path, a->data);
  if (error == 0) return 0;
  error = tolerate(r, -error, a->flags);
  return error == 0 ? 0 : fail_with(r, -error, "\"%.80s\" to %s", a->data, a->path);
}

int run_write_slot(struct runner *r, const struct op_write_slot *a) {
  int fd = slot_fd(r, a->file);
  if (fd < 0) return -EBADF;
  if (write(fd, a->data, strlen(a->data)) >= 0) return 0;
  int error = tolerate(r, errno, a->flags);
  return error == 0 ? 0 : fail_with(r, -error, "\"%.80s\"", a->data);
}

int run_open(struct runner *r, const struct op_open *a) {
  int fd = open(a->path, (int)a->open | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) return fail_with(r, errno, "%s", a->path);
  return set_slot(r, a->out, fd);
}

int run_attach_device_program(struct runner *r, const struct op_attach_device_program *a) {
  union bpf_attr attr;
  memset(&attr, 0, sizeof attr);
  attr.target_fd = (uint32_t)slot_fd(r, a->cgroup);
  attr.attach_bpf_fd = (uint32_t)slot_fd(r, a->program);
  attr.attach_type = BPF_CGROUP_DEVICE;
  attr.attach_flags = BPF_F_ALLOW_MULTI;
  return syscall(SYS_bpf, BPF_PROG_ATTACH, &attr, sizeof attr) < 0 ? -errno : 0;
}

int run_streams(struct runner *r, const struct op_streams *a) {
  struct process *p = r->process;
  if (r->child || p->log >= 0 || p->log_path != NULL) return -EINVAL;
  if (a->log[0] != 0) {
    /* Nor is the pod's own directory a link: a pod that mounts all logs could put one there. */
    p->log_directory = open(a->directory, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (p->log_directory < 0) return fail_with(r, errno, "%s", a->directory);
    p->log = log_open(p->log_directory, a->log);
    if (p->log < 0) return fail_with(r, -p->log, "%s/%s", a->directory, a->log);
    p->log_path = strdup(a->log);
    if (p->log_path == NULL) return -ENOMEM;
  }
  p->line_limit = a->line_limit < 256 ? 256 : a->line_limit > 32768 ? 32768 : a->line_limit;
  int ends[2];
  /* A terminal is its own input. */
  if (a->stdin_ && !a->terminal) {
    if (pipe2(ends, O_CLOEXEC) < 0) return -errno;
    p->stdin_write = ends[1];
    int error = set_slot(r, a->in_slot, ends[0]);
    if (error != 0) return error;
  }
  if (a->terminal) return 0; /* the master comes from the child */
  for (int i = 0; i < 2; i++) {
    if (pipe2(ends, O_CLOEXEC) < 0) return -errno;
    stream_open(i == 0 ? &p->out : &p->err, p, i == 0 ? "stdout" : "stderr", ends[0]);
    int error = set_slot(r, i == 0 ? a->out_slot : a->err_slot, ends[1]);
    if (error != 0) return error;
  }
  return 0;
}

int run_exit_record(struct runner *r, const struct op_exit_record *a) {
  struct process *p = r->process;
  if (r->child || p->exit_file >= 0) return -EINVAL;
  /* Space for the record is taken now: when the container ends the disk may be full. */
  p->exit_file = open(a->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (p->exit_file < 0) return fail_with(r, errno, "%s", a->path);
  char blank[EXIT_RECORD_SIZE];
  memset(blank, 0, sizeof blank);
  ssize_t n = write(p->exit_file, blank, sizeof blank);
  if (n != sizeof blank) return fail_with(r, n < 0 ? errno : ENOSPC, "%s", a->path);
  p->oom_file = strdup(a->oom_file);
  p->oom_key = strdup(a->oom_key);
  p->kill_file = strdup(a->kill_file);
  return p->oom_file && p->oom_key && p->kill_file ? 0 : -ENOMEM;
}

int run_sysctl(struct runner *r, const struct op_sysctl *a) {
  struct statfs fs;
  /* A fake /proc must not receive the write (CVE-2019-19921 and its kin). */
  AUTO_CLOSE int base = open("/proc/sys", O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  if (base < 0) return -errno;
  if (fstatfs(base, &fs) < 0) return -errno;
  if (fs.f_type != PROC_SUPER_MAGIC) return fail_with(r, EXDEV, "/proc is not procfs");
  AUTO_CLOSE int fd = open_in(base, a->key, O_WRONLY | O_NOFOLLOW, 0);
  if (fd < 0) return fail_with(r, -fd, "%s", a->key);
  size_t size = strlen(a->value);
  if (write(fd, a->value, size) < 0) return fail_with(r, errno, "\"%s\" to %s", a->value, a->key);
  return 0;
}

int run_oom_score(struct runner *r, const struct op_oom_score *a) {
  char text[16];
  snprintf(text, sizeof text, "%d", a->value);
  int error = write_once("/proc/self/oom_score_adj", text);
  return error == 0 ? 0 : tolerate(r, -error, a->flags);
}
