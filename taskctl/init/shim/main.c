/* shim: one per container of the local node; what containerd-shim is to containerd.
 *
 *   shim DIR [FD]   run the container that DIR/spec describes; write progress to FD
 *   shim --enter …  run a further command in a container, see enter.c
 *   shim --noop     exit 0 (lets the node try out which kinds of isolation the kernel allows)
 *
 * It is detached from the node and outlives it. All it knows of the outside is its directory:
 *
 *   spec      (read)  what to run, see below
 *   claim     (written, locked) "<pid of the shim>\n". Made by link(2), so that of two shims
 *             started on one directory exactly one goes on; the other exits with status 3. The
 *             lock (flock) is held until the shim ends: whoever can take it knows it is dead.
 *   started   (written) once the program runs: "pid <n>\nstarted_ns <n>\n"
 *   exit      (written, fsync, rename) "code", "signal", "start_error", "oom", "started_ns",
 *             "finished_ns", "message", each a line "<key> <value>\n"; times in ns since 1970.
 *             start_error 1: the program never ran; code is then 127 (not found), 126 (cannot
 *             be executed) or 128 (anything else).
 *   log       (written) stdout and stderr in the CRI format,
 *             "<RFC3339Nano> stdout F <line>\n" (P instead of F: the line goes on). At the size
 *             limit it is renamed to log.1 and begun anew.
 *   root, tmp (made)  mount point of the private root; the container's /tmp
 *   upper, work (made)  with rootfs: what the container writes to its root; the overlay's own
 *
 * FD gets "started <pid> <ns>\n" and is closed when the shim ends.
 *
 * spec is a row of NUL-terminated tokens: a keyword, then its operands.
 *
 *   arg TEXT             (repeated) the program and its arguments
 *   env NAME=VALUE       (repeated) the whole environment
 *   cwd PATH             made if absent
 *   isolate LETTERS      u user, m mount, p PID namespace; f fresh /proc in it; o old mount API;
 *                        without m the program sees the host's files, and nothing is mounted
 *   image DIR            its top-level entries cover those of the host's root
 *   rootfs DIR           the root is this directory, which is not written to, and nothing of the
 *                        host's; see image.c
 *   user UID GID         who the program runs as; without it, whoever runs the shim
 *   group GID            (repeated) a further group of that user
 *   bind ro|rw SRC DST   (repeated, in order) mount SRC at DST
 *   below ro|rw DIR SUB DST   likewise DIR/SUB, where containers write to DIR: no part of SUB may
 *                        be a link, whatever they do meanwhile
 *   mask DST             (repeated, in order with bind) hide DST
 *   root ro              the root itself is read-only
 *   privileged yes       keep all capabilities, system calls, the host's /dev and /sys
 *   cap NUMBER           (repeated) keep this capability; all others are dropped
 *   calls all            do not filter system calls
 *   log-limit BYTES      see log
 *
 * files.c reads and writes that directory. start.c is the container's first process, with root.c and
 * image.c (what it sees), guard.c (what it may ask of the kernel) and paths.c; enter.c puts further
 * processes into the container. Supervision is here.
 *
 * SIGTERM goes to the program; SIGUSR1 kills the container at once, and so does the removal of
 * the directory: nobody could find the container again.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "enter.h"
#include "files.h"
#include "start.h"

static int write_file(pid_t pid, const char *name, const char *text)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    int bad = fd < 0 || write_all(fd, text, strlen(text));
    if (fd >= 0)
        close(fd);
    return bad ? -1 : 0;
}

/* The one user of the namespace is ours, by whatever number the container is to know it. */
static int map_identity(pid_t pid, const struct spec *spec)
{
    char users[64], groups[64];
    unsigned uid = spec->has_user ? spec->uid : geteuid();
    unsigned gid = spec->has_user ? spec->gid : getegid();
    snprintf(users, sizeof users, "%u %u 1", uid, (unsigned)geteuid());
    snprintf(groups, sizeof groups, "%u %u 1", gid, (unsigned)getegid());
    if (write_file(pid, "setgroups", "deny") < 0 && errno != ENOENT)
        return -1;
    return write_file(pid, "uid_map", users) || write_file(pid, "gid_map", groups) ? -1 : 0;
}

