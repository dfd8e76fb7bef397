#define _GNU_SOURCE
#include "guard.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "basics.h"
#include "state.h"

void process_protect(void) {
    prctl(PR_SET_DUMPABLE, 0);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* another process of our user may set our RLIMIT_FSIZE */
    signal(SIGXCPU, SIG_IGN);
}

int proc_self(void) { /* our PID in /proc, which may be that of another PID namespace; or 0 */
    char pid[32] = "";
    return readlink("/proc/self", pid, sizeof pid - 1) > 0 ? atoi(pid) : 0;
}

__attribute__((noreturn)) static void keeper_main(int keys, int ready, char *secret) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    memset(secret, 'x', strlen(secret));
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "taskctl-keys");
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), self = proc_self();
    for (int fd = 0; fd <= 2; fd++)
        if (null < 0 || dup2(null, fd) < 0) close(fd); /* nobody shall wait for us to close them */
    if (null > 2) close(null);
    if (write(ready, &self, sizeof self) < 0) _exit(1);
    close(ready);
    while (keys >= 0) pause();
    _exit(0);
}

void keeper_start(char *secret) {
    int ready[2], keys = memfd_create("taskctl-keys", MFD_CLOEXEC);
    if (keys < 0 || pipe2(ready, O_CLOEXEC) != 0) return close_fd(&keys);
    S.keeper = fork();
    if (S.keeper == 0) keeper_main(keys, ready[1], secret);
    close(ready[1]);
    if (S.keeper < 0 || read(ready[0], &S.keeper_in_proc, sizeof S.keeper_in_proc) != sizeof S.keeper_in_proc)
        S.keeper_in_proc = 0;
    close(ready[0]);
    S.keys_fd = keys;
}

bool is_from_inside(const struct signalfd_siginfo *info) {
    return info->ssi_code <= 0 && info->ssi_pid != 0 && (pid_t)info->ssi_pid != getppid();
}
