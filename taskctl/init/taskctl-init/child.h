/* The command as a process: start, stop, reap. */
#ifndef TASKCTL_INIT_CHILD_H
#define TASKCTL_INIT_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Becomes the command. `keep` stays open in it; -1: nothing does. */
__attribute__((noreturn)) void child_main(int out, int err, int error_fd, int keep);
void kill_group(int signal);

/* Ends the run's processes that moved to sessions of their own. They are our children: as
 * PID 1 or subreaper we inherit them. Those below them come to us as they die, with a SIGCHLD
 * each, after which this is called again. Returns how many there were. What `kubectl exec` started is nobody's child here
 * and is left alone. A kernel without this file leaves strays to the end of the container. */
int kill_strays(void);
void stop_child(const char *reason, int64_t grace_ms);

/* The command, or what it started, told us to end. That is its own doing, so it counts as if the
 * command had been hit: no reason, and whoever runs the container is not blamed. */
void stop_by_itself(int signal);
bool open_pipe(int ends[2]);
void reap(void);

/* Starts the command, or lets go the one that is prepared; whatever goes wrong becomes the end of the run. */
void run_start(bool startable);

#endif
