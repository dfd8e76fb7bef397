/* Takes a run out of the agent's answer: arguments, environment, limits. */
#ifndef TASKCTL_INIT_LOAD_H
#define TASKCTL_INIT_LOAD_H

#include "msgpack.h"

void free_list(char **list);
void run_free(void);
void env_set(char ***env, size_t *count, char *entry);

/* A text of the run as a C string. False, and S.message says why, if it holds a NUL. */
bool run_string(const Value *v, const char *what, char **to);

/* The command's environment: ours, the run's, and the way to our own programs. */
bool run_env(Reader map, size_t pairs);
bool run_argv(Reader array, size_t n);
bool all_text(Reader items, uint64_t n);

/* Takes a run out of an answer. False: the answer is malformed. *startable: it can be tried. */
bool run_load(Reader m, bool *startable);

#endif
