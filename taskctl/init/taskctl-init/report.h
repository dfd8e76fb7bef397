/* The end of a run: the report, and its copy in the workspace (exit record). */
#ifndef TASKCTL_INIT_REPORT_H
#define TASKCTL_INIT_REPORT_H

enum { REPORT_FIELDS = 13 };

int run_exit_code(void);
void run_finish(void);
void drain_timed_out(void);

#endif
