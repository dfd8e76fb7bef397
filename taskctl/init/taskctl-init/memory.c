#include "memory.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "basics.h"
#include "child.h"
#include "state.h"

enum {
    LOOK_MIN_MS = 50,
    LOOK_MAX_MS = 1000,
    LOOK_SLOW_MS = 5000,   /* where a single look takes long */
    COST_SHARE = 50,       /* times what a look took is the least pause after it */
    GROWTH_PER_MS = 1 << 20, /* as fast as a task is taken to grow: 1 GiB a second */
    NICE_MAX = 19,
};

typedef enum { UNKNOWN, OURS, OTHER } Kinship;

typedef struct {
    pid_t pid, parent;
    int64_t bytes;
    Kinship kinship;
} Process;

/* Takes parent and resident pages out of /proc/<pid>/stat (man 5 proc_pid_stat: fields 4 and 24). */
static bool process_read(int proc, const char *pid, Process *p) {
    enum { PARENT = 1, RESIDENT = 21 }; /* counted from the state, which follows the name */
    char path[64], text[1024];
    snprintf(path, sizeof path, "%.20s/stat", pid);
    int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    close_fd(&fd);
    if (n <= 0) return false;
    text[n] = 0;
    char *at = strrchr(text, ')'); /* the name may hold anything */
    if (at == NULL || at[1] != ' ') return false;
    at += 2;
    *p = (Process){.pid = (pid_t)strtol(pid, NULL, 10)};
    for (int field = 0; field <= RESIDENT; field++) {
        if (field == PARENT) p->parent = (pid_t)strtol(at, NULL, 10);
        if (field == RESIDENT) p->bytes = strtoll(at, NULL, 10) * (int64_t)sysconf(_SC_PAGESIZE);
        if (field < RESIDENT && (at = strchr(at, ' ')) == NULL) return false;
        at++;
    }
    return true;
}

static int by_pid(const void *a, const void *b) {
    pid_t x = ((const Process *)a)->pid, y = ((const Process *)b)->pid;
    return x < y ? -1 : x > y;
}

static Process *process_find(Process *list, size_t n, pid_t pid) {
    Process wanted = {.pid = pid};
    return bsearch(&wanted, list, n, sizeof *list, by_pid);
}

/* Whether a process comes from us. Who lost its parent between two reads does, if all here do. */
static Kinship process_kinship(Process *list, size_t n, Process *p) {
    Kinship found = UNKNOWN;
    Process *at = p;
    for (size_t steps = 0; found == UNKNOWN && steps <= n; steps++) {
        if (at->parent == S.proc_pid) found = OURS;
        else if (at->parent <= 0) found = OTHER;
        else if ((at = process_find(list, n, at->parent)) == NULL) found = getpid() == 1 ? OURS : OTHER;
        else if (at->kinship != UNKNOWN) found = at->kinship;
    }
    for (at = p; at && at->kinship == UNKNOWN; at = process_find(list, n, at->parent)) at->kinship = found;
    return found;
}

/* Lists the processes of the run, ourselves and the keeper left out. The list is to be freed. */
static Process *run_processes(size_t *count) {
    Process *list = NULL;
    size_t n = 0, size = 0, ours = 0;
    DIR *proc = opendir("/proc");
    for (struct dirent *entry; proc && (entry = readdir(proc));) {
        if (entry->d_name[0] < '1' || entry->d_name[0] > '9') continue;
        if (n == size) list = checked(realloc(list, (size = 2 * size + 64) * sizeof *list));
        n += process_read(dirfd(proc), entry->d_name, &list[n]);
    }
    if (proc) closedir(proc);
    if (n > 0) qsort(list, n, sizeof *list, by_pid);
    for (size_t i = 0; i < n; i++) {
        bool own = list[i].pid == S.proc_pid || list[i].pid == S.keeper_in_proc;
        if (list[i].kinship == UNKNOWN && !own) process_kinship(list, n, &list[i]);
        if (own) list[i].kinship = OTHER;
    }
    for (size_t i = 0; i < n; i++)
        if (list[i].kinship == OURS) list[ours++] = list[i];
    *count = ours;
    return list;
}

/* The proportional share of a process in bytes; what is known already where it cannot be read. */
static int64_t process_share(const Process *p) {
    char path[64], text[2048];
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)p->pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    close_fd(&fd);
    if (n <= 0) return p->bytes;
    text[n] = 0;
    const char *line = strstr(text, "\nPss:");
    return line ? strtoll(line + strlen("\nPss:"), NULL, 10) * 1024 : p->bytes;
}

/* The run holds too much: no grace, in which it would grow on; as the kernel does it. */
static void memory_exceeded(const Process *list, size_t n, int64_t held) {
    if (!S.stopping) {
        copy_text(S.reason, sizeof S.reason, "MemoryLimitExceeded", strlen("MemoryLimitExceeded"));
        snprintf(S.message, sizeof S.message, "They held %" PRId64 " MiB (%zu process%s).", held >> 20, n, n == 1 ? "" : "es");
    }
    S.stopping = true;
    kill_group(SIGKILL);
    if (S.proc_pid != getpid()) return; /* the list has other numbers than kill() */
    for (size_t i = 0; i < n; i++) kill(list[i].pid, SIGKILL);
}

void memory_look(void) {
    size_t n = 0;
    int64_t held = 0, begun = clock_read(CLOCK_MONOTONIC, 1000000);
    Process *list = run_processes(&n);
    for (size_t i = 0; i < n; i++) held += list[i].bytes;
    if (held > S.memory_bytes) {
        held = 0;
        for (size_t i = 0; i < n; i++) held += process_share(&list[i]);
    }
    if (held > S.memory_bytes) memory_exceeded(list, n, held);
    free(list);
    int64_t left = held < S.memory_bytes ? S.memory_bytes - held : 0;
    int64_t pause = earlier(left / GROWTH_PER_MS, LOOK_MAX_MS);
    int64_t cost = earlier((clock_read(CLOCK_MONOTONIC, 1000000) - begun) * COST_SHARE / 1000, LOOK_SLOW_MS);
    if (pause < LOOK_MIN_MS) pause = LOOK_MIN_MS;
    S.memory_at = after(pause > cost ? pause : cost);
}

void memory_watch(void) {
    bool wanted = S.memory_bytes > 0;
    if (wanted && S.proc_pid <= 0) note("/proc is not mounted, so the memory limit of the task cannot be watched");
    S.memory_at = wanted && S.proc_pid > 0 ? after(LOOK_MIN_MS) : NEVER;
}

int nice_for(int64_t cpu_milli) {
    int nice = getpriority(PRIO_PROCESS, 0);
    if (cpu_milli <= 0) return nice;
    for (int64_t weight = 1000; nice < NICE_MAX && weight * 9 / 10 > cpu_milli; nice++) weight = weight * 4 / 5;
    return nice;
}
