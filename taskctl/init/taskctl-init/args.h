/* Arguments of a command, checked. What is wrong with them ends the program (usage()). */
#ifndef TASKCTL_INIT_ARGS_H
#define TASKCTL_INIT_ARGS_H

#include "msgpack.h"

__attribute__((format(printf, 1, 2), noreturn)) void usage(const char *format, ...);
const char *checked_text(const char *text, const char *what);

typedef struct {
    char **at; /* the next argument; the list ends with NULL */
} Args;

/* Whether the next argument is this option; takes its value: `--opt VALUE` or `--opt=VALUE`. */
bool take_option(Args *a, const char *name, const char **value);
bool take_flag(Args *a, const char *name);

/* `--name K=V K=V ...`, up to the next argument that begins with a dash. */
bool take_pairs(Args *a, const char *name, bool as_entries, Buf *pairs, uint32_t *count);
int64_t parse_count(const char *text, const char *what, int64_t low);
char *read_stdin(void);

#endif
