#include "attacker.h"

static const struct {
  const char *word;
  int (*run)(int, char **);
} programs[] = {
    {"swap", swap_main}, {"look", look_main},         {"masks", masks_main},     {"watch", watch_main},
    {"pipe", pipe_main}, {"terminal", terminal_main}, {"sockets", sockets_main}, {"image", image_main},
    {"read", read_main},
};

int main(int argc, char **argv) {
  for (size_t i = 0; argc > 1 && i < sizeof programs / sizeof programs[0]; i++) {
    if (strcmp(programs[i].word, argv[1]) == 0) return programs[i].run(argc - 1, argv + 1);
  }
  fputs("usage: attacker WORD …\n", stderr);
  return 2;
}
