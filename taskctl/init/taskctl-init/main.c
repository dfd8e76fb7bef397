/* taskctl-init: the first process of every task container.
 *
 * Without arguments it supervises: it says hello to the agent over a unix socket, is told what
 * to run, runs it as a child, reports the end, and does what it is told next. With arguments
 * it is a command for use inside a task (`taskctl-init --help`). docs/protocol.md is binding.
 *
 * Rules that the code keeps:
 *   - One poll() loop, nothing else waits. A stalled reader of our stdout, a dead agent or a
 *     child that ignores SIGTERM must not hold up timers, signals or the reaping of orphans.
 *   - Memory is bounded: frames by MAX_FRAME, output by one CHUNK per stream.
 *   - Static, no file of the image is needed: it runs in an empty image, too.
 *
 * Both: basics.c, msgpack.c, conn.c (frames). The supervisor, in the order of its parts: state.c,
 * files.c (the workspace), guard.c (what a task may not do to us), output.c, load.c (what to run),
 * child.c with memory.c (its limits) and prepare.c (a command that starts ahead), report.c and link.c
 * (the agent); its loop is here. The commands: commands.c, args.c, request.c, print.c, spawn.c and
 * results.c. debug.c is apart from all that: the containers of `taskctl debug`.
 */

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "args.h"
#include "basics.h"
#include "child.h"
#include "commands.h"
#include "debug.h"
#include "guard.h"
#include "link.h"
#include "memory.h"
#include "output.h"
#include "prepare.h"
#include "print.h"
#include "report.h"
#include "state.h"

#ifndef TASKCTL_VERSION
#define TASKCTL_VERSION "unknown"
#endif

/* ------------------------------------------------------------------ the loop */

static void on_signal(const struct signalfd_siginfo *info) {
    int signal = (int)info->ssi_signo;
    switch (signal) {
    case SIGCHLD:
        reap();
        break;
    case SIGTERM:
    case SIGINT:
        if (S.phase == ASKING) S.exit_code = 128 + signal, S.done = true;
        else if (is_from_inside(info)) stop_by_itself(signal);
        else stop_child("Signalled", S.grace_ms); /* later on: the report is more important */
        break;
    default:
        if (S.phase == RUNNING) kill_group(signal);
    }
}

