#include "report.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "basics.h"
#include "child.h"
#include "files.h"
#include "link.h"
#include "msgpack.h"
#include "output.h"
#include "state.h"

static void report_build(void) {
    Buf *b = &S.report;
    copy_text(S.message, sizeof S.message, S.message, strlen(S.message)); /* may be cut mid-character */
    b->len = 0;
    pack_pair(b, "uid", S.uid);
    pack_number(b, "attempt", S.attempt);
    pack_number(b, "code", S.code);
    pack_number(b, "signal", S.signal);
    pack_pair(b, "reason", S.reason);
    pack_pair(b, "message", S.message);
    pack_number(b, "started_us", S.started_us);
    pack_number(b, "exited_us", S.exited_us);
    pack_number(b, "user_us", S.user_us);
    pack_number(b, "system_us", S.system_us);
    pack_number(b, "max_rss_kb", S.max_rss_kb);
    pack_pair(b, "prepared", S.prepared_end);
    pack_text(b, "tail");
    pack_bin(b, S.tail, S.tail_len);
}

/* Leaves the report where a restarted agent finds it, whatever becomes of us. The key tells the
 * agent that it is from us: nobody else has seen it before. */
static void record_write(void) {
    Buf body = {0};
    bool keyed = S.record_key[0] != 0;
    if (S.record[0] == 0) return;
    pack_map(&body, REPORT_FIELDS + (keyed ? 1 : 0));
    buf_add(&body, S.report.data, S.report.len);
    if (keyed) pack_pair(&body, "key", S.record_key);
    if (!replace_file(S.record, body.data, body.len))
        note("the exit record %s cannot be written: %s", S.record, error_text(errno));
    buf_free(&body);
}

int run_exit_code(void) { return S.signal ? 128 + S.signal : S.code; }

static void leftovers_kill(void) {
    if (S.leftovers_killed) return;
    S.leftovers_killed = true;
    if (S.child > 0) kill(-S.child, SIGKILL); /* too soon for its number to be another group's */
    kill_strays();
}

void run_finish(void) {
    leftovers_kill();
    S.child = 0;
    for (int i = 0; i < 2; i++) close_fd(&S.streams[i].from), S.streams[i].len = 0;
    close_fd(&S.log_fd);
    S.drain_at = NEVER;
    report_build();
    record_write();
    S.phase = REPORTING;
    if (S.abandoned) S.exit_code = run_exit_code(), S.done = true;
    else link_send_work();
}

void drain_timed_out(void) {
    if (S.leftovers_killed) return run_finish(); /* a reader of ours stalls, or a holder won't die */
    leftovers_kill();
    S.drain_at = after(streams_flushed() ? LEFTOVER_MS : FLUSH_MS);
}
