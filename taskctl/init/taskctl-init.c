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
 * init_wire.h: msgpack and the connection. init_command.h: the commands. Here: the supervisor
 * (output, child, end of a run, talk with the agent, loop).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef TASKCTL_VERSION
#define TASKCTL_VERSION "unknown"
#endif

enum {
    PROTOCOL = 1,
    MAX_FRAME = 16 << 20,
    CHUNK = 64 << 10,         /* read from the child at a time */
    SAFE_WRITE = 4096,        /* a writable pipe takes this much without blocking */
    TAIL_MAX = 2048,          /* end of the log that is reported */
    MESSAGE_MAX = 1024,       /* of our own sentences */
    BACKOFF_MIN_MS = 20,      /* between two tries to reach the agent */
    BACKOFF_MAX_MS = 1000,
    LEFTOVER_MS = 1000,       /* for what outlives the command to finish its output */
    FLUSH_MS = 10000,         /* for a slow reader of our stdout, after the command's end */
    DEFAULT_GRACE_MS = 10000, /* between SIGTERM and SIGKILL, where nobody says */
    COMMAND_DEADLINE_S = 30,  /* for the agent to answer a command */
    EXIT_REFUSED = 1,
    EXIT_USAGE = 2,
    EXIT_AWAY = 75, /* EX_TEMPFAIL of sysexits.h */
    CODE_NOT_EXECUTABLE = 126, /* as shells and container runtimes have it */
    CODE_NOT_FOUND = 127,
};
#define NEVER INT64_MAX
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

extern char **environ;

#include "init_wire.h"

#include "init_command.h"

/* ------------------------------------------------------------------ supervisor: state */

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

static struct {
    const char *socket, *container;
    char *nonce;
    Buf token; /* empty until the nonce has bought one */
    char self_dir[PATH_MAX];
    int proc_pid; /* our PID in /proc, which may be that of another PID namespace; or 0 */

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
    char *uid, *log, *record, *cwd;
    int64_t attempt, grace_ms, timeout_ms;
    char **argv, **env;
    pid_t child;
    int exec_error_fd, log_fd, keys_fd;
    int64_t timeout_at, kill_at, drain_at; /* timers */
    bool stopping, leftovers_killed;
    Stream streams[2];
    uint8_t tail[TAIL_MAX];
    size_t tail_len;

    /* its end */
    int code, signal;
    char reason[64], message[MESSAGE_MAX];
    int64_t started_us, exited_us, user_us, system_us, max_rss_kb;
    Buf report; /* the fields of `exited` */
} S;

static void link_retry(const char *why);
static void link_send_work(void);

/* ------------------------------------------------------------------ supervisor: output */

static void open_null_if_closed(void) { /* else a socket could become our stdout */
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0) return;
}

/* Makes the directories above a path. Sticky and for all: tasks of other users share them. */
static int make_parents(const char *path) {
    char *copy = checked(strdup(path));
    mode_t mask = umask(0);
    int result = 0;
    for (char *slash = strchr(copy + 1, '/'); slash && result == 0; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdir(copy, 01777) != 0 && errno != EEXIST) {
            int error = errno; /* a read-only file system says EROFS even if it is there */
            result = access(copy, F_OK);
            errno = error;
        }
        *slash = '/';
    }
    umask(mask);
    int error = errno;
    free(copy);
    errno = error;
    return result;
}

static void log_give_up(void) {
    note("the log %s cannot be written: %s; the output goes on to the container's log only", S.log, error_text(errno));
    close_fd(&S.log_fd);
}

static void log_open(void) {
    if (S.log[0] == 0) return;
    if (make_parents(S.log) == 0)
        S.log_fd = open(S.log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0640);
    if (S.log_fd < 0) log_give_up();
}

static void log_write(const uint8_t *data, size_t n) {
    while (n > 0 && S.log_fd >= 0) {
        ssize_t written = write(S.log_fd, data, n);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return log_give_up();
        data += written, n -= (size_t)written;
    }
}

