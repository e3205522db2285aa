// Installs a seccomp filter and tries system calls under it.
//   seccomp-probe FILTER FLAGS CALL...     CALL = [i386:]NUMBER[,ARG...]
// Prints one line a call: "ok", the errno, or "signal N" where the filter killed the process.
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sock_filter code[4096];

static long int80(long nr, const uint64_t *a) {
#ifdef __x86_64__
  long result;
  __asm__ volatile("int $0x80"
                   : "=a"(result)
                   : "a"(nr), "b"(a[0]), "c"(a[1]), "d"(a[2]), "S"(a[3]), "D"(a[4])
                   : "memory", "r8", "r9", "r10", "r11");
  return (int)result;
#else
  return -ENOSYS;
#endif
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  FILE *file = fopen(argv[1], "rb");
  if (file == NULL) return 2;
  size_t count = fread(code, sizeof code[0], 4096, file);
  fclose(file);
  struct sock_fprog program = {(unsigned short)count, code};
  unsigned flags = (unsigned)strtoul(argv[2], NULL, 0);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return 3;
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) != 0) {
    printf("refused %d\n", errno);
    return 3;
  }
  for (int i = 3; i < argc; i++) {
    char *text = argv[i];
    int compat = strncmp(text, "i386:", 5) == 0;
    if (compat) text += 5;
    uint64_t a[6] = {0};
    long nr = (long)strtoull(text, &text, 0);
    for (int n = 0; n < 6 && *text == ','; n++) a[n] = strtoull(text + 1, &text, 0);
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) return 4;
    if (pid == 0) {
      long result;
      if (compat) {
        result = int80(nr, a);
        if (result < 0) errno = (int)-result;
      } else {
        result = syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
      }
      if (result < 0) printf("%d\n", errno);
      else printf("ok\n");
      fflush(stdout);
      _exit(0);
    }
    int status;
    if (waitpid(pid, &status, 0) < 0) return 4;
    if (WIFSIGNALED(status)) printf("signal %d\n", WTERMSIG(status));
  }
  return 0;
}
