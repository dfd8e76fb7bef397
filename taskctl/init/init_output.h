/* The command's output on its way: our own stdout and stderr, the log in the workspace, and the
 * tail for the report; included by taskctl-init.c alone. */
#ifndef INIT_OUTPUT_H
#define INIT_OUTPUT_H

static void open_null_if_closed(void) { /* else a socket could become our stdout */
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0) return;
}

static void log_give_up(void) {
    note("the log %s cannot be written: %s; the output goes on to the container's log only", S.log, error_text(errno));
    close_fd(&S.log_fd);
}

static void log_open(void) {
    char name[NAME_MAX + 1];
    if (S.log[0] == 0) return;
    int parent = open_parent(S.log, name);
    if (parent >= 0) S.log_fd = open_own(parent, name);
    int error = errno;
    close_fd(&parent);
    errno = error;
    if (S.log_fd < 0) log_give_up();
}

static void log_write(const uint8_t *data, size_t n) {
    if (S.log_fd >= 0 && !write_all(S.log_fd, data, n)) log_give_up();
}

static void tail_add(const uint8_t *data, size_t n) {
    if (n > TAIL_MAX) data += n - TAIL_MAX, n = TAIL_MAX;
    size_t keep = S.tail_len + n > TAIL_MAX ? TAIL_MAX - n : S.tail_len;
    memmove(S.tail, S.tail + S.tail_len - keep, keep);
    memcpy(S.tail + keep, data, n);
    S.tail_len = keep + n;
}

static void stream_read(Stream *s) {
    ssize_t n = read(s->from, s->chunk, CHUNK);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) return close_fd(&s->from);
    log_write(s->chunk, (size_t)n);
    tail_add(s->chunk, (size_t)n);
    s->off = 0;
    s->len = s->to >= 0 ? (size_t)n : 0;
}

/* Our stdout may be shared, so it is not made non-blocking: writable is asked for each time. */
static void stream_write(Stream *s) {
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

static bool streams_flushed(void) { return S.streams[0].len == 0 && S.streams[1].len == 0; }
static bool streams_ended(void) { return S.streams[0].from < 0 && S.streams[1].from < 0 && streams_flushed(); }

#endif
