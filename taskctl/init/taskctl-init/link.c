#include "link.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "basics.h"
#include "child.h"
#include "conn.h"
#include "load.h"
#include "msgpack.h"
#include "prepare.h"
#include "report.h"
#include "state.h"

static void link_retry(const char *why) {
    if (why && !S.complained) note("%s; trying again", why), S.complained = true;
    bool lasted = S.conn.fd >= 0 && S.greeted && now_ms() - S.connected_at >= BACKOFF_MAX_MS;
    conn_close(&S.conn);
    S.greeted = false;
    S.hello_id = S.work_id = 0;
    S.repeat_at = NEVER;
    if (lasted) S.backoff_ms = BACKOFF_MIN_MS;
    S.connect_at = S.abandoned ? NEVER : after(jittered(S.backoff_ms));
    S.backoff_ms = earlier(2 * S.backoff_ms, BACKOFF_MAX_MS);
}

static void link_send(size_t start) {
    request_end(&S.conn, start);
    if (!conn_flush(&S.conn)) link_retry(NULL);
}

void link_connect(void) {
    S.connect_at = NEVER;
    S.conn.fd = connect_unix(S.socket);
    if (S.conn.fd < 0) return link_retry(NULL);
    S.connected_at = now_ms();
    bool running = S.phase == RUNNING || S.phase == DRAINING;
    Buf *b = &S.conn.out;
    size_t start = request_begin(&S.conn, running ? 4 : 3, "hello");
    S.hello_id = S.conn.last_id;
    pack_number(b, "v", PROTOCOL);
    pack_pair(b, "container", S.container);
    if (S.token.len > 0) pack_text(b, "token"), pack_bytes(b, (char *)S.token.data, S.token.len);
    else pack_pair(b, "nonce", S.nonce);
    if (running) {
        pack_text(b, "running");
        pack_map(b, 3);
        pack_pair(b, "uid", S.uid);
        pack_number(b, "attempt", S.attempt);
        pack_number(b, "started_us", S.started_us);
    }
    link_send(start);
}

void link_send_work(void) {
    if (!S.greeted || S.work_id != 0 || (S.phase != ASKING && S.phase != REPORTING)) return;
    bool report = S.phase == REPORTING;
    size_t start = request_begin(&S.conn, report ? REPORT_FIELDS : 0, report ? "exited" : "next");
    S.work_id = S.conn.last_id;
    S.repeat_at = NEVER;
    if (report) buf_add(&S.conn.out, S.report.data, S.report.len);
    link_send(start);
}

/* Leaves the reason where the kubelet reads it: whoever looks at the pod or the Task sees it. */
static void leave_message(const char *op, const char *code, const char *text) {
    int fd = open("/dev/termination-log", O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat file;
    if (fd < 0) return;
    if (fstat(fd, &file) == 0 && S_ISREG(file.st_mode))
        dprintf(fd, "the agent refused %s (%s): %s", op, code, text);
    close(fd);
}

/* The agent said no for good. */
static void link_refused(const char *op, const char *code, const char *text) {
    note("the agent refused %s (%s): %s", op, code, text);
    if (S.phase == ASKING) leave_message(op, code, text);
    if (S.phase == ASKING || S.phase == REPORTING) {
        S.exit_code = S.phase == ASKING ? 0 : run_exit_code();
        S.done = true;
        return;
    }
    S.abandoned = true; /* nobody will record this run, so it must not go on */
    stop_child("Signalled", S.grace_ms);
    link_retry(NULL);
}

static void on_error(Reader m, uint64_t id) {
    char code[32], text[MESSAGE_MAX];
    const char *op = id == S.hello_id ? "hello" : S.phase == REPORTING ? "exited" : "next";
    map_text(m, "error", code, sizeof code);
    map_text(m, "message", text, sizeof text);
    if (strcmp(code, "unavailable") != 0) return link_refused(op, code, text);
    if (id == S.hello_id) return link_retry(NULL);
    S.work_id = 0;
    S.repeat_at = after(jittered(S.backoff_ms));
    S.backoff_ms = earlier(2 * S.backoff_ms, BACKOFF_MAX_MS);
}

static void on_hello(Reader m) {
    Value token;
    if (map_get(m, "token", MP_STR, &token) && token.n > 0) {
        S.token.len = 0;
        buf_add(&S.token, token.s, token.n);
    } else if (S.token.len == 0) {
        return link_retry("the agent's answer to hello has no token");
    }
    S.hello_id = 0;
    S.greeted = true;
    link_send_work();
}

/* The answer to next or exited: what to do. */
static void on_work(Reader m) {
    char action[16];
    bool startable;
    map_text(m, "action", action, sizeof action);
    S.work_id = 0;
    if (strcmp(action, "exit") == 0) {
        int64_t code = map_int(m, "code", 0);
        S.exit_code = code >= 0 && code <= 255 ? (int)code : 255;
        S.done = true;
    } else if (strcmp(action, "run") == 0 && run_load(m, &startable)) {
        S.backoff_ms = BACKOFF_MIN_MS;
        S.complained = false;
        run_start(startable);
    } else {
        link_retry("the agent's answer does not say what to do");
    }
}

static void on_push(Reader m) {
    char op[16], reason[sizeof S.reason], uid[128];
    char error[256];
    map_text(m, "op", op, sizeof op);
    map_text(m, "uid", uid, sizeof uid);
    map_text(m, "reason", reason, sizeof reason);
    map_text(m, "message", error, sizeof error);
    if (op[0] == 0) return link_retry(error[0] ? error : "the agent closes the connection");
    if (strcmp(op, "prepare") == 0) return prepare(m);
    if (strcmp(op, "signal") != 0 || S.phase != RUNNING) return;
    if (uid[0] && (strcmp(uid, S.uid) != 0 || map_int(m, "attempt", S.attempt) != S.attempt)) return;
    int64_t grace_ms = map_int(m, "grace_ms", -1);
    stop_child(reason, grace_ms >= 0 ? grace_ms : S.grace_ms);
}

static void on_message(Reader m) {
    int64_t id = map_int(m, "id", -1);
    Value ok;
    if (id == 0) return on_push(m);
    if (id < 0 || !((uint64_t)id == S.hello_id || (uint64_t)id == S.work_id)) return; /* an answer to nothing */
    if (!map_get(m, "ok", MP_BOOL, &ok)) return link_retry("the agent's answer has no \"ok\"");
    if (!ok.i) return on_error(m, (uint64_t)id);
    if ((uint64_t)id == S.hello_id) return on_hello(m);
    on_work(m);
}

void link_event(short events) {
    if ((events & POLLOUT) && !conn_flush(&S.conn)) return link_retry(NULL);
    if (!(events & (POLLIN | POLLHUP | POLLERR))) return;
    bool open = conn_fill(&S.conn);
    Reader message;
    FrameState state;
    while (S.conn.fd >= 0 && !S.done && (state = conn_frame(&S.conn, &message)) != FRAME_NONE) {
        if (state == FRAME_BAD) return link_retry("the agent sent a malformed frame");
        on_message(message);
        if (S.conn.fd >= 0) conn_next(&S.conn, message);
    }
    if (!open && S.conn.fd >= 0 && !S.done) link_retry(NULL);
}
