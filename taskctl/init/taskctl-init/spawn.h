/* `taskctl-init spawn`: creates a child. */
#ifndef TASKCTL_INIT_SPAWN_H
#define TASKCTL_INIT_SPAWN_H

#include "args.h"

void command_spawn(Args a);

#endif
