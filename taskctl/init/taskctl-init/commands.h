/* taskctl-init as a command inside a task: which commands there are, and the short ones. JSON is
 * passed through as text: the agent reads it. */
#ifndef TASKCTL_INIT_COMMANDS_H
#define TASKCTL_INIT_COMMANDS_H

#include <stdbool.h>

extern const char HELP[];

/* Runs a command by name. False: there is none of that name. */
bool run_command(const char *name, char **arguments);

#endif
