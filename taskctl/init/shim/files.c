#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct shim shim = {.log_fd = -1, .notify_fd = -1, .signal_fd = -1, .status_fd = -1};

int64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- spec ---------------------------------------------------------------------------- */

char *read_whole(const char *path, size_t *size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return NULL;
    char *text = calloc(1, (size_t)st.st_size + 1);
    size_t have = 0;
    ssize_t n = 0;
    while (text && have < (size_t)st.st_size &&
           (n = read(fd, text + have, (size_t)st.st_size - have)) > 0)
        have += (size_t)n;
    close(fd);
    *size = have;
    return text;
}

static void add_op(struct spec *spec, enum op_kind kind, const char *source, const char *below,
                   const char *target)
{
    spec->ops[spec->op_count++] = (struct op){
        .kind = kind, .source = source, .below = below, .target = target, .fd = -1};
}

/* Returns OP_MASK where the word is no mode. */
static enum op_kind bind_kind(const char *mode)
{
    return !strcmp(mode, "ro") ? OP_BIND_RO : !strcmp(mode, "rw") ? OP_BIND_RW : OP_MASK;
}

/* Take one keyword and its operands; returns how many tokens, 0 when it makes no sense. */
static size_t take(struct spec *spec, char **token, size_t left)
{
    const char *key = token[0];
    if (!strcmp(key, "bind") && left >= 4 && bind_kind(token[1]) != OP_MASK) {
        add_op(spec, bind_kind(token[1]), token[2], NULL, token[3]);
        return 4;
    }
    if (!strcmp(key, "user") && left >= 3) {
        spec->has_user = 1;
        spec->uid = (uid_t)strtoul(token[1], NULL, 10);
        spec->gid = (gid_t)strtoul(token[2], NULL, 10);
        return 3;
    }
    if (!strcmp(key, "below") && left >= 5 && bind_kind(token[1]) != OP_MASK) {
        add_op(spec, bind_kind(token[1]), token[2], token[3], token[4]);
        return 5;
    }
    if (left < 2 || !strcmp(key, "bind") || !strcmp(key, "below"))
        return 0;
    if (!strcmp(key, "arg"))
        spec->args[spec->arg_count++] = token[1];
    else if (!strcmp(key, "env"))
        spec->env[spec->env_count++] = token[1];
    else if (!strcmp(key, "cwd"))
        spec->cwd = token[1];
    else if (!strcmp(key, "image"))
        spec->image = token[1];
    else if (!strcmp(key, "rootfs"))
        spec->rootfs = token[1];
    else if (!strcmp(key, "group"))
        spec->groups[spec->group_count++] = (gid_t)strtoul(token[1], NULL, 10);
    else if (!strcmp(key, "mask"))
        add_op(spec, OP_MASK, NULL, NULL, token[1]);
    else if (!strcmp(key, "root"))
        spec->root_readonly = !strcmp(token[1], "ro");
    else if (!strcmp(key, "privileged"))
        spec->privileged = !strcmp(token[1], "yes");
    else if (!strcmp(key, "calls"))
        spec->all_calls = !strcmp(token[1], "all");
    else if (!strcmp(key, "cap"))
        spec->capabilities |= 1ull << (atoi(token[1]) & 63);
    else if (!strcmp(key, "log-limit"))
        spec->log_limit = atol(token[1]);
    else if (!strcmp(key, "isolate")) {
        spec->user = !!strchr(token[1], 'u');
        spec->mounts = !!strchr(token[1], 'm');
        spec->pids = !!strchr(token[1], 'p');
        spec->own_proc = !!strchr(token[1], 'f');
        spec->old_mount_api = !!strchr(token[1], 'o');
    } else
        return 0;
    return 2;
}

int load_spec(struct spec *spec)
{
    size_t size = 0, count = 0;
    char *text = read_whole("spec", &size);
    if (!text || !size || text[size - 1])
        return -1;
    for (size_t i = 0; i < size; i++)
        count += !text[i];
    char **token = calloc(count, sizeof *token);
    spec->args = calloc(count + 1, sizeof *spec->args);
    spec->env = calloc(count + 1, sizeof *spec->env);
    spec->ops = calloc(count + 1, sizeof *spec->ops);
    spec->groups = calloc(count + 1, sizeof *spec->groups);
    if (!token || !spec->args || !spec->env || !spec->ops || !spec->groups)
        return -1;
    for (size_t i = 0, at = 0; i < count; i++, at += strlen(text + at) + 1)
        token[i] = text + at;
    spec->cwd = spec->image = spec->rootfs = "";
    for (size_t i = 0, used; i < count; i += used)
        if (!(used = take(spec, token + i, count - i)))
            return -1;
    free(token); /* the tokens themselves stay for as long as the process */
    return spec->arg_count ? 0 : -1;
}

