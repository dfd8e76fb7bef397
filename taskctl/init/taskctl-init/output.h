/* The command's output on its way: our own stdout and stderr, the log in the workspace, and the
 * tail for the report. */
#ifndef TASKCTL_INIT_OUTPUT_H
#define TASKCTL_INIT_OUTPUT_H

#include "state.h"

void open_null_if_closed(void);
void log_open(void);
void stream_read(Stream *s);

/* Our stdout may be shared, so it is not made non-blocking: writable is asked for each time. */
void stream_write(Stream *s);
bool streams_flushed(void);
bool streams_ended(void);

#endif
