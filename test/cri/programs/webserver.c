// A web server for the suites, installed as nginx and as httpd: answers every request with one page. PORT is its argument.
// It looks like nginx where they look: the pid in /var/run/NAME.pid, "master process" in the command line.
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static const char page[] = "<html><body><h1>It works!</h1></body></html>\n";

static void fail(const char *what) {
  perror(what);
  exit(1);
}

/** Reads up to the end of the request's head. */
static int read_head(int client) {
  char buffer[8192];
  size_t length = 0;
  while (length < sizeof(buffer) - 1) {
    ssize_t got = read(client, buffer + length, sizeof(buffer) - 1 - length);
    if (got <= 0) return -1;
    length += (size_t)got;
    buffer[length] = '\0';
    if (strstr(buffer, "\r\n\r\n") != NULL) return 0;
  }
  return -1;
}

static void serve(int client) {
  if (read_head(client) == 0)
    dprintf(client, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
            sizeof(page) - 1, page);
  shutdown(client, SHUT_WR);
  char rest[512];
  while (read(client, rest, sizeof(rest)) > 0) {
  }
  close(client);
}

/** Starts itself again under the title that nginx shows. */
static void take_title(const char *path, const char *port) {
  char title[256];
  snprintf(title, sizeof(title), "nginx: master process %s", path);
  execl("/proc/self/exe", title, port, (char *)NULL);
  fail("exec");
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: %s PORT\n", argv[0]);
    return 2;
  }
  if (strstr(argv[0], "master process") == NULL) take_title(argv[0], argv[1]);
  const char *slash = strrchr(argv[0], '/');
  const char *name = slash == NULL ? "nginx" : slash + 1;
  prctl(PR_SET_NAME, name);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGCHLD, SIG_IGN);
  // A process that is PID 1 of its namespace has no default action for them.
  signal(SIGTERM, _exit);
  signal(SIGQUIT, _exit);
  int server = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (server < 0) fail("socket");
  int on = 1, off = 0;
  setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  setsockopt(server, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
  struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)atoi(argv[1]))};
  if (bind(server, (struct sockaddr *)&address, sizeof(address)) != 0) fail("bind");
  if (listen(server, 128) != 0) fail("listen");
  char path[64];
  snprintf(path, sizeof(path), "/var/run/%s.pid", name);
  FILE *pid = fopen(path, "w");
  if (pid == NULL || fprintf(pid, "%d\n", getpid()) < 0 || fclose(pid) != 0) fail(path);
  printf("%s: port %s\n", name, argv[1]);
  fflush(stdout);
  for (;;) {
    int client = accept(server, NULL, NULL);
    if (client < 0) continue;
    if (fork() == 0) {
      close(server);
      serve(client);
      _exit(0);
    }
    close(client);
  }
}