/* ---- files in the container's directory ---------------------------------------------- */

int write_all(int fd, const char *text, size_t size)
{
    while (size) {
        ssize_t n = write(fd, text, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        text += n;
        size -= (size_t)n;
    }
    return 0;
}

int write_record(const char *name, const char *text, int durable)
{
    char temporary[64];
    snprintf(temporary, sizeof temporary, "%s.tmp", name);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -1;
    int bad = write_all(fd, text, strlen(text)) || (durable && fsync(fd));
    bad |= close(fd);
    if (bad || rename(temporary, name) < 0)
        return -1;
    if (durable && (fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0) {
        fsync(fd);
        close(fd);
    }
    return 0;
}

int claim(void)
{
    char temporary[64];
    snprintf(temporary, sizeof temporary, "claim.%d", (int)getpid());
    int fd = open(temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || flock(fd, LOCK_EX) < 0 || dprintf(fd, "%d\n", (int)getpid()) < 0)
        return 1;
    int lost = link(temporary, "claim") < 0;
    unlink(temporary);
    shim.claim_fd = fd; /* stays open: it holds the lock */
    return lost;
}

int is_forgotten(void)
{
    struct stat st;
    return fstat(shim.claim_fd, &st) < 0 || !st.st_nlink;
}

long oom_kills(void)
{
    char line[128];
    long count = -1;
    FILE *file = fopen("/proc/vmstat", "re");
    while (file && count < 0 && fgets(line, sizeof line, file))
        if (sscanf(line, "oom_kill %ld", &count) != 1)
            count = -1;
    if (file)
        fclose(file);
    return count;
}

int write_exit(int code, int sig, int start_error, const char *message)
{
    char text[MESSAGE_LIMIT + 512];
    /* The counter is the machine's: a hint, and none when we killed the container ourselves. */
    int oom = sig == SIGKILL && !shim.killed_by_us && shim.ooms_before >= 0 &&
              oom_kills() > shim.ooms_before;
    snprintf(text, sizeof text,
             "code %d\nsignal %d\nstart_error %d\noom %d\nstarted_ns %lld\nfinished_ns %lld\n"
             "message %.*s\n",
             code, sig, start_error, oom, (long long)shim.started_ns, (long long)shim.finished_ns,
             (int)strcspn(message, "\n"), message);
    return write_record("exit", text, 1);
}

/* ---- log ------------------------------------------------------------------------------ */

void open_log(void)
{
    struct stat st;
    shim.log_fd = open("log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    shim.log_size = shim.log_fd >= 0 && !fstat(shim.log_fd, &st) ? st.st_size : 0;
}

static void put_line(const struct stream *stream, const char *text, size_t size, char tag)
{
    char out[LINE_LIMIT + 64];
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(out, sizeof out, "%Y-%m-%dT%H:%M:%S", &utc);
    n += (size_t)snprintf(out + n, sizeof out - n, ".%09ldZ %s %c ", now.tv_nsec, stream->tag, tag);
    memcpy(out + n, text, size);
    n += size;
    out[n++] = '\n';
    if (shim.spec.log_limit > 0 && shim.log_size && shim.log_size + (off_t)n > shim.spec.log_limit) {
        close(shim.log_fd);
        rename("log", "log.1");
        open_log();
    }
    /* A full disk costs the log, not the container: what cannot be written is dropped. */
    if (shim.log_fd >= 0 && !write_all(shim.log_fd, out, n))
        shim.log_size += (off_t)n;
}

void close_stream(struct stream *stream)
{
    if (stream->length)
        put_line(stream, stream->line, stream->length, 'F');
    close(stream->fd);
    stream->fd = -1;
    stream->length = 0;
}

void pump(struct stream *stream)
{
    ssize_t n = read(stream->fd, stream->line + stream->length, LINE_LIMIT - stream->length);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0) {
        close_stream(stream);
        return;
    }
    size_t have = stream->length + (size_t)n, at = 0;
    for (char *end; (end = memchr(stream->line + at, '\n', have - at)); at = (size_t)(end - stream->line) + 1)
        put_line(stream, stream->line + at, (size_t)(end - stream->line) - at, 'F');
    if (!at && have == LINE_LIMIT) {
        put_line(stream, stream->line, have, 'P');
        at = have;
    }
    memmove(stream->line, stream->line + at, have - at);
    stream->length = have - at;
}
