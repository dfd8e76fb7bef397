#define _GNU_SOURCE
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "basics.h"
#include "memory.h"
#include "output.h"
#include "prepare.h"
#include "state.h"

enum { AT_CHDIR, AT_EXEC };

typedef struct {
    int stage, error;
} ExecError;

/* execvp, but the same with every libc: no shell for a file without #!. Returns the error. */
static int exec_search(const char *program) {
    char path[PATH_MAX];
    int error = ENOENT;
    if (strchr(program, '/')) return execve(program, S.argv, S.env), errno;
    const char *part = DEFAULT_PATH;
    for (char **item = S.env; *item; item++)
        if (strncmp(*item, "PATH=", 5) == 0) part = *item + 5;
    for (; *program && *part; part += strcspn(part, ":"), part += *part == ':') {
        int n = (int)strcspn(part, ":");
        if (snprintf(path, sizeof path, "%.*s%s%s", n, part, n ? "/" : "", program) >= (int)sizeof path) continue;
        execve(path, S.argv, S.env);
        if (errno == EACCES) error = EACCES; /* unless it is found further on */
        else if (errno != ENOENT && errno != ENOTDIR) return errno;
    }
    return error;
}

void child_main(int out, int err, int error_fd, int keep) {
    ExecError report = {.stage = AT_CHDIR};
    sigset_t none;
    int null = open("/dev/null", O_RDONLY);
    setsid();
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    /* SIGPIPE is ignored by us; others may have been by whoever started us (nohup). */
    for (int sig = 1; sig < NSIG; sig++) signal(sig, SIG_DFL);
    if (null >= 0) dup2(null, 0);
    else close(0);
    if (null > 2) close(null);
    dup2(out, 1); /* both are above 2, since 0 to 2 are open, and close on exec */
    dup2(err, 2);
    if (keep >= 0) fcntl(keep, F_SETFD, 0);
    if (S.cwd[0] && chdir(S.cwd) != 0) report.error = errno;
    else report.stage = AT_EXEC, report.error = exec_search(S.argv[0]);
    if (write(error_fd, &report, sizeof report) < 0) _exit(CODE_NOT_FOUND);
    _exit(CODE_NOT_FOUND);
}

static void set_start_error(ExecError e) {
    char message[MESSAGE_MAX];
    const char *program = S.argv[0];
    bool missing = e.stage == AT_EXEC && e.error == ENOENT;
    S.code = CODE_NOT_EXECUTABLE;
    S.signal = 0;
    snprintf(S.reason, sizeof S.reason, "StartError");
    if (e.stage == AT_CHDIR) {
        snprintf(message, sizeof message, "workingDir \"%s\": %s", S.cwd, error_text(e.error));
    } else if (missing && strchr(program, '/') && access(program, F_OK) == 0) {
        snprintf(message, sizeof message, "exec: \"%s\": its interpreter or loader is not in the image", program);
    } else {
        if (missing) S.code = CODE_NOT_FOUND, snprintf(S.reason, sizeof S.reason, "CommandNotFound");
        snprintf(message, sizeof message, "exec: \"%s\": %s", program, error_text(e.error));
    }
    copy_text(S.message, sizeof S.message, message, strlen(message));
}

void kill_group(int signal) {
    /* Between fork and setsid the group does not exist yet. */
    if (S.child > 0 && kill(-S.child, signal) != 0 && errno == ESRCH) kill(S.child, signal);
}

int kill_strays(void) {
    char list[4096], *end = list;
    int killed = 0;
    if (S.proc_pid != getpid()) return 0; /* its numbers would be other processes here */
    snprintf(list, sizeof list, "/proc/self/task/%d/children", (int)getpid());
    int fd = open(list, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, list, sizeof list - 1);
    close_fd(&fd);
    if (n <= 0) return 0;
    list[n] = 0;
    if (n == sizeof list - 1) { /* the last number may be cut: leave it for the next round */
        char *blank = strrchr(list, ' ');
        if (blank) *blank = 0;
    }
    for (long pid; (pid = strtol(end, &end, 10)) > 1;)
        if (pid != S.keeper) kill((pid_t)pid, SIGKILL), killed++;
    return killed;
}

void stop_child(const char *reason, int64_t grace_ms) {
    if (S.phase != RUNNING) return;
    if (!S.stopping) {
        copy_text(S.reason, sizeof S.reason, reason, strlen(reason));
        kill_group(SIGTERM);
    }
    S.stopping = true;
    S.kill_at = earlier(S.kill_at, after(grace_ms));
}

