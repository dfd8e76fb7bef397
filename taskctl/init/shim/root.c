#define _GNU_SOURCE
#include "root.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "files.h"
#include "guard.h"
#include "image.h"
#include "paths.h"
#include "start.h"

#define SYS_OPEN_TREE 428 /* the numbers are the same on every architecture */
#define SYS_MOVE_MOUNT 429
#define SYS_MOUNT_SETATTR 442
#define OPEN_TREE_FLAGS (1 /* CLONE */ | O_CLOEXEC | 0x8000 /* AT_RECURSIVE */)
#define MOVE_FROM_FD 4 /* MOVE_MOUNT_F_EMPTY_PATH */
#define ATTR_RDONLY 1  /* MOUNT_ATTR_RDONLY */
#define OLD "/.old-root"

struct mount_attributes {
    uint64_t set, clear, propagation, userns_fd;
};

/* File systems made here, in which new names may be created. The first is the root. */
static struct {
    dev_t device;
    char *path;
} owned[64];

static size_t own_count;

static void own(const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0)
        give_up(START_FAILED, "stat", path);
    if (own_count == sizeof owned / sizeof *owned) {
        errno = E2BIG;
        give_up(START_FAILED, "too many mount points below read-only directories", path);
    }
    owned[own_count].device = st.st_dev;
    owned[own_count++].path = strdup(path);
}

static int is_own(const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return 0;
    for (size_t i = 0; i < own_count; i++)
        if (owned[i].device == st.st_dev)
            return 1;
    return 0;
}

/* In mountinfo a blank, tab, newline or backslash of a path is written as \ooo. */
static void unescape(char *text)
{
    char *out = text;
    for (; *text; text++)
        if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' && text[2] && text[3]) {
            *out++ = (char)((text[1] - '0') * 64 + (text[2] - '0') * 8 + (text[3] - '0'));
            text += 3;
        } else
            *out++ = *text;
    *out = 0;
}

/* MS_* flags that a remount must repeat: in a user namespace they are locked. */
static unsigned long kept_flags(const char *options)
{
    static const struct { const char *word; unsigned long flag; } known[] = {
        {"nosuid", MS_NOSUID}, {"nodev", MS_NODEV}, {"noexec", MS_NOEXEC},
        {"noatime", MS_NOATIME}, {"nodiratime", MS_NODIRATIME}, {"relatime", MS_RELATIME}};
    unsigned long flags = 0;
    char copy[512], *save = NULL;
    snprintf(copy, sizeof copy, "%s", options);
    for (char *word = strtok_r(copy, ",", &save); word; word = strtok_r(NULL, ",", &save))
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            if (!strcmp(word, known[i].word))
                flags |= known[i].flag;
    return flags;
}

/* Kernels before 5.12: remount each mount at or below `path`. */
static void remount_readonly(const char *path)
{
    char top[PATH_MAX], *line = NULL;
    size_t room = 0;
    if (!realpath(path, top))
        give_up(START_FAILED, "resolve", path);
    FILE *mounts = fopen("/proc/self/mountinfo", "re");
    if (!mounts)
        give_up(START_FAILED, "open", "/proc/self/mountinfo");
    while (getline(&line, &room, mounts) > 0) {
        char *save = NULL, *point = NULL, *options = NULL;
        char *word = strtok_r(line, " ", &save);
        for (int i = 0; word && i <= 5; i++, word = strtok_r(NULL, " ", &save)) {
            if (i == 4)
                point = word;
            if (i == 5)
                options = word;
        }
        if (!point || !options)
            continue;
        unescape(point);
        size_t n = strlen(top);
        if (strncmp(point, top, n) || (point[n] && point[n] != '/'))
            continue;
        unsigned long flags = MS_REMOUNT | MS_BIND | MS_RDONLY | kept_flags(options);
        /* A mount hidden below another cannot be reached, nor can anyone write through it. The same
         * goes for one below a directory of a user who is not ours (EACCES): our own root may enter
         * every directory of the users that are. */
        if (mount(NULL, point, NULL, flags, NULL) < 0 && errno != EINVAL && errno != ENOENT &&
            errno != EACCES)
            give_up(START_FAILED, "remount read-only", point);
    }
    free(line);
    fclose(mounts);
}

