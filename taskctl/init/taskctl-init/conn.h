/* The framed connection to the agent (docs/protocol.md). Nothing here waits. */
#ifndef TASKCTL_INIT_CONN_H
#define TASKCTL_INIT_CONN_H

#include "msgpack.h"

typedef struct {
    int fd; /* -1: closed */
    Buf in, out;
    uint64_t last_id;
} Conn;

/* Connects without waiting; -1 and errno if nobody listens, or the queue is full. */
int connect_unix(const char *path);
void conn_close(Conn *c);

/* Sends what the socket takes. False: the connection is gone. */
bool conn_flush(Conn *c);

/* Begins a request with `fields` fields behind id and op; returns where it starts in c->out. */
size_t request_begin(Conn *c, uint32_t fields, const char *op);
void request_end(Conn *c, size_t start);

/* Reads once. False: end of stream, or an error. */
bool conn_fill(Conn *c);

typedef enum { FRAME_NONE, FRAME_READY, FRAME_BAD } FrameState;

/* Looks at the first frame received; `message` points into c->in until conn_next(). */
FrameState conn_frame(Conn *c, Reader *message);
void conn_next(Conn *c, Reader message);

#endif
