// Prints who it is: installed setuid root, that is 0, unless no_new_privs forbids it.
#include <stdio.h>
#include <unistd.h>

int main(void) {
  printf("Effective uid: %d\n", (int)geteuid());
  return 0;
}