/* A copy of the mount of `source`, with all that is mounted below it, that is mounted nowhere. */
static int clone_mount(const char *source, int readonly, const char *target)
{
    int tree = (int)syscall(SYS_OPEN_TREE, AT_FDCWD, source, OPEN_TREE_FLAGS);
    if (tree < 0)
        give_up(START_FAILED, "clone the mount for", target);
    struct mount_attributes attributes = {.set = ATTR_RDONLY};
    if (readonly && syscall(SYS_MOUNT_SETATTR, tree, "", AT_EMPTY_PATH | 0x8000, &attributes,
                            sizeof attributes) < 0)
        give_up(START_FAILED, "make read-only", target);
    return tree;
}

static void put_mount(int tree, const char *target)
{
    if (syscall(SYS_MOVE_MOUNT, tree, "", AT_FDCWD, target, MOVE_FROM_FD) < 0)
        give_up(START_FAILED, "mount on", target);
    close(tree);
}

void attach(const struct spec *spec, const char *source, const char *target, int readonly)
{
    if (spec->old_mount_api) {
        if (mount(source, target, NULL, MS_BIND | MS_REC, NULL) < 0)
            give_up(START_FAILED, "bind on", target);
        if (readonly)
            remount_readonly(target);
        return;
    }
    put_mount(clone_mount(source, readonly, target), target);
}

void make_entry(const char *path, int is_dir, mode_t mode)
{
    int fd = -1;
    if (is_dir ? mkdir(path, mode) < 0 : (fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, mode)) < 0)
        give_up(START_FAILED, "create", path);
    if (fd >= 0)
        close(fd);
}

void show(const struct spec *spec, const char *from, const char *to, const char *name,
                 int readonly)
{
    char source[PATH_MAX], target[PATH_MAX], link[PATH_MAX];
    struct stat st;
    snprintf(source, sizeof source, "%s/%s", from, name);
    snprintf(target, sizeof target, "%s/%s", to, name);
    if (lstat(source, &st) < 0)
        return; /* gone since it was listed */
    if (S_ISLNK(st.st_mode)) {
        ssize_t n = readlink(source, link, sizeof link - 1);
        if (n < 0)
            return;
        link[n] = 0;
        if (symlink(link, target) < 0)
            give_up(START_FAILED, "create", target);
        return;
    }
    make_entry(target, S_ISDIR(st.st_mode), S_ISDIR(st.st_mode) ? 0755 : 0644);
    attach(spec, source, target, readonly);
}

int is_dots(const char *name)
{
    return !strcmp(name, ".") || !strcmp(name, "..");
}

/* Disks and consoles are of no use in a container and would cost a mount each. */
static int is_spared_device(const char *directory, const char *name)
{
    char path[PATH_MAX];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    if (lstat(path, &st) < 0)
        return 1;
    return S_ISBLK(st.st_mode) || !strncmp(name, "vcs", 3) ||
           (!strncmp(name, "tty", 3) && name[3]) || !strncmp(name, "console", 7);
}

static void spread(const struct spec *spec, const char *path)
{
    char from[64], options[64], full[PATH_MAX];
    struct stat st;
    DIR *dir = opendir(path);
    if (!dir || fstat(dirfd(dir), &st) < 0 || !realpath(path, full))
        give_up(START_FAILED, "list", path);
    int devices = !strcmp(full, "/dev");
    snprintf(from, sizeof from, "/proc/self/fd/%d", dirfd(dir));
    snprintf(options, sizeof options, "mode=%o,size=64m", (unsigned)st.st_mode & 07777);
    if (mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, options) < 0)
        give_up(START_FAILED, "mount a tmpfs on", path);
    own(path);
    for (struct dirent *entry; (entry = readdir(dir));)
        if (!is_dots(entry->d_name) && !(devices && is_spared_device(from, entry->d_name)))
            show(spec, from, path, entry->d_name, 0); /* a clone keeps "read-only" */
    closedir(dir);
}

