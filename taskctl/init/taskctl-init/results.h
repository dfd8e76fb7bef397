/* `taskctl-init results`: waits for children and prints what they returned. */
#ifndef TASKCTL_INIT_RESULTS_H
#define TASKCTL_INIT_RESULTS_H

#include "args.h"

void command_results(Args a);

#endif
