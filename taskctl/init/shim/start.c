#include "start.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files.h"
#include "guard.h"
#include "image.h"
#include "paths.h"
#include "root.h"

int report_fd = -1;

void give_up(int code, const char *what, const char *object)
{
    dprintf(report_fd, "%d %s %s: %s\n", code, what, object, strerror(errno));
    _exit(code);
}

/* ---- the container's first process ----------------------------------------------------- */

void execute(const struct spec *spec)
{
    const char *name = spec->args[0], *path = "/usr/local/bin:/usr/bin:/bin";
    int seen = ENOENT;
    for (size_t i = 0; i < spec->env_count; i++)
        if (!strncmp(spec->env[i], "PATH=", 5))
            path = spec->env[i] + 5;
    if (strchr(name, '/')) {
        execve(name, spec->args, spec->env);
        seen = errno;
    } else
        while (*name) {
            char full[PATH_MAX];
            size_t n = strcspn(path, ":");
            snprintf(full, sizeof full, "%.*s%s%s", (int)n, path, n ? "/" : "", name);
            execve(full, spec->args, spec->env);
            if (errno != ENOENT && errno != ENOTDIR)
                seen = errno;
            if (!path[n])
                break;
            path += n + 1;
        }
    errno = seen;
    give_up(seen == ENOENT || seen == ENOTDIR ? NOT_FOUND : NOT_EXECUTABLE, "exec", name);
}

void surrender(const struct spec *spec)
{
    sigset_t none;
    if (!spec->privileged)
        bound_capabilities(spec->capabilities);
    take_user(spec);
    if (!spec->privileged)
        drop_capabilities(spec->capabilities);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        give_up(START_FAILED, "set", "no_new_privs");
    for (int fd = 3; fd < 256; fd++) /* all of ours are close-on-exec; others may not be */
        if (fd != report_fd)
            close(fd);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (spec->privileged)
        return;
    keep_from_abstract_sockets();
    if (!spec->all_calls)
        filter_calls(spec);
}

void become(struct spec *spec, int go_fd, int out_fd, int err_fd)
{
    char go;
    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL); /* ignored signals would stay ignored over exec */
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    /* Nothing to read means that the shim died before the line above took effect. */
    if (read(go_fd, &go, 1) != 1)
        _exit(START_FAILED);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0 || setsid() < 0)
        give_up(START_FAILED, "open", "/dev/null");
    umask(022);
    if (spec->mounts)
        enter_root(spec);
    enter_directory(spec->cwd);
    if (dup2(null, 0) < 0 || dup2(out_fd, 1) < 0 || dup2(err_fd, 2) < 0)
        give_up(START_FAILED, "set up", "stdin, stdout and stderr");
    surrender(spec);
    execute(spec);
}
