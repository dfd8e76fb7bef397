#include "debug.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "args.h"
#include "basics.h"

enum { DEBUG_LOOK_S = 30, DEBUG_IDLE_LOOKS = 4 };

/* Calls visit for each process that we see but ourselves, until it returns false. */
static void each_process(bool (*visit)(pid_t pid, void *arg), void *arg) {
    DIR *proc = opendir("/proc");
    if (proc == NULL) return;
    bool more = true;
    for (struct dirent *entry; more && (entry = readdir(proc)) != NULL;) {
        char *end;
        long pid = strtol(entry->d_name, &end, 10);
        if (pid > 0 && *end == 0 && pid != getpid()) more = visit((pid_t)pid, arg);
    }
    closedir(proc);
}

static bool note_other(pid_t pid, void *arg) {
    (void)pid;
    *(bool *)arg = true;
    return false;
}

/* Whoever debugs may have gone without a word: alone in our PID namespace, we are of no use. */
static bool is_alone(void) {
    bool others = false;
    if (getpid() != 1) return false;
    each_process(note_other, &others);
    return !others;
}

int debug_hold(char **argv) {
    char *end = NULL;
    long seconds = argv[0] && argv[1] && !argv[2] ? strtol(argv[1], &end, 10) : 0;
    if (seconds <= 0 || *end) usage("debug-hold wants NAME SECONDS");
    sigset_t set;
    sigemptyset(&set);
    static const int wanted[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) sigaddset(&set, wanted[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int64_t until = now_ms() + seconds * 1000, look_at = now_ms() + DEBUG_LOOK_S * 1000;
    int idle = 0;
    while (true) {
        while (waitpid(-1, NULL, WNOHANG) > 0) continue;
        int64_t now = now_ms();
        if (now >= look_at) {
            look_at = now + DEBUG_LOOK_S * 1000;
            idle = is_alone() ? idle + 1 : 0;
        }
        if (now >= until || idle >= DEBUG_IDLE_LOOKS) return 0;
        int64_t wait = earlier(until, look_at) - now;
        struct timespec limit = {.tv_sec = wait / 1000, .tv_nsec = wait % 1000 * 1000000};
        int signal = sigtimedwait(&set, NULL, &limit);
        if (signal > 0 && signal != SIGCHLD) return 0;
    }
}

static bool end_holder(pid_t pid, void *arg) {
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, line, sizeof line - 1);
    if (fd >= 0) close(fd);
    if (n <= 0) return true;
    line[n] = 0;
    const char *verb = line + strlen(line) + 1, *limit = line + n;
    if (verb >= limit || strcmp(verb, "debug-hold") != 0) return true;
    const char *name = verb + strlen(verb) + 1;
    if (name < limit && strcmp(name, (const char *)arg) == 0) kill(pid, SIGTERM);
    return true;
}

int debug_end(char **argv) {
    if (argv[0] == NULL || argv[1]) usage("debug-end wants NAME");
    each_process(end_holder, argv[0]);
    return 0;
}
