/* What the supervisor knows: one struct, in memory that no other process can read (see
 * process_protect() in guard.c). */
#ifndef TASKCTL_INIT_STATE_H
#define TASKCTL_INIT_STATE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "basics.h"
#include "conn.h"
#include "msgpack.h"

typedef enum {
    ASKING,    /* nothing runs; `next` is to be answered */
    RUNNING,   /* the command runs */
    DRAINING,  /* it has ended; its last output is on the way */
    REPORTING, /* `exited` is to be answered */
} Phase;

typedef struct {      /* one output of the command on its way to ours */
    int from, to;     /* from: -1 at its end; to: -1 when nobody reads ours any more */
    size_t off, len;  /* what waits in chunk */
    uint8_t chunk[CHUNK];
} Stream;

typedef struct {      /* a command that was started ahead; see prepare.c */
    pid_t pid;        /* 0: there is none */
    int run;          /* our end of the socket on which it waits for its run */
    int out, err, error;
    int64_t limit_at; /* timer: by then it is ready, or it has failed */
    bool failed;      /* it ended, or took too long; stays when it is gone */
    char **argv, **env, *cwd;
} Prepared;

struct state {
    const char *socket, *container;
    char *nonce;
    Buf token; /* empty until the nonce has bought one */
    char self_dir[PATH_MAX];
    int proc_pid;       /* our PID in /proc, which may be that of another PID namespace; or 0 */
    pid_t keeper;       /* holds the file of spawn keys; 0 or -1: there is none */
    int keeper_in_proc; /* its PID in /proc, or 0 */

    Conn conn;
    bool greeted;           /* hello was answered */
    bool abandoned;         /* the agent wants no report of this run */
    bool complained;        /* about the connection, since the last good answer */
    uint64_t hello_id, work_id; /* of the requests that wait for an answer, or 0 */
    int64_t backoff_ms, connected_at;
    int64_t connect_at, repeat_at; /* timers: next try to connect, to repeat the request */

    Phase phase;
    bool done;
    int exit_code;

    /* the run */
    char *uid, *log, *record, *cwd, *workspace, *record_key;
    int64_t attempt, grace_ms, timeout_ms, memory_bytes, cpu_milli;
    char **argv, **env;
    pid_t child;
    int exec_error_fd, log_fd, keys_fd;
    int64_t log_limit, log_at, log_room, log_segments[2]; /* bytes; where the last two segments begin, or -1 */
    int64_t timeout_at, kill_at, drain_at, memory_at; /* timers */
    bool stopping, leftovers_killed;
    Stream streams[2];
    uint8_t tail[TAIL_MAX];
    size_t tail_len;

    /* its end */
    int code, signal;
    char reason[64], message[MESSAGE_MAX];
    int64_t started_us, exited_us, user_us, system_us, max_rss_kb;
    const char *prepared_end; /* what became of a command that was prepared; empty: there was none */
    Buf report; /* the fields of `exited` */

    Prepared prepared;
    bool ran; /* something was run in this container: nothing is prepared any more */
};
extern struct state S;

#endif