static void tail_add(const uint8_t *data, size_t n) {
    if (n > TAIL_MAX) data += n - TAIL_MAX, n = TAIL_MAX;
    size_t keep = S.tail_len + n > TAIL_MAX ? TAIL_MAX - n : S.tail_len;
    memmove(S.tail, S.tail + S.tail_len - keep, keep);
    memcpy(S.tail + keep, data, n);
    S.tail_len = keep + n;
}

static void stream_read(Stream *s) {
    ssize_t n = read(s->from, s->chunk, CHUNK);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) return close_fd(&s->from);
    log_write(s->chunk, (size_t)n);
    tail_add(s->chunk, (size_t)n);
    s->off = 0;
    s->len = s->to >= 0 ? (size_t)n : 0;
}

/* Our stdout may be shared, so it is not made non-blocking: writable is asked for each time. */
static void stream_write(Stream *s) {
    struct pollfd ready = {.fd = s->to, .events = POLLOUT};
    while (s->len > 0 && poll(&ready, 1, 0) == 1) {
        ssize_t n = write(s->to, s->chunk + s->off, s->len < SAFE_WRITE ? s->len : SAFE_WRITE);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n < 0) { /* nobody reads it any more: the task need not suffer */
            s->to = -1;
            s->len = 0;
            return;
        }
        s->off += (size_t)n, s->len -= (size_t)n;
    }
}

static bool streams_flushed(void) { return S.streams[0].len == 0 && S.streams[1].len == 0; }
static bool streams_ended(void) { return S.streams[0].from < 0 && S.streams[1].from < 0 && streams_flushed(); }

/* ------------------------------------------------------------------ supervisor: the child */

static void free_list(char **list) {
    for (char **item = list; item && *item; item++) free(*item);
    free(list);
}

static void run_free(void) {
    free(S.uid), free(S.log), free(S.record), free(S.cwd);
    free_list(S.argv), free_list(S.env);
    S.uid = S.log = S.record = S.cwd = NULL;
    S.argv = S.env = NULL;
}

static void env_set(char ***env, size_t *count, char *entry) { /* takes the entry over */
    size_t name = (size_t)(strchr(entry, '=') - entry) + 1;
    for (size_t i = 0; i < *count; i++)
        if (strncmp((*env)[i], entry, name) == 0) {
            free((*env)[i]);
            (*env)[i] = entry;
            return;
        }
    *env = checked(realloc(*env, (*count + 2) * sizeof **env));
    (*env)[(*count)++] = entry;
    (*env)[*count] = NULL;
}

/* Appends a directory to a list like $PATH, unless it is there. */
static void env_append(char ***env, size_t *count, const char *name, const char *otherwise, const char *directory) {
    const char *old = otherwise;
    size_t length = strlen(name), want = strlen(directory);
    for (char **item = *env; item && *item; item++)
        if (strncmp(*item, name, length) == 0 && (*item)[length] == '=') old = *item + length + 1;
    for (const char *part = old; *part; part += strcspn(part, ":"), part += *part == ':')
        if (strcspn(part, ":") == want && strncmp(part, directory, want) == 0) return;
    char *entry = NULL;
    if (asprintf(&entry, "%s=%s%s%s", name, old, *old ? ":" : "", directory) < 0) checked(NULL);
    env_set(env, count, entry);
}

/* A text of the run as a C string. False, and S.message says why, if it holds a NUL. */
static bool run_string(const Value *v, const char *what, char **to) {
    if (memchr(v->s, 0, v->n)) {
        snprintf(S.message, sizeof S.message, "%s holds a NUL byte; take it out", what);
        return false;
    }
    *to = checked(strndup(v->s, v->n));
    return true;
}