static int open_signals(void) {
    static const int wanted[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) sigaddset(&set, wanted[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0) fail(EXIT_REFUSED, "signalfd: %s", error_text(errno));
    return fd;
}

static void run_timers(void) {
    int64_t now = now_ms();
    if (S.connect_at <= now) link_connect();
    if (S.repeat_at <= now) link_send_work();
    if (S.timeout_at <= now) S.timeout_at = NEVER, stop_child("Timeout", S.grace_ms);
    if (S.memory_at <= now) memory_look();
    if (S.kill_at <= now) S.kill_at = NEVER, kill_group(SIGKILL);
    if (S.phase == DRAINING && streams_ended()) run_finish();
    if (S.drain_at <= now) drain_timed_out();
    if (S.prepared.limit_at <= now) prepared_timed_out();
}

static int poll_timeout(void) {
    int64_t next = earlier(earlier(S.connect_at, S.repeat_at), earlier(S.timeout_at, earlier(S.kill_at, earlier(S.drain_at, earlier(S.prepared.limit_at, S.memory_at)))));
    if (next == NEVER) return -1;
    int64_t wait = next - now_ms();
    return wait < 0 ? 0 : wait > INT_MAX ? INT_MAX : (int)wait;
}

static void wait_and_handle(int signals) {
    enum { SIGNALS, AGENT, OUTPUT, SINK = OUTPUT + 2, FDS = SINK + 2 };
    struct pollfd p[FDS] = {[SIGNALS] = {.fd = signals, .events = POLLIN}};
    p[AGENT] = (struct pollfd){.fd = S.conn.fd, .events = POLLIN | (S.conn.out.len ? POLLOUT : 0)};
    for (int i = 0; i < 2; i++) { /* read only what can be passed on: the command waits, not we */
        const Stream *s = &S.streams[i];
        p[OUTPUT + i] = (struct pollfd){.fd = s->len == 0 ? s->from : -1, .events = POLLIN};
        p[SINK + i] = (struct pollfd){.fd = s->len > 0 ? s->to : -1, .events = POLLOUT};
    }
    int ready = poll(p, FDS, poll_timeout());
    if (ready < 0 && errno == EINVAL) { /* our RLIMIT_NOFILE was lowered by another process */
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
        for (int i = 0; i < FDS; i++) p[i].revents = p[i].fd >= 0 ? p[i].events : 0;
    } else if (ready <= 0) {
        return;
    }
    for (int i = 0; i < 2; i++) {
        if (p[OUTPUT + i].revents) stream_read(&S.streams[i]);
        if (p[OUTPUT + i].revents || p[SINK + i].revents) stream_write(&S.streams[i]);
    }
    struct signalfd_siginfo info;
    if (p[SIGNALS].revents)
        while (read(signals, &info, sizeof info) == sizeof info) on_signal(&info);
    if (p[AGENT].revents) link_event(p[AGENT].revents);
}

static const char *need_env(const char *name) {
    const char *value = getenv(name);
    if (value == NULL || *value == 0)
        fail(EXIT_USAGE, "%s is not set; taskctl sets it where it starts taskctl-init (for commands see --help)", name);
    return value;
}

static void find_self(const char *argv0) {
    ssize_t n = readlink("/proc/self/exe", S.self_dir, sizeof S.self_dir - 1);
    if (n <= 0 && realpath(argv0, S.self_dir)) n = (ssize_t)strlen(S.self_dir);
    S.self_dir[n > 0 ? n : 0] = 0;
    S.proc_pid = proc_self();
    char *slash = strrchr(S.self_dir, '/');
    if (slash) *slash = 0;
}

static int supervise(const char *argv0) {
    S.socket = need_env("TASKCTL_SOCKET");
    S.container = need_env("TASKCTL_CONTAINER");
    char *nonce = (char *)need_env("TASKCTL_NONCE");
    S.conn.fd = S.log_fd = S.keys_fd = S.exec_error_fd = S.streams[0].from = S.streams[1].from = -1;
    S.prepared = (Prepared){.run = -1, .out = -1, .err = -1, .error = -1, .limit_at = NEVER};
    S.prepared_end = "";
    keeper_start(nonce);
    process_protect();
    S.nonce = checked(strdup(nonce));
    memset(nonce, 'x', strlen(nonce)); /* out of /proc/<pid>/environ, too */
    unsetenv("TASKCTL_NONCE");
    unsetenv("TASKCTL_DEFAULTS"), unsetenv("TASKCTL_REQUESTS"); /* between controller and agent */
    find_self(argv0);
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* not everywhere are we PID 1 */
    S.backoff_ms = BACKOFF_MIN_MS;
    S.grace_ms = DEFAULT_GRACE_MS;
    S.repeat_at = S.timeout_at = S.kill_at = S.drain_at = S.memory_at = NEVER;
    S.connect_at = 0;
    int signals = open_signals();
    while (true) {
        run_timers();
        if (S.done) return prepared_discard(), S.exit_code;
        wait_and_handle(signals);
    }
}

int main(int argc, char **argv) {
    const char *base = strrchr(argv[0], '/');
    base = base ? base + 1 : argv[0];
    open_null_if_closed();
    if (strncmp(base, "taskctl-", 8) == 0 && run_command(base + 8, argv + 1)) return 0;
    if (argc < 2) return supervise(argv[0]);
    if (run_command(argv[1], argv + 2)) return 0;
    if (strcmp(argv[1], "debug-hold") == 0) return debug_hold(argv + 2);
    if (strcmp(argv[1], "debug-end") == 0) return debug_end(argv + 2);
    if (strcmp(argv[1], "version") == 0 || strcmp(argv[1], "--version") == 0) {
        printf("taskctl-init %s (protocol %d)\n", TASKCTL_VERSION, PROTOCOL);
    } else if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        fputs(HELP, stdout);
    } else {
        usage("there is no command \"%s\"", argv[1]);
    }
    print_end();
    return 0;
}
