#define _GNU_SOURCE
#include "paths.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "files.h"
#include "start.h"

void refuse_made_up_links(const char *path)
{
    const struct { uint64_t flags, mode, resolve; } how = {
        .flags = O_PATH | O_CLOEXEC, .resolve = 2 /* RESOLVE_NO_MAGICLINKS */};
    int fd = (int)syscall(437 /* openat2 */, AT_FDCWD, path, &how, sizeof how);
    if (fd >= 0)
        close(fd);
    else if (errno == ELOOP)
        give_up(START_FAILED, "follow the links of", path);
}

void enter_directory(const char *path)
{
    const struct { uint64_t flags, mode, resolve; } how = {
        .flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = 2};
    int fd = (int)syscall(437, AT_FDCWD, *path ? path : "/", &how, sizeof how);
    if (fd < 0 && errno == ENOSYS) /* before Linux 5.6 */
        fd = open(*path ? path : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fchdir(fd) < 0)
        give_up(START_FAILED, "enter the working directory", path);
    close(fd);
}