/* The command's environment: ours, the run's, and the way to our own programs. */
static bool run_env(Reader map, size_t pairs) {
    size_t count = 0;
    bool good = true;
    for (char **item = environ; *item; item++)
        if (strchr(*item, '=')) env_set(&S.env, &count, checked(strdup(*item)));
    for (; pairs > 0; pairs--) {
        Value key, value;
        char *name = NULL, *text = NULL, *entry = NULL;
        if (!mp_read(&map, &key) || !mp_read(&map, &value)) break; /* checked before */
        if (key.n == 0 || memchr(key.s, '=', key.n)) {
            snprintf(S.message, sizeof S.message, "env: a name is empty or holds \"=\"; mend the task's env");
            good = false;
        } else if (run_string(&key, "env: a name", &name) && run_string(&value, name, &text)) {
            if (asprintf(&entry, "%s=%s", name, text) < 0) checked(NULL);
            env_set(&S.env, &count, entry);
        } else {
            good = false;
        }
        free(name), free(text);
    }
    char extra[PATH_MAX + 32];
    env_append(&S.env, &count, "PATH", DEFAULT_PATH, S.self_dir);
    snprintf(extra, sizeof extra, "%s/../python", S.self_dir);
    char *python = realpath(extra, NULL);
    if (python) env_append(&S.env, &count, "PYTHONPATH", "", python);
    free(python);
    if (S.keys_fd >= 0) {
        snprintf(extra, sizeof extra, "TASKCTL_KEYS=/proc/%d/fd/%d", S.proc_pid, S.keys_fd);
        env_set(&S.env, &count, checked(strdup(extra)));
    }
    return good;
}

static bool run_argv(Reader array, size_t n) {
    S.argv = checked(calloc(n + 1, sizeof *S.argv));
    for (size_t i = 0; i < n; i++) {
        Value v;
        char what[32];
        snprintf(what, sizeof what, "argument %zu", i);
        if (!mp_read(&array, &v) || !run_string(&v, what, &S.argv[i])) return false;
    }
    return true;
}

static bool all_text(Reader items, uint64_t n) {
    for (Value v; n > 0; n--)
        if (!mp_read(&items, &v) || v.type != MP_STR) return false;
    return true;
}

/* Takes a run out of an answer. False: the answer is malformed. *startable: it can be tried. */
static bool run_load(Reader m, bool *startable) {
    static const char *const names[] = {"uid", "log", "record", "cwd"};
    char **const fields[] = {&S.uid, &S.log, &S.record, &S.cwd};
    Value text[4], attempt, head;
    Reader argv, env;
    size_t argc, pairs;
    for (int i = 0; i < 4; i++)
        if (!map_get(m, names[i], MP_STR, &text[i])) return false;
    if (!map_get(m, "attempt", MP_INT, &attempt)) return false;
    if (!map_find(m, "argv", &argv) || !mp_read(&argv, &head) || head.type != MP_ARRAY || head.n == 0) return false;
    if (!all_text(argv, argc = head.n)) return false;
    if (!map_find(m, "env", &env) || !mp_read(&env, &head) || head.type != MP_MAP) return false;
    if (!all_text(env, 2 * (uint64_t)(pairs = head.n))) return false;

    run_free();
    S.message[0] = S.reason[0] = 0;
    S.attempt = attempt.i;
    int64_t grace_ms = map_int(m, "grace_ms", -1);
    S.grace_ms = grace_ms >= 0 ? grace_ms : DEFAULT_GRACE_MS;
    S.timeout_ms = map_int(m, "timeout_ms", 0);
    bool good = true;
    for (int i = 0; i < 4; i++)
        if (!run_string(&text[i], names[i], fields[i])) good = false, *fields[i] = checked(strdup(""));
    *startable = run_argv(argv, argc) && run_env(env, pairs) && good;
    return true;
}

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

