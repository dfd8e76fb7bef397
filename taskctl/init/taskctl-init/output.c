#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "basics.h"
#include "files.h"
#include "state.h"

void open_null_if_closed(void) { /* else a socket could become our stdout */
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0) return;
}

static void log_give_up(void) {
    note("the log %s cannot be written: %s; the output goes on to the container's log only", S.log, error_text(errno));
    close_fd(&S.log_fd);
}

/* Opens a file of the log. False and errno: it cannot be opened. */
static bool log_file(const char *path) {
    char name[NAME_MAX + 1];
    int parent = open_parent(path, name);
    if (parent >= 0) S.log_fd = open_own(parent, name);
    int error = errno;
    close_fd(&parent);
    errno = error;
    return S.log_fd >= 0;
}

/* The log of an attempt has a limit. Its first half is the file itself. What comes after that goes into
 * segments of a quarter each, in a directory beside it, named after the position at which they begin; when a
 * third one begins the first of them goes. So the beginning and the end are there. */
static int64_t log_share(int parts) { return S.log_limit / parts > 0 ? S.log_limit / parts : 1; }

void log_open(void) {
    struct stat file;
    S.log_segments[0] = S.log_segments[1] = -1;
    S.log_at = 0;
    S.log_room = S.log_limit > 0 ? log_share(2) : INT64_MAX;
    if (S.log[0] == 0) return;
    if (!log_file(S.log)) return log_give_up();
    if (S.log_limit == 0 || fstat(S.log_fd, &file) != 0) return;
    S.log_at = file.st_size;
    S.log_room = file.st_size < S.log_room ? S.log_room - file.st_size : 0;
}

static bool segment_path(char path[PATH_MAX], int64_t start) {
    return snprintf(path, PATH_MAX, "%s.d/%" PRId64, S.log, start) < PATH_MAX;
}

static void segment_remove(int64_t start) {
    char path[PATH_MAX], name[NAME_MAX + 1];
    int parent = start >= 0 && segment_path(path, start) ? open_parent(path, name) : -1;
    if (parent >= 0) unlinkat(parent, name, 0);
    close_fd(&parent);
}

static bool segment_begin(void) {
    char path[PATH_MAX];
    close_fd(&S.log_fd);
    if (!segment_path(path, S.log_at)) return errno = ENAMETOOLONG, false;
    if (!log_file(path)) return false;
    segment_remove(S.log_segments[0]);
    S.log_segments[0] = S.log_segments[1];
    S.log_segments[1] = S.log_at;
    S.log_room = log_share(4);
    return true;
}

static void log_write(const uint8_t *data, size_t n) {
    while (S.log_fd >= 0 && n > 0) {
        if (S.log_room == 0 && !segment_begin()) return log_give_up();
        size_t part = (int64_t)n < S.log_room ? n : (size_t)S.log_room;
        if (!write_all(S.log_fd, data, part)) return log_give_up();
        data += part, n -= part;
        S.log_at += (int64_t)part, S.log_room -= (int64_t)part;
    }
}

static void tail_add(const uint8_t *data, size_t n) {
    if (n > TAIL_MAX) data += n - TAIL_MAX, n = TAIL_MAX;
    size_t keep = S.tail_len + n > TAIL_MAX ? TAIL_MAX - n : S.tail_len;
    memmove(S.tail, S.tail + S.tail_len - keep, keep);
    memcpy(S.tail + keep, data, n);
    S.tail_len = keep + n;
}

void stream_read(Stream *s) {
    ssize_t n = read(s->from, s->chunk, CHUNK);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) return close_fd(&s->from);
    log_write(s->chunk, (size_t)n);
    tail_add(s->chunk, (size_t)n);
    s->off = 0;
    s->len = s->to >= 0 ? (size_t)n : 0;
}

void stream_write(Stream *s) {
    struct pollfd ready = {.fd = s->to, .events = POLLOUT};
    int writable = 0;
    while (s->len > 0 && (writable = poll(&ready, 1, 0)) == 1) {
        ssize_t n = write(s->to, s->chunk + s->off, s->len < SAFE_WRITE ? s->len : SAFE_WRITE);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n < 0) { /* nobody reads it any more: the task need not suffer */
            s->to = -1;
            s->len = 0;
            return;
        }
        s->off += (size_t)n, s->len -= (size_t)n;
    }
    if (writable < 0 && errno == EINVAL) s->to = -1, s->len = 0; /* see wait_and_handle() */
}

bool streams_flushed(void) { return S.streams[0].len == 0 && S.streams[1].len == 0; }
bool streams_ended(void) { return S.streams[0].from < 0 && S.streams[1].from < 0 && streams_flushed(); }
