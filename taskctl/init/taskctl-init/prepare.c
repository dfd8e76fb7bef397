#define _GNU_SOURCE
#include "prepare.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "basics.h"
#include "child.h"
#include "load.h"
#include "memory.h"
#include "msgpack.h"
#include "state.h"

enum { DISCARD_MS = 200 }; /* for SIGKILL to do its work; nothing else waits meanwhile */

void prepared_free(void) {
    Prepared *p = &S.prepared;
    close_fd(&p->run), close_fd(&p->out), close_fd(&p->err), close_fd(&p->error);
    free(p->cwd), free_list(p->argv), free_list(p->env);
    p->cwd = NULL, p->argv = p->env = NULL;
    p->limit_at = NEVER;
}

void prepared_discard(void) {
    pid_t pid = S.prepared.pid;
    int status;
    if (pid <= 0) return;
    S.prepared.pid = 0;
    prepared_free();
    kill(-pid, SIGKILL);
    kill(pid, SIGKILL); /* between fork and setsid it has no group */
    for (int64_t end = after(DISCARD_MS); now_ms() < end;) {
        pid_t gone = waitpid(-1, &status, WNOHANG);
        if (gone > 0 && gone == S.keeper) S.keeper = S.keeper_in_proc = 0;
        if (gone == pid) pid = 0;
        if (gone <= 0 && kill_strays() == 0 && pid == 0) return;
        if (gone == 0) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        if (gone < 0) return;
    }
}

/* Whether a variable says something of one run alone, so that nothing depends on it before. */
static bool is_of_a_run(const char *entry) {
    return strncmp(entry, "TASKCTL_", 8) == 0 || strncmp(entry, "TASK_NAME=", 10) == 0 ||
           strncmp(entry, "TASK_NAMESPACE=", 15) == 0;
}

static size_t count_basis(char **env) {
    size_t n = 0;
    for (char **item = env; item && *item; item++) n += !is_of_a_run(*item);
    return n;
}

static bool has_entry(char **env, const char *entry) {
    for (char **item = env; item && *item; item++)
        if (strcmp(*item, entry) == 0) return true;
    return false;
}

/* Whether the run is what was prepared: the same words, directory and environment. */
static bool prepared_fits(void) {
    const Prepared *p = &S.prepared;
    size_t i = 0;
    if (p->pid <= 0 || strcmp(p->cwd, S.cwd) != 0) return false;
    for (; p->argv[i] && S.argv[i]; i++)
        if (strcmp(p->argv[i], S.argv[i]) != 0) return false;
    if (p->argv[i] || S.argv[i] || count_basis(p->env) != count_basis(S.env)) return false;
    for (char **item = p->env; *item; item++)
        if (!is_of_a_run(*item) && !has_entry(S.env, *item)) return false;
    return true;
}

/* Tells the prepared command its run. False: it is not ready, or does not take it. */
static bool prepared_tell(void) {
    Buf b = {0};
    uint8_t head[4], ready;
    size_t length = 0;
    siginfo_t end = {0};
    /* Others may hold its end of the socket after it has died. */
    if (waitid(P_PID, (id_t)S.prepared.pid, &end, WEXITED | WNOHANG | WNOWAIT) != 0 || end.si_pid != 0)
        return S.prepared.failed = true, false;
    if (recv(S.prepared.run, &ready, 1, MSG_DONTWAIT) != 1) return false;
    for (char **item = S.env; *item; item++) length += strlen(*item) + 1;
    for (int i = 0; i < 4; i++) head[i] = (uint8_t)(length >> (24 - 8 * i));
    buf_add(&b, head, sizeof head);
    for (char **item = S.env; *item; item++) buf_add(&b, *item, strlen(*item) + 1);
    bool told = length < MAX_FRAME && send(S.prepared.run, b.data, b.len, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)b.len;
    buf_free(&b);
    return told;
}

bool prepared_release(void) {
    Prepared *p = &S.prepared;
    if (!prepared_fits() || !prepared_tell()) return false;
    S.child = p->pid;
    S.streams[0].from = p->out, S.streams[1].from = p->err, S.exec_error_fd = p->error;
    p->pid = 0;
    p->out = p->err = p->error = -1;
    prepared_free();
    return true;
}

const char *prepared_end(void) {
    if (S.prepared.failed) return "failed";
    if (S.prepared.pid <= 0) return "";
    return prepared_fits() ? "early" : "other";
}

void prepared_timed_out(void) {
    uint8_t ready;
    S.prepared.limit_at = NEVER;
    if (recv(S.prepared.run, &ready, 1, MSG_DONTWAIT | MSG_PEEK) == 1) return;
    S.prepared.failed = true;
    prepared_discard();
}

/* Takes argv, env and cwd out of a push; they are left in S as those of a run would be. */
static bool prepare_load(Reader m) {
    Value cwd, head;
    Reader argv, env;
    size_t argc, pairs;
    if (!map_find(m, "argv", &argv) || !mp_read(&argv, &head) || head.type != MP_ARRAY || head.n == 0) return false;
    if (!all_text(argv, argc = head.n)) return false;
    if (!map_find(m, "env", &env) || !mp_read(&env, &head) || head.type != MP_MAP) return false;
    if (!all_text(env, 2 * (uint64_t)(pairs = head.n))) return false;
    if (!map_get(m, "cwd", MP_STR, &cwd)) cwd = (Value){.type = MP_STR, .s = ""};
    run_free();
    return run_string(&cwd, "cwd", &S.cwd) && run_argv(argv, argc) && run_env(env, pairs);
}

void prepare(Reader m) {
    enum { OURS, ITS };
    int out[2] = {-1, -1}, err[2] = {-1, -1}, error[2] = {-1, -1}, run[2] = {-1, -1};
    Prepared *p = &S.prepared;
    if (S.phase != ASKING || S.ran) return;
    prepared_discard();
    p->failed = false;
    int64_t limit_ms = map_int(m, "limit_ms", 0);
    bool good = prepare_load(m) && open_pipe(out) && open_pipe(err) && open_pipe(error) &&
                socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, run) == 0;
    if (good) {
        char *entry = NULL;
        size_t count = 0;
        while (S.env[count]) count++;
        if (asprintf(&entry, "TASKCTL_PREPARED=%d", run[ITS]) < 0) checked(NULL);
        env_set(&S.env, &count, entry);
        p->pid = fork();
        if (p->pid == 0) child_main(out[1], err[1], error[1], run[ITS]);
    }
    close_fd(&out[1]), close_fd(&err[1]), close_fd(&error[1]), close_fd(&run[ITS]);
    p->out = out[0], p->err = err[0], p->error = error[0], p->run = run[OURS];
    p->argv = S.argv, p->env = S.env, p->cwd = S.cwd;
    S.argv = S.env = NULL, S.cwd = NULL;
    S.message[0] = 0;
    if (good && p->pid > 0) {
        if (limit_ms > 0) p->limit_at = after(limit_ms);
        return;
    }
    p->pid = 0;
    prepared_free();
}