__attribute__((noreturn)) static void child_main(int out, int err, int error_fd) {
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

static void kill_group(int signal) {
    /* Between fork and setsid the group does not exist yet. */
    if (S.child > 0 && kill(-S.child, signal) != 0 && errno == ESRCH) kill(S.child, signal);
}

/* Ends the run's processes that moved to sessions of their own. They are our children: as
 * PID 1 or subreaper we inherit them. Those below them come to us as they die, with a SIGCHLD
 * each, after which this is called again. What `kubectl exec` started is nobody's child here
 * and is left alone. A kernel without this file leaves strays to the end of the container. */
static void kill_strays(void) {
    char list[4096], *end = list;
    if (S.proc_pid != getpid()) return; /* its numbers would be other processes here */
    snprintf(list, sizeof list, "/proc/self/task/%d/children", (int)getpid());
    int fd = open(list, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, list, sizeof list - 1);
    close_fd(&fd);
    if (n <= 0) return;
    list[n] = 0;
    if (n == sizeof list - 1) { /* the last number may be cut: leave it for the next round */
        char *blank = strrchr(list, ' ');
        if (blank) *blank = 0;
    }
    for (long pid; (pid = strtol(end, &end, 10)) > 1;) kill((pid_t)pid, SIGKILL);
}

static void stop_child(const char *reason, int64_t grace_ms) {
    if (S.phase != RUNNING) return;
    if (!S.stopping) {
        copy_text(S.reason, sizeof S.reason, reason, strlen(reason));
        kill_group(SIGTERM);
    }
    S.stopping = true;
    S.kill_at = earlier(S.kill_at, after(grace_ms));
}

static void child_enter_draining(void) { /* S.child stays: others of its group may be left */
    S.phase = DRAINING;
    S.exited_us = wall_us();
    S.timeout_at = S.kill_at = NEVER;
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

static void reap(void) {
    struct rusage used;
    int status;
    for (pid_t pid; (pid = wait4(-1, &status, WNOHANG, &used)) > 0;) {
        if (S.phase == RUNNING || S.phase == DRAINING) { /* orphans of the run count, too */
            S.user_us += used.ru_utime.tv_sec * 1000000 + used.ru_utime.tv_usec;
            S.system_us += used.ru_stime.tv_sec * 1000000 + used.ru_stime.tv_usec;
            if (used.ru_maxrss > S.max_rss_kb) S.max_rss_kb = used.ru_maxrss;
        }
        if (S.phase == RUNNING && pid == S.child) child_ended(status);
    }
    if (S.phase != RUNNING && (S.phase != DRAINING || S.leftovers_killed)) kill_strays();
}

static bool open_pipe(int ends[2]) {
    return pipe2(ends, O_CLOEXEC) == 0 && fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0;
}

/* Starts the command; whatever goes wrong becomes the end of the run. */
static void run_start(bool startable) {
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
    log_open();
    if (S.keys_fd >= 0 && ftruncate(S.keys_fd, 0) != 0) close_fd(&S.keys_fd);
    if (startable && open_pipe(out) && open_pipe(err) && open_pipe(error)) S.child = fork();
    else S.child = -1;
    if (S.child == 0) child_main(out[1], err[1], error[1]);
    close_fd(&out[1]), close_fd(&err[1]), close_fd(&error[1]);
    S.streams[0].from = out[0], S.streams[1].from = err[0], S.exec_error_fd = error[0];
    if (S.child > 0) return;
    if (startable) snprintf(S.message, sizeof S.message, "cannot make a process: %s", error_text(errno));
    snprintf(S.reason, sizeof S.reason, "StartError");
    S.code = CODE_NOT_EXECUTABLE;
    close_fd(&S.exec_error_fd);
    child_enter_draining();
}

/* ------------------------------------------------------------------ supervisor: the end of a run */

enum { REPORT_FIELDS = 12 };

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
    pack_text(b, "tail");
    pack_bin(b, S.tail, S.tail_len);
}

static bool write_all(int fd, const uint8_t *data, size_t n) {
    while (n > 0) {
        ssize_t written = write(fd, data, n);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return false;
        data += written, n -= (size_t)written;
    }
    return true;
}

/* Leaves the report where a restarted agent finds it, whatever becomes of us. */
static bool record_try(const char *temporary) {
    Buf body = {0};
    int fd = -1, directory = -1;
    pack_map(&body, REPORT_FIELDS);
    buf_add(&body, S.report.data, S.report.len);
    bool good = make_parents(S.record) == 0 && (unlink(temporary) == 0 || errno == ENOENT) &&
                (fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644)) >= 0 &&
                fchmod(fd, 0644) == 0 && write_all(fd, body.data, body.len) && fsync(fd) == 0 &&
                rename(temporary, S.record) == 0;
    int error = errno;
    close_fd(&fd);
    buf_free(&body);
    if (good) {
        char *parent = checked(strdup(S.record)), *slash = strrchr(parent, '/');
        if (slash) *(slash == parent ? slash + 1 : slash) = 0;
        directory = open(slash ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        good = directory >= 0 && fsync(directory) == 0;
        error = errno;
        free(parent);
        close_fd(&directory);
    }
    errno = error;
    return good;
}

static void record_write(void) {
    char *temporary = NULL;
    if (S.record[0] == 0) return;
    if (asprintf(&temporary, "%s.tmp", S.record) < 0) checked(NULL);
    if (!record_try(temporary)) note("the exit record %s cannot be written: %s", S.record, error_text(errno));
    free(temporary);
}

static int run_exit_code(void) { return S.signal ? 128 + S.signal : S.code; }

static void leftovers_kill(void) {
    if (S.leftovers_killed) return;
    S.leftovers_killed = true;
    if (S.child > 0) kill(-S.child, SIGKILL); /* too soon for its number to be another group's */
    kill_strays();
}

static void run_finish(void) {
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

static void drain_timed_out(void) {
    if (S.leftovers_killed) return run_finish(); /* a reader of ours stalls, or a holder won't die */
    leftovers_kill();
    S.drain_at = after(streams_flushed() ? LEFTOVER_MS : FLUSH_MS);
}

/* ------------------------------------------------------------------ supervisor: talk with the agent */

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

static void link_connect(void) {
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

/* Asks what the phase wants to know, if the agent is there and was not asked yet. */
static void link_send_work(void) {
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

static void link_event(short events) {
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

/* ------------------------------------------------------------------ supervisor: the loop */

static void on_signal(int signal) {
    switch (signal) {
    case SIGCHLD:
        reap();
        break;
    case SIGTERM:
    case SIGINT:
        if (S.phase == ASKING) S.exit_code = 128 + signal, S.done = true;
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
    signal(SIGPIPE, SIG_IGN);
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0) fail(EXIT_REFUSED, "signalfd: %s", error_text(errno));
    return fd;
}

static void run_timers(void) {
    int64_t now = now_ms();
    if (S.connect_at <= now) link_connect();
    if (S.repeat_at <= now) link_send_work();
    if (S.timeout_at <= now) S.timeout_at = NEVER, stop_child("Timeout", S.grace_ms);
    if (S.kill_at <= now) S.kill_at = NEVER, kill_group(SIGKILL);
    if (S.phase == DRAINING && streams_ended()) run_finish();
    if (S.drain_at <= now) drain_timed_out();
}

static int poll_timeout(void) {
    int64_t next = earlier(earlier(S.connect_at, S.repeat_at), earlier(S.timeout_at, earlier(S.kill_at, S.drain_at)));
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
    if (poll(p, FDS, poll_timeout()) <= 0) return;
    for (int i = 0; i < 2; i++) {
        if (p[OUTPUT + i].revents) stream_read(&S.streams[i]);
        if (p[OUTPUT + i].revents || p[SINK + i].revents) stream_write(&S.streams[i]);
    }
    struct signalfd_siginfo info;
    if (p[SIGNALS].revents)
        while (read(signals, &info, sizeof info) == sizeof info) on_signal((int)info.ssi_signo);
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
    char pid[32] = "";
    if (readlink("/proc/self", pid, sizeof pid - 1) > 0) S.proc_pid = atoi(pid);
    char *slash = strrchr(S.self_dir, '/');
    if (slash) *slash = 0;
}

static int supervise(const char *argv0) {
    S.socket = need_env("TASKCTL_SOCKET");
    S.container = need_env("TASKCTL_CONTAINER");
    char *nonce = (char *)need_env("TASKCTL_NONCE");
    S.nonce = checked(strdup(nonce));
    memset(nonce, 'x', strlen(nonce)); /* out of /proc/<pid>/environ, too */
    unsetenv("TASKCTL_NONCE");
    find_self(argv0);
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* not everywhere are we PID 1 */
    S.conn.fd = S.log_fd = S.exec_error_fd = S.streams[0].from = S.streams[1].from = -1;
    S.keys_fd = memfd_create("taskctl-keys", MFD_CLOEXEC);
    S.backoff_ms = BACKOFF_MIN_MS;
    S.grace_ms = DEFAULT_GRACE_MS;
    S.repeat_at = S.timeout_at = S.kill_at = S.drain_at = NEVER;
    S.connect_at = 0;
    int signals = open_signals();
    while (true) {
        run_timers();
        if (S.done) return S.exit_code;
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
