/* Keeps a run within its memory and gives it its share of CPU.
 *
 * An ephemeral container has no limits in Kubernetes, so no cgroup stops a task that grows. We add
 * up the resident memory of the run's processes instead, as /proc shows it: more often the less is
 * left, and the proportional share (pages that several processes share count once) only where the
 * plain sum is too much, as that costs milliseconds. No look may cost more than 2 % of a CPU. */
#ifndef TASKCTL_INIT_MEMORY_H
#define TASKCTL_INIT_MEMORY_H

#include <stdint.h>
#include <sys/types.h>

void memory_look(void);
void memory_watch(void);

/* The nice value for a request of CPU: one step is a fifth less (sched(7)), a whole CPU has that of taskctl-init. */
int nice_for(int64_t cpu_milli);

#endif
