#define _GNU_SOURCE
#include "image.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files.h"
#include "root.h"
#include "start.h"

static void ensure_directory(const char *path, mode_t mode)
{
    struct stat st;
    if (lstat(path, &st) < 0)
        make_entry(path, 1, mode);
    else if (!S_ISDIR(st.st_mode)) {
        errno = ENOTDIR;
        give_up(START_FAILED, "mount on", path);
    }
}

/* Returns 0, or -1 where there can be no overlay. */
static int mount_overlay(const struct spec *spec, const char *image, const struct stat *st)
{
    static const char *const kinds[] = {",volatile", ""}; /* volatile: nobody needs it after a crash */
    char options[256];
    if ((mkdir("upper", 0755) < 0 || mkdir("work", 0700) < 0) && errno != EEXIST)
        return -1;
    /* Also where they got the group of the directory above, which a user namespace does not know. */
    if (chown("upper", st->st_uid, st->st_gid) < 0 || chown("work", st->st_uid, st->st_gid) < 0)
        return -1;
    if (chmod("upper", st->st_mode & 01777) < 0)
        return -1;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        snprintf(options, sizeof options, "lowerdir=%s,upperdir=upper,workdir=work%s%s", image,
                 spec->user ? ",userxattr" : "", kinds[i]);
        if (!mount("overlay", ROOT, "overlay", MS_NOSUID | MS_NODEV, options))
            return 0;
    }
    return -1;
}

static void bind_image(const struct spec *spec, const char *image)
{
    if (mount("tmpfs", ROOT, "tmpfs", MS_NOSUID | MS_NODEV, TMPFS_OPTIONS) < 0)
        give_up(START_FAILED, "mount a tmpfs on", ROOT);
    DIR *dir = opendir(image);
    if (!dir)
        give_up(START_FAILED, "list the image's directory", spec->rootfs);
    for (struct dirent *entry; (entry = readdir(dir));) {
        const char *name = entry->d_name;
        if (!is_dots(name) && strcmp(name, "proc") && strcmp(name, "sys") && strcmp(name, "dev") &&
            strcmp(name, "tmp"))
            show(spec, image, ROOT, name, 1);
    }
    closedir(dir);
    make_entry(ROOT "/tmp", 1, 0755);
    attach(spec, "tmp", ROOT "/tmp", 0);
}

void fill_image_root(const struct spec *spec)
{
    char image[64];
    struct stat st;
    int fd = open(spec->rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        give_up(START_FAILED, "open the image's directory", spec->rootfs);
    snprintf(image, sizeof image, "/proc/self/fd/%d", fd); /* no character that overlay would split at */
    if (mount_overlay(spec, image, &st) < 0)
        bind_image(spec, image);
    close(fd);
    ensure_directory(ROOT "/dev", 0755);
    ensure_directory(ROOT "/proc", 0555);
    ensure_directory(ROOT "/sys", 0555);
    attach(spec, "/sys", ROOT "/sys", !spec->privileged);
    if (spec->privileged)
        attach(spec, "/dev", ROOT "/dev", 0);
}

/* ---- user --------------------------------------------------------------------------------- */

void take_user(const struct spec *spec)
{
    if (!spec->has_user || spec->user)
        return;
    for (int fd = 0; fd < 3; fd++) { /* /dev/stdout and the like must be open to it */
        struct stat st;
        if (!fstat(fd, &st) && S_ISFIFO(st.st_mode))
            (void)!fchown(fd, spec->uid, spec->gid);
    }
    if (setgroups(spec->group_count, spec->groups) < 0 ||
        setresgid(spec->gid, spec->gid, spec->gid) < 0 ||
        setresuid(spec->uid, spec->uid, spec->uid) < 0)
        give_up(START_FAILED, "become", "the container's user");
    /* A change of user clears this. If the shim ended before it is set again, nobody reads what
     * would be reported. */
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    struct pollfd report = {.fd = report_fd};
    if (poll(&report, 1, 0) > 0 && report.revents & POLLERR)
        _exit(START_FAILED);
}
