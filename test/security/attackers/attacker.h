/* What the programs of the attackers share. Each is a word of one static program, so that one file goes into an image. */
#ifndef ATTACKER_H
#define ATTACKER_H
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The exit code of an attack that has got through. */
#define ESCAPED 42

int swap_main(int argc, char **argv);
int look_main(int argc, char **argv);
int masks_main(int argc, char **argv);
int watch_main(int argc, char **argv);
int pipe_main(int argc, char **argv);
int read_main(int argc, char **argv);
int terminal_main(int argc, char **argv);
int sockets_main(int argc, char **argv);
int image_main(int argc, char **argv);

#endif
