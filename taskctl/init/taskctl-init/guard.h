/* Keeps the supervisor out of the reach of the command it runs, which is of the same user.
 *
 * As PID 1 of its namespace no signal from inside kills or stops it. Its memory, environment and
 * descriptors hold the token by which runs are reported: no other process may trace or read it. */
#ifndef TASKCTL_INIT_GUARD_H
#define TASKCTL_INIT_GUARD_H

#include <stdbool.h>
#include <sys/signalfd.h>

/* Not dumpable: no ptrace, no process_vm_readv, no /proc/<pid>/{mem,environ,fd} without
 * CAP_SYS_PTRACE, whatever Yama says, and no core with the token in it (man 2 prctl). */
void process_protect(void);
int proc_self(void);

/* The file of spawn keys is for the task's processes, which open it as /proc/<pid>/fd/<n>: of us
 * they may open nothing. So a process without secrets holds it. It is forked before there are
 * any, except for the nonce (`secret`), and stays readable. It only ever sleeps. */
void keeper_start(char *secret);

/* Whether a signal came from the command or its like rather than from whoever runs the container,
 * who is in another PID namespace (shown as 0), or our parent. */
bool is_from_inside(const struct signalfd_siginfo *info);

#endif