/* Returns 0, or -1 with the reason in shim.report. */
static int launch(void)
{
    int go[2], status[2], out[2], err[2];
    struct spec *spec = &shim.spec;
    if (pipe2(go, O_CLOEXEC) || pipe2(status, O_CLOEXEC) || pipe2(out, O_CLOEXEC) ||
        pipe2(err, O_CLOEXEC)) {
        snprintf(shim.report, sizeof shim.report, "128 pipe: %s", strerror(errno));
        return -1;
    }
    unsigned long flags = SIGCHLD;
    if (spec->mounts)
        flags |= CLONE_NEWNS | (spec->user ? CLONE_NEWUSER : 0) | (spec->pids ? CLONE_NEWPID : 0);
    shim.ooms_before = oom_kills();
    shim.child = (pid_t)syscall(SYS_clone, flags, 0, 0, 0, 0);
    if (!shim.child) {
        report_fd = status[1];
        close(go[1]);
        become(spec, go[0], out[1], err[1]);
    }
    const char *failed = NULL;
    if (shim.child < 0)
        failed = "create the process";
    else if (spec->mounts && spec->user && map_identity(shim.child, spec) < 0)
        failed = "map the user";
    if (failed) {
        snprintf(shim.report, sizeof shim.report, "128 %s: %s", failed, strerror(errno));
        if (shim.child > 0)
            kill(shim.child, SIGKILL);
        return -1;
    }
    (void)!write(go[1], "g", 1);
    close(go[0]), close(go[1]), close(status[1]), close(out[1]), close(err[1]);
    shim.status_fd = status[0];
    shim.streams[0] = (struct stream){.fd = out[0], .tag = "stdout"};
    shim.streams[1] = (struct stream){.fd = err[0], .tag = "stderr"};
    return 0;
}

/* The end of the pipe without a word means that exec closed it: the program runs. */
static void on_status(void)
{
    ssize_t n = read(shim.status_fd, shim.report + shim.report_length,
                     sizeof shim.report - 1 - shim.report_length);
    if (n > 0) {
        shim.report_length += (size_t)n;
        return;
    }
    if (n < 0 && errno == EINTR)
        return;
    close(shim.status_fd);
    shim.status_fd = -1;
    if (shim.report_length || shim.stopped_early)
        return;
    char text[96];
    shim.running = 1;
    shim.started_ns = clock_ns(CLOCK_REALTIME);
    snprintf(text, sizeof text, "pid %d\nstarted_ns %lld\n", (int)shim.child,
             (long long)shim.started_ns);
    write_record("started", text, 0);
    if (shim.notify_fd >= 0)
        dprintf(shim.notify_fd, "started %d %lld\n", (int)shim.child, (long long)shim.started_ns);
}

/* Without a PID namespace: processes that outlive the program are handed to the shim, which is
 * their subreaper. The death of each hands over its own children, so this ends with none left. */
static void kill_leftovers(void)
{
    char path[64], text[4096];
    if (shim.spec.pids && shim.spec.mounts)
        return; /* the kernel does it */
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    FILE *file = fopen(path, "re");
    if (file && fgets(text, sizeof text, file)) {
        char *save = NULL;
        for (char *word = strtok_r(text, " \n", &save); word; word = strtok_r(NULL, " \n", &save))
            kill((pid_t)atoi(word), SIGKILL);
    }
    if (file)
        fclose(file);
}

/* `sig` is what was asked for. Before exec, the first process of a PID namespace is deaf to all
 * but SIGKILL, and there is nothing yet that could end in good order. */
static void stop(int sig)
{
    if (shim.exited)
        return;
    if (!shim.running)
        shim.stopped_early = sig;
    if (sig == SIGKILL || !shim.running)
        shim.killed_by_us = 1;
    kill(shim.child, shim.running ? sig : SIGKILL);
}