void stop_by_itself(int signal) {
    if (S.phase == RUNNING && !S.stopping)
        snprintf(S.message, sizeof S.message, "The task sent %s to its own supervisor, taskctl-init, which stopped it.",
                 signal == SIGINT ? "SIGINT" : "SIGTERM");
    stop_child("", S.grace_ms);
}

static void child_enter_draining(void) { /* S.child stays: others of its group may be left */
    S.phase = DRAINING;
    S.exited_us = wall_us();
    S.timeout_at = S.kill_at = S.memory_at = NEVER;
    S.drain_at = after(LEFTOVER_MS);
    S.leftovers_killed = false;
}

static void child_ended(int status) {
    ExecError e;
    bool failed = read(S.exec_error_fd, &e, sizeof e) == sizeof e;
    close_fd(&S.exec_error_fd);
    S.code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    S.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    if (failed) set_start_error(e);
    child_enter_draining();
}

bool open_pipe(int ends[2]) {
    return pipe2(ends, O_CLOEXEC) == 0 && fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0;
}

void reap(void) {
    struct rusage used;
    int status;
    for (pid_t pid; (pid = wait4(-1, &status, WNOHANG, &used)) > 0;) {
        if (pid == S.keeper) { /* killed by a task: its processes count for themselves from now on */
            S.keeper = S.keeper_in_proc = 0;
            continue;
        }
        if (pid == S.prepared.pid) { /* it failed: the run will say so, and why, for itself */
            S.prepared.pid = 0;
            S.prepared.failed = true;
            prepared_free();
            continue;
        }
        if (S.phase == RUNNING || S.phase == DRAINING) { /* orphans of the run count, too */
            S.user_us += used.ru_utime.tv_sec * 1000000 + used.ru_utime.tv_usec;
            S.system_us += used.ru_stime.tv_sec * 1000000 + used.ru_stime.tv_usec;
            if (used.ru_maxrss > S.max_rss_kb) S.max_rss_kb = used.ru_maxrss;
        }
        if (S.phase == RUNNING && pid == S.child) child_ended(status);
    }
    if (S.prepared.pid > 0) return; /* what it has started is a part of it */
    if (S.phase != RUNNING && (S.phase != DRAINING || S.leftovers_killed)) kill_strays();
}

void run_start(bool startable) {
    int out[2] = {-1, -1}, err[2] = {-1, -1}, error[2] = {-1, -1};
    S.started_us = wall_us();
    S.user_us = S.system_us = S.max_rss_kb = 0;
    S.code = S.signal = 0;
    S.tail_len = 0;
    S.stopping = false;
    S.kill_at = NEVER;
    S.timeout_at = S.timeout_ms > 0 ? after(S.timeout_ms) : NEVER;
    S.streams[0].to = 1, S.streams[1].to = 2;
    S.streams[0].len = S.streams[1].len = 0;
    S.phase = RUNNING;
    S.ran = true;
    memory_watch();
    log_open();
    if (S.keys_fd >= 0 && ftruncate(S.keys_fd, 0) != 0) close_fd(&S.keys_fd);
    bool released = startable && prepared_release();
    S.prepared_end = released ? "used" : prepared_end();
    if (released) return (void)setpriority(PRIO_PROCESS, (id_t)S.child, nice_for(S.cpu_milli));
    prepared_discard();
    if (startable && open_pipe(out) && open_pipe(err) && open_pipe(error)) S.child = fork();
    else S.child = -1;
    if (S.child == 0) {
        setpriority(PRIO_PROCESS, 0, nice_for(S.cpu_milli)); /* who asks for none has that of a whole CPU */
        child_main(out[1], err[1], error[1], -1);
    }
    close_fd(&out[1]), close_fd(&err[1]), close_fd(&error[1]);
    S.streams[0].from = out[0], S.streams[1].from = err[0], S.exec_error_fd = error[0];
    if (S.child > 0) return;
    if (startable) snprintf(S.message, sizeof S.message, "cannot make a process: %s", error_text(errno));
    snprintf(S.reason, sizeof S.reason, "StartError");
    S.code = CODE_NOT_EXECUTABLE;
    close_fd(&S.exec_error_fd);
    child_enter_draining();
}