static int is_kernel_path(const char *path, const char *top)
{
    size_t n = strlen(top);
    return !strncmp(path, top, n) && (!path[n] || path[n] == '/');
}

/* Make sure that `path` exists, so that something can be mounted there. */
static void make_target(const struct spec *spec, const char *path, int is_dir)
{
    char partial[PATH_MAX], parent[PATH_MAX];
    struct stat st;
    size_t length = strlen(path);
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i])
            continue;
        int last = i == length;
        snprintf(partial, sizeof partial, "%.*s", (int)i, path);
        refuse_made_up_links(partial);
        if (!stat(partial, &st))
            continue;
        if (errno != ENOENT)
            give_up(START_FAILED, "look up", partial);
        snprintf(parent, sizeof parent, "%.*s", (int)(strrchr(partial, '/') - partial), partial);
        if (!*parent)
            strcpy(parent, "/");
        char real[PATH_MAX];
        if (!realpath(parent, real))
            give_up(START_FAILED, "resolve", parent);
        struct statvfs vfs;
        int readonly = statvfs(parent, &vfs) == 0 && (vfs.f_flag & ST_RDONLY);
        if (is_kernel_path(real, "/proc") || is_kernel_path(real, "/sys")) {
            errno = EROFS;
            give_up(START_FAILED, "create a mount point", partial);
        }
        /* /dev is writable and the host's: never create a name in it. */
        if (!is_own(parent) && (readonly || is_kernel_path(real, "/dev")))
            spread(spec, parent);
        make_entry(partial, last ? is_dir : 1, last && !is_dir ? 0644 : 0755);
    }
}

/* Open `path` below the directory `fd`, which is closed. Each part is opened on its own and must
 * not be a link, so what containers do there meanwhile never leads out of the directory. */
static int open_below(int fd, const char *path)
{
    struct stat st;
    char part[NAME_MAX + 1];
    for (size_t n; fd >= 0 && *path; path += n + (path[n] == '/')) {
        n = strcspn(path, "/");
        snprintf(part, sizeof part, "%.*s", (int)n, path);
        if (!n || n >= sizeof part || is_dots(part)) {
            errno = EINVAL;
            return -1;
        }
        int next = openat(fd, part, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        close(fd);
        fd = next;
        if (fd >= 0 && (fstat(fd, &st) < 0 || S_ISLNK(st.st_mode))) {
            errno = ELOOP;
            return -1;
        }
    }
    return fd;
}

static void open_sources(struct spec *spec)
{
    for (size_t i = 0; i < spec->op_count; i++) {
        struct op *op = &spec->ops[i];
        struct stat st;
        if (op->kind == OP_MASK)
            continue;
        op->fd = open(op->source, O_PATH | O_CLOEXEC);
        if (op->below)
            op->fd = open_below(op->fd, op->below);
        if (op->fd < 0 || fstat(op->fd, &st) < 0)
            give_up(START_FAILED, "open the source of a mount",
                    op->below ? op->below : op->source);
        op->is_dir = S_ISDIR(st.st_mode);
        if (spec->old_mount_api)
            continue;
        char source[64];
        snprintf(source, sizeof source, "/proc/self/fd/%d", op->fd);
        int tree = clone_mount(source, op->kind == OP_BIND_RO, op->target);
        close(op->fd);
        op->fd = tree;
    }
}

void mask(const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return; /* nothing to hide */
    if (S_ISDIR(st.st_mode) ? mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_RDONLY,
                                    "mode=555,size=4k") < 0
                            : mount("/dev/null", path, NULL, MS_BIND, NULL) < 0)
        give_up(START_FAILED, "hide", path);
}

