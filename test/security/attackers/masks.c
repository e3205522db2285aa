/* masks PATH…: whether anything of the kernel can be seen behind masked paths, or written where it must not be. */
#include <dirent.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "attacker.h"

static int entries(const char *path) {
  DIR *directory = opendir(path);
  if (directory == NULL) return 0;
  int count = -2;
  while (readdir(directory) != NULL) count++;
  closedir(directory);
  return count;
}

static int masked(const char *path) {
  struct stat st;
  char byte;
  if (lstat(path, &st) < 0) return 0;
  if (S_ISDIR(st.st_mode)) {
    if (entries(path) <= 0) return 0;
    printf("%s has entries\n", path);
    return ESCAPED;
  }
  int fd = open(path, O_RDONLY | O_NONBLOCK);
  if (fd < 0) return 0;
  bool null = S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3);
  bool empty = read(fd, &byte, 1) <= 0;
  close(fd);
  if (null && empty) return 0;
  printf("%s can be read\n", path);
  return ESCAPED;
}

static int sealed(const char *path) {
  int fd = open(path, O_WRONLY | O_NONBLOCK);
  if (fd < 0) return 0;
  close(fd);
  printf("%s can be written\n", path);
  return ESCAPED;
}

/* Writable ones are only opened: what is written there would be the host's. */
int masks_main(int argc, char **argv) {
  static const char *const closed[] = {"/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches",
                                       "/proc/irq/default_smp_affinity"};
  struct stat st;
  for (int i = 1; i < argc; i++) {
    int result = masked(argv[i]);
    if (result != 0) return result;
  }
  for (size_t i = 0; i < sizeof closed / sizeof closed[0]; i++) {
    int result = sealed(closed[i]);
    if (result != 0) return result;
  }
  /* Nor may anything else have come to lie over a file of the kernel's. */
  if (stat("/proc/version", &st) < 0 || !S_ISREG(st.st_mode)) {
    puts("/proc/version is another file");
    return ESCAPED;
  }
  return 0;
}
