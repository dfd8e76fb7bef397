/* Keeps the supervisor out of the reach of the command it runs, which is of the same user;
 * included by taskctl-init.c alone.
 *
 * As PID 1 of its namespace no signal from inside kills or stops it. Its memory, environment and
 * descriptors hold the token by which runs are reported: no other process may trace or read it. */
#ifndef INIT_GUARD_H
#define INIT_GUARD_H

/* Not dumpable: no ptrace, no process_vm_readv, no /proc/<pid>/{mem,environ,fd} without
 * CAP_SYS_PTRACE, whatever Yama says, and no core with the token in it (man 2 prctl). */
static void process_protect(void) {
    prctl(PR_SET_DUMPABLE, 0);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* another process of our user may set our RLIMIT_FSIZE */
    signal(SIGXCPU, SIG_IGN);
}

static int proc_self(void) { /* our PID in /proc, which may be that of another PID namespace; or 0 */
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

/* The file of spawn keys is for the task's processes, which open it as /proc/<pid>/fd/<n>: of us
 * they may open nothing. So a process without secrets holds it. It is forked before there are
 * any, except for the nonce (`secret`), and stays readable. It only ever sleeps. */
static void keeper_start(char *secret) {
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

/* Whether a signal came from the command or its like rather than from whoever runs the container,
 * who is in another PID namespace (shown as 0), or our parent. */
static bool is_from_inside(const struct signalfd_siginfo *info) {
    return info->ssi_code <= 0 && info->ssi_pid != 0 && (pid_t)info->ssi_pid != getppid();
}

#endif