static void fill_root(const struct spec *spec)
{
    struct stat st;
    char path[PATH_MAX];
    DIR *host = opendir("/");
    if (!host)
        give_up(START_FAILED, "list", "/");
    for (struct dirent *entry; (entry = readdir(host));) {
        const char *name = entry->d_name;
        if (is_dots(name) || !strcmp(name, "proc") || !strcmp(name, "tmp") ||
            (!spec->privileged && (!strcmp(name, "dev") || !strcmp(name, "run"))))
            continue;
        snprintf(path, sizeof path, "%s/%s", spec->image, name);
        if (*spec->image && strcmp(name, "dev") && !lstat(path, &st))
            continue;
        show(spec, "", ROOT, name,
             !(spec->privileged && (!strcmp(name, "sys") || !strcmp(name, "dev"))));
    }
    closedir(host);
    DIR *image = *spec->image ? opendir(spec->image) : NULL;
    if (*spec->image && !image)
        give_up(START_FAILED, "list the image's directory", spec->image);
    for (struct dirent *entry; image && (entry = readdir(image));)
        if (!is_dots(entry->d_name) && strcmp(entry->d_name, "proc") &&
            strcmp(entry->d_name, "tmp") && strcmp(entry->d_name, "dev"))
            show(spec, spec->image, ROOT, entry->d_name, 1);
    if (image)
        closedir(image);
    if (!spec->privileged) {
        make_devices(spec);
        if (lstat(ROOT "/run", &st) < 0) /* the host's is full of sockets that give power over it */
            make_entry(ROOT "/run", 1, 0755);
    }
    make_entry(ROOT "/tmp", 1, 0755);
    attach(spec, "tmp", ROOT "/tmp", 0);
    make_entry(ROOT "/proc", 1, 0555);
}

static void mount_proc(const struct spec *spec)
{
    if (!spec->own_proc)
        attach(spec, "/proc", ROOT "/proc", 0);
    else if (mount("proc", ROOT "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        give_up(START_FAILED, "mount", "/proc");
}

static void apply_ops(const struct spec *spec)
{
    char source[64];
    for (size_t i = 0; i < spec->op_count; i++) {
        const struct op *op = &spec->ops[i];
        if (op->kind == OP_MASK) {
            mask(op->target);
            continue;
        }
        make_target(spec, op->target, op->is_dir);
        if (!spec->old_mount_api) {
            put_mount(op->fd, op->target);
            continue;
        }
        snprintf(source, sizeof source, "/proc/self/fd/%d", op->fd);
        attach(spec, source, op->target, op->kind == OP_BIND_RO);
        close(op->fd);
    }
}

static void let_go_of_the_host(void)
{
    if (umount2(OLD, MNT_DETACH) < 0 || rmdir(OLD) < 0)
        give_up(START_FAILED, "let go of", OLD);
}

static void close_for_writing(const char *path)
{
    if (mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) < 0)
        give_up(START_FAILED, "make read-only", path);
}

void enter_root(struct spec *spec)
{
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        give_up(START_FAILED, "make the mounts private", "/");
    open_sources(spec);
    if (*spec->rootfs) {
        if (spec->old_mount_api) {
            errno = ENOSYS;
            give_up(START_FAILED, "run in an image before Linux 5.12", "");
        }
        fill_image_root(spec);
        if (!spec->privileged)
            make_devices(spec);
    } else {
        if (mount("tmpfs", ROOT, "tmpfs", MS_NOSUID | MS_NODEV, TMPFS_OPTIONS) < 0)
            give_up(START_FAILED, "mount a tmpfs on", ROOT);
        fill_root(spec);
    }
    mount_proc(spec);
    make_entry(ROOT OLD, 1, 0700);
    if (syscall(SYS_pivot_root, ROOT, ROOT OLD) < 0)
        give_up(START_FAILED, "pivot into", ROOT);
    if (chdir("/") < 0)
        give_up(START_FAILED, "enter", "/");
    own("/");
    if (!spec->old_mount_api)
        let_go_of_the_host(); /* no link that follows can lead there */
    if (!spec->privileged) {
        own("/dev");
        guard_kernel_paths(spec);
    }
    apply_ops(spec);
    if (spec->old_mount_api)
        let_go_of_the_host();
    if (*spec->cwd)
        make_target(spec, spec->cwd, 1);
    for (size_t i = spec->root_readonly ? 0 : 1; i < own_count; i++)
        close_for_writing(owned[i].path); /* spread directories are as read-only as before */
}
