#include "request.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "args.h"
#include "basics.h"
#include "conn.h"
#include "msgpack.h"

Conn agent = {.fd = -1};
Reader attached;
static Buf attach_frame;
int64_t give_up_at, deadline_ms, next_backoff_ms = BACKOFF_MIN_MS;
static char away_because[MESSAGE_MAX] = "it does not answer";

/* Waits before the next try, or ends with the reason of the last failure. */
static void try_again(const char *because) {
    if (because) snprintf(away_because, sizeof away_because, "%s", because);
    conn_close(&agent);
    int64_t wait = jittered(next_backoff_ms);
    next_backoff_ms = earlier(2 * next_backoff_ms, BACKOFF_MAX_MS);
    if (now_ms() + wait >= give_up_at)
        fail(EXIT_AWAY, "the agent is away: %s; run the command again later (TASKCTL_DEADLINE_S waits longer)", away_because);
    poll(NULL, 0, (int)wait);
}

/* Sends what is in agent.out and waits for the answer to the last request. False: no luck. */
static bool exchange(Reader *answer) {
    while (true) {
        FrameState state;
        while ((state = conn_frame(&agent, answer)) == FRAME_READY) {
            if (map_int(*answer, "id", 0) == (int64_t)agent.last_id) return true;
            conn_next(&agent, *answer); /* a push */
        }
        if (state == FRAME_BAD) return try_again("it sent a malformed frame"), false;
        struct pollfd p = {.fd = agent.fd, .events = POLLIN | (agent.out.len ? POLLOUT : 0)};
        int64_t wait = give_up_at - now_ms();
        if (wait <= 0 || poll(&p, 1, wait > INT_MAX ? INT_MAX : (int)wait) == 0) return try_again(NULL), false;
        if (!conn_flush(&agent) || (p.revents & ~POLLOUT && !conn_fill(&agent)))
            return try_again("the connection broke"), false;
    }
}

/* Sends a request until it is answered. A refusal that lasts ends the program. */
static bool ask_once(const char *op, const Buf *fields, uint32_t n, Reader *answer) {
    char code[32], text[MESSAGE_MAX];
    size_t start = request_begin(&agent, n, op);
    buf_add(&agent.out, fields->data, fields->len);
    if (agent.out.len - start - 4 > MAX_FRAME)
        fail(EXIT_REFUSED, "%s: over 16 MiB; write it to a file in the workspace and pass the path", op);
    request_end(&agent, start);
    if (!exchange(answer)) return false;
    if (map_true(*answer, "ok")) return true;
    map_text(*answer, "error", code, sizeof code);
    map_text(*answer, "message", text, sizeof text);
    if (strcmp(code, "unavailable") == 0) return try_again(text), false;
    fail(EXIT_REFUSED, "%s refused (%s): %s", op, code, text);
}

static bool attach(void) {
    const char *socket = getenv("TASKCTL_SOCKET"), *token = getenv("TASKCTL_TOKEN");
    if (socket == NULL || token == NULL || *socket == 0 || *token == 0)
        fail(EXIT_REFUSED, "this is not inside a task (TASKCTL_SOCKET and TASKCTL_TOKEN are not set); "
                           "use it in a command that a Task runs");
    agent.fd = connect_unix(socket);
    if (agent.fd < 0) {
        char why[256];
        snprintf(why, sizeof why, "%s: %s", socket, error_text(errno));
        return try_again(why), false;
    }
    Buf fields = {0};
    Reader answer;
    pack_number(&fields, "v", PROTOCOL);
    pack_pair(&fields, "token", checked_text(token, "TASKCTL_TOKEN"));
    bool good = ask_once("attach", &fields, 2, &answer);
    buf_free(&fields);
    if (!good) return false;
    attach_frame.len = 0;
    buf_add(&attach_frame, answer.p, (size_t)(answer.end - answer.p));
    attached = (Reader){attach_frame.data, attach_frame.data + attach_frame.len};
    conn_next(&agent, answer);
    return true;
}

Reader ask(const char *op, const Buf *fields, uint32_t n) {
    Reader answer;
    while ((agent.fd < 0 && !attach()) || !ask_once(op, fields, n, &answer)) continue;
    return answer;
}
