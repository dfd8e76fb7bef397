/* What taskctl-init prints as a command: msgpack values as JSON. */
#ifndef TASKCTL_INIT_PRINT_H
#define TASKCTL_INIT_PRINT_H

#include "msgpack.h"

void print(const void *data, size_t n);
void print_end(void);
void json_string(Buf *b, const char *s, size_t n);
void json_value(Buf *b, Reader *r, int depth);

#endif
