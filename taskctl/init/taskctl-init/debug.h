/* What `taskctl debug` runs in a container of its own: a first process that any image can have, and
 * what ends it. The user's shell is a further process of that container.
 *
 *   taskctl-init debug-hold NAME SECONDS    waits that long at most, and reaps orphans
 *   taskctl-init debug-end NAME             ends it */
#ifndef TASKCTL_INIT_DEBUG_H
#define TASKCTL_INIT_DEBUG_H

int debug_hold(char **argv);
int debug_end(char **argv);

#endif
