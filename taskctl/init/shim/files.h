/* Reading and writing the files of a container's directory; the first comment of main.c describes
 * them. */
#ifndef SHIM_FILES_H
#define SHIM_FILES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

enum { START_FAILED = 128, NOT_FOUND = 127, NOT_EXECUTABLE = 126 };

enum { EXIT_USAGE = 2, EXIT_CLAIMED = 3, EXIT_RECORD = 4 };

enum { DRAIN_LIMIT_MS = 5000, ALONE_CHECK_MS = 10000, LINE_LIMIT = 16384, MESSAGE_LIMIT = 1024 };

enum op_kind { OP_BIND_RO, OP_BIND_RW, OP_MASK };

struct op {
    enum op_kind kind;
    const char *source, *below, *target; /* below: path in the directory source, or NULL */
    int fd, is_dir;
};

struct spec {
    char **args, **env;
    size_t arg_count, env_count, op_count;
    struct op *ops;
    const char *cwd, *image, *rootfs;
    int user, mounts, pids, own_proc, old_mount_api, root_readonly;
    int privileged, all_calls, has_user;
    uid_t uid;
    gid_t gid, *groups;
    size_t group_count;
    uint64_t capabilities; /* a bit for each that is kept */
    long log_limit;
};

struct stream {
    int fd;
    const char *tag;
    size_t length;
    char line[LINE_LIMIT];
};

struct shim {
    struct spec spec;
    int claim_fd, log_fd, notify_fd, signal_fd, status_fd;
    off_t log_size;
    struct stream streams[2];
    pid_t child;
    int running, exited, wait_status, killed_by_us, stopped_early;
    int64_t started_ns, finished_ns, drain_until_ms;
    long ooms_before;
    size_t report_length;
    char report[MESSAGE_LIMIT];
};

extern struct shim shim;

int64_t clock_ns(clockid_t clock);
char *read_whole(const char *path, size_t *size);
int load_spec(struct spec *spec);
int write_all(int fd, const char *text, size_t size);

/* Whole or not at all, also after a power cut when `durable`. */
int write_record(const char *name, const char *text, int durable);

/* Returns 0 when this shim owns the directory from now on, 1 when another has had it. */
int claim(void);

/* Without its directory no node can ever find the container again. */
int is_forgotten(void);
long oom_kills(void);
int write_exit(int code, int sig, int start_error, const char *message);
void open_log(void);
void close_stream(struct stream *stream);
void pump(struct stream *stream);

#endif
