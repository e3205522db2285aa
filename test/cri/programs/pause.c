// PID 1 of a sandbox for runtimes that need one: sleeps, reaps, ends when told to.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void reap(int signal) {
  (void)signal;
  while (waitpid(-1, NULL, WNOHANG) > 0) {
  }
}

int main(void) {
  signal(SIGINT, _exit);
  signal(SIGTERM, _exit);
  signal(SIGCHLD, reap);
  for (;;) pause();
}
