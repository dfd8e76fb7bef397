/* The container's first process, from clone() to exec. */
#ifndef SHIM_START_H
#define SHIM_START_H

#include "files.h"

/* In the container's process: where to say why it cannot start. */
extern int report_fd;

void give_up(int code, const char *what, const char *object);
void execute(const struct spec *spec);

/* Give up all powers and descriptors that the container is not to have; exec follows. */
void surrender(const struct spec *spec);
void become(struct spec *spec, int go_fd, int out_fd, int err_fd);

#endif