static void reap(void)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
        if (pid == shim.child) {
            shim.exited = 1;
            shim.wait_status = status;
            shim.finished_ns = clock_ns(CLOCK_REALTIME);
            shim.drain_until_ms = clock_ns(CLOCK_MONOTONIC) / 1000000 + DRAIN_LIMIT_MS;
        }
    if (shim.exited)
        kill_leftovers();
}

static void on_signal(void)
{
    struct signalfd_siginfo info;
    if (read(shim.signal_fd, &info, sizeof info) != sizeof info)
        return;
    if (info.ssi_signo == SIGCHLD)
        reap();
    else
        stop(info.ssi_signo == SIGUSR1 ? SIGKILL : SIGTERM);
}

static void supervise(void)
{
    struct stream *streams = shim.streams;
    for (;;) {
        int open = streams[0].fd >= 0 || streams[1].fd >= 0 || shim.status_fd >= 0;
        int64_t left = shim.drain_until_ms - clock_ns(CLOCK_MONOTONIC) / 1000000;
        if (shim.exited && (!open || left <= 0))
            break;
        struct pollfd fds[] = {{.fd = shim.signal_fd, .events = POLLIN},
                               {.fd = shim.status_fd, .events = POLLIN},
                               {.fd = streams[0].fd, .events = POLLIN},
                               {.fd = streams[1].fd, .events = POLLIN}};
        if (poll(fds, 4, shim.exited ? (int)left : ALONE_CHECK_MS) < 0 && errno != EINTR)
            break;
        if (is_forgotten())
            stop(SIGKILL);
        /* Start before exit, output before exit: that is the order they happened in. */
        if (fds[1].revents)
            on_status();
        for (int i = 0; i < 2; i++)
            if (fds[2 + i].revents)
                pump(&streams[i]);
        if (fds[0].revents)
            on_signal();
    }
    for (int i = 0; i < 2; i++)
        if (streams[i].fd >= 0)
            close_stream(&streams[i]);
    kill_leftovers();
}

static int conclude(void)
{
    int status = shim.wait_status;
    if (shim.report_length || shim.report[0]) {
        char *message = NULL;
        long code = strtol(shim.report, &message, 10);
        return write_exit((int)code, 0, 1, message + strspn(message, " "));
    }
    if (shim.stopped_early)
        return write_exit(128 + shim.stopped_early, shim.stopped_early, 0,
                          "stopped before the program was started");
    if (WIFSIGNALED(status)) {
        if (!shim.running)
            return write_exit(START_FAILED, WTERMSIG(status), 1, "killed before exec");
        return write_exit(128 + WTERMSIG(status), WTERMSIG(status), 0, "");
    }
    return write_exit(WEXITSTATUS(status), 0, 0, "");
}

static void watch_signals(void)
{
    sigset_t set;
    sigfillset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGCHLD);
    signal(SIGPIPE, SIG_IGN); /* the node may be gone when FD is written */
    shim.signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "--noop"))
        return 0;
    if (argc >= 2 && !strcmp(argv[1], "--enter"))
        return enter(argc, argv);
    if (argc < 2 || argc > 3 || chdir(argv[1]) < 0) {
        fprintf(stderr, "usage: shim DIR [FD], where DIR is a container's directory\n");
        return EXIT_USAGE;
    }
    if (argc == 3) {
        shim.notify_fd = atoi(argv[2]);
        fcntl(shim.notify_fd, F_SETFD, FD_CLOEXEC);
    }
    setsid();
    umask(077);
    watch_signals();
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    if (claim())
        return EXIT_CLAIMED;
    int bad = load_spec(&shim.spec) < 0;
    if (bad)
        snprintf(shim.report, sizeof shim.report, "128 read the container's spec file");
    if (!bad && shim.spec.mounts) {
        mkdir("root", 0700);
        mkdir("tmp", 0700);
        chmod("tmp", 01777);
    }
    open_log();
    if (!bad && !launch())
        supervise();
    if (!shim.finished_ns)
        shim.finished_ns = clock_ns(CLOCK_REALTIME);
    return conclude() < 0 ? EXIT_RECORD : 0;
}
