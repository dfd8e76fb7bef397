/* A command's talk with the agent: one connection, one request, one answer, tried again until the
 * command's deadline. */
#ifndef TASKCTL_INIT_REQUEST_H
#define TASKCTL_INIT_REQUEST_H

#include "conn.h"
#include "msgpack.h"

extern Conn agent;

extern Reader attached; /* the answer to attach; its frame is kept in attach_frame */

extern int64_t give_up_at, deadline_ms, next_backoff_ms;

Reader ask(const char *op, const Buf *fields, uint32_t n);

#endif
