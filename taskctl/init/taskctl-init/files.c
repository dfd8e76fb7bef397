#define _GNU_SOURCE
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "basics.h"
#include "state.h"

enum { SHARED_DIRECTORY = 01777 }; /* sticky and for all: tasks of other users share them */

#define NO_TRAPS (O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)

/* Opens a directory in another one, and makes it if it is not there. Takes `above` over. */
static int enter_directory(int above, const char *name) {
    int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(above, name, flags);
    if (fd < 0 && errno == ENOENT) {
        mode_t mask = umask(0);
        int made = mkdirat(above, name, SHARED_DIRECTORY);
        umask(mask);
        if (made == 0 || errno == EEXIST) fd = openat(above, name, flags);
    }
    int error = errno;
    close(above);
    errno = error;
    return fd;
}

int open_parent(const char *path, char name[NAME_MAX + 1]) {
    size_t root = strlen(S.workspace);
    bool inside = root > 0 && strncmp(path, S.workspace, root) == 0 && path[root] == '/';
    int fd = open(inside ? S.workspace : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    const char *part = path + (inside ? root : 0);
    for (size_t n; fd >= 0; part += n) {
        part += strspn(part, "/");
        n = strcspn(part, "/");
        bool leaves = n == 2 && part[0] == '.' && part[1] == '.';
        if (n == 0 || n > NAME_MAX || leaves) {
            close_fd(&fd);
            errno = n > NAME_MAX ? ENAMETOOLONG : EINVAL;
            return -1;
        }
        memcpy(name, part, n);
        name[n] = 0;
        if (part[n] == 0) return fd;
        if (n == 1 && part[0] == '.') continue;
        fd = enter_directory(fd, name);
    }
    return -1;
}

/* Opens a file for appending. -1 and errno where it is no regular file of its own. */
static int open_to_append(int parent, const char *name, int more) {
    struct stat file;
    int fd = openat(parent, name, O_WRONLY | O_CREAT | O_APPEND | NO_TRAPS | more, 0640);
    if (fd < 0 || (fstat(fd, &file) == 0 && S_ISREG(file.st_mode) && file.st_nlink == 1)) return fd;
    close_fd(&fd);
    errno = EINVAL;
    return -1;
}

/* Whether an open() failed because of what somebody put there, and not for want of space. */
static bool is_trap(int error) {
    return error == ELOOP || error == ENXIO || error == EINVAL || error == EISDIR || error == EAGAIN || error == EACCES;
}

int open_own(int parent, const char *name) {
    char aside[32];
    int fd = open_to_append(parent, name, 0);
    if (fd >= 0 || S.workspace[0] == 0 || !is_trap(errno)) return fd;
    int error = errno;
    snprintf(aside, sizeof aside, "moved-%016" PRIx64, (uint64_t)clock_read(CLOCK_REALTIME, 1000000000));
    if (renameat(parent, name, parent, aside) != 0) return errno = error, -1;
    note("%s/%s was no file that could be written; it is %s now", S.workspace, name, aside);
    return open_to_append(parent, name, O_EXCL);
}

bool write_all(int fd, const uint8_t *data, size_t n) {
    while (n > 0) {
        ssize_t written = write(fd, data, n);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return false;
        data += written, n -= (size_t)written;
    }
    return true;
}

bool replace_file(const char *path, const uint8_t *data, size_t n) {
    char name[NAME_MAX + 1], temporary[NAME_MAX + 8];
    int fd = -1, synced = -1, parent = open_parent(path, name);
    if (parent < 0) return false;
    snprintf(temporary, sizeof temporary, "%s.tmp", name);
    bool good = (unlinkat(parent, temporary, 0) == 0 || errno == ENOENT) &&
                (fd = openat(parent, temporary, O_WRONLY | O_CREAT | O_EXCL | NO_TRAPS, 0644)) >= 0;
    if (good) {
        good = fchmod(fd, 0644) == 0 && write_all(fd, data, n) && fsync(fd) == 0 &&
               renameat(parent, temporary, parent, name) == 0;
        int error = errno;
        if (!good) unlinkat(parent, temporary, 0);
        errno = error;
    }
    good = good && (synced = openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0 && fsync(synced) == 0;
    int error = errno;
    close_fd(&fd), close_fd(&synced), close_fd(&parent);
    errno = error;
    return good;
}
