/* A command that is started before its run is known.
 *
 * It gets the world of a run except for what belongs to one run alone: no token, no Task's name. It
 * does what takes long (an interpreter imports), writes a byte to the socket whose number is in
 * TASKCTL_PREPARED, and waits there for its run: four bytes of length, then the whole environment,
 * entries with a NUL between them. A run of another command, or with another environment, or while
 * it is not ready, has it thrown away and starts its own process: all that it may do is save time. */
#ifndef TASKCTL_INIT_PREPARE_H
#define TASKCTL_INIT_PREPARE_H

#include "msgpack.h"

void prepared_free(void);

/* Ends what was prepared, with all that it has started. Nothing of it may see the next run. */
void prepared_discard(void);

/* Makes the prepared command the run, if it is the one. */
bool prepared_release(void);

/* What a report says of a prepared command that did not become the run. */
const char *prepared_end(void);

/* It has had its time: a module that hangs while it is imported must not burn the processor until a
 * task comes. */
void prepared_timed_out(void);

/* Starts a command ahead, in place of one that waits. Only in a container that has run nothing:
 * what is left of a run must not get into the next one. Without `argv` nothing is prepared. */
void prepare(Reader m);

#endif
