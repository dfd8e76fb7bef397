#define _GNU_SOURCE
#include "enter.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "files.h"
#include "paths.h"
#include "start.h"

/* The container's first process: the one that `started` names, if the shim in `claim` lives and is
 * its parent. Returns 0 when there is none. */
static pid_t running_process(void)
{
    char text[64], path[64], *end = NULL;
    int fd = open("claim", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || !flock(fd, LOCK_SH | LOCK_NB) || errno != EWOULDBLOCK)
        return 0; /* whoever gets the lock knows that the shim is dead */
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    long shim_pid = n > 0 ? (text[n] = 0, strtol(text, NULL, 10)) : 0;
    size_t size = 0;
    char *started = read_whole("started", &size);
    long pid = started && !strncmp(started, "pid ", 4) ? strtol(started + 4, &end, 10) : 0;
    free(started);
    if (pid <= 0 || shim_pid <= 0)
        return 0;
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    char line[512];
    FILE *file = fopen(path, "re");
    char *rest = file && fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
    if (file)
        fclose(file);
    long parent = 0;
    int ours = rest && sscanf(rest + 1, " %*c %ld", &parent) == 1 && parent == shim_pid;
    return ours ? (pid_t)pid : 0;
}

static void join_namespaces(const struct spec *spec, pid_t pid)
{
    /* The user namespace first: it gives the right to enter the others. */
    const struct { const char *name; int type, wanted; } kinds[] = {
        {"user", CLONE_NEWUSER, spec->user}, {"pid", CLONE_NEWPID, spec->pids},
        {"mnt", CLONE_NEWNS, spec->mounts}};
    int fds[3] = {-1, -1, -1};
    for (int i = 0; i < 3; i++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)pid, kinds[i].name);
        if (kinds[i].wanted && (fds[i] = open(path, O_RDONLY | O_CLOEXEC)) < 0)
            give_up(START_FAILED, "open", path);
    }
    /* The process may have ended, and its number been given away, before they were opened. */
    if (running_process() != pid) {
        errno = ESRCH;
        give_up(START_FAILED, "enter", "the container");
    }
    for (int i = 0; i < 3; i++)
        if (fds[i] >= 0 && setns(fds[i], kinds[i].type) < 0)
            give_up(START_FAILED, "enter the namespace", kinds[i].name);
}

int enter(int argc, char **argv)
{
    static struct spec spec;
    if (argc < 6 || chdir(argv[2]) < 0)
        return EXIT_USAGE;
    report_fd = atoi(argv[3]);
    fcntl(report_fd, F_SETFD, FD_CLOEXEC);
    int tty = !strcmp(argv[4], "tty");
    pid_t pid = running_process();
    if (load_spec(&spec) < 0 || !pid) {
        errno = ESRCH;
        give_up(START_FAILED, "find", "the container's first process");
    }
    spec.args = argv + 5;
    int has_term = !tty;
    for (size_t i = 0; i < spec.env_count; i++)
        has_term |= !strncmp(spec.env[i], "TERM=", 5);
    if (!has_term) /* as containerd; the array has room for as many entries as there are tokens */
        spec.env[spec.env_count++] = "TERM=xterm";
    if (spec.mounts)
        join_namespaces(&spec, pid);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    pid_t child = fork(); /* only a child is in the new PID namespace */
    if (child < 0)
        give_up(START_FAILED, "create", "the process");
    if (!child) {
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        umask(022);
        if (setsid() < 0 || (tty && ioctl(0, TIOCSCTTY, 0) < 0))
            give_up(START_FAILED, "open", "a session");
        enter_directory(spec.cwd);
        surrender(&spec);
        execute(&spec);
    }
    close(report_fd);
    for (int fd = 0; fd < 3; fd++)
        close(fd); /* the ends of the streams are to be seen when the command closes them */
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
