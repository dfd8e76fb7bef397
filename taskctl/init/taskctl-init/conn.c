#define _GNU_SOURCE
#include "conn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "basics.h"
#include "msgpack.h"

int connect_unix(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int directory = -1, error;
    const char *base = strrchr(path, '/');
    if (strlen(path) < sizeof address.sun_path) {
        strcpy(address.sun_path, path);
    } else { /* too long for the kernel: go through the directory's descriptor */
        char *parent = checked(strndup(path, base ? (size_t)(base - path) : 0));
        directory = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
        free(parent);
        int n = snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", directory, base ? base + 1 : path);
        if (directory < 0 || n >= (int)sizeof address.sun_path) return close_fd(&directory), errno = ENAMETOOLONG, -1;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        error = errno;
        close_fd(&fd);
        errno = error;
    }
    error = errno;
    close_fd(&directory);
    errno = error;
    return fd;
}

void conn_close(Conn *c) {
    close_fd(&c->fd);
    buf_free(&c->in);
    buf_free(&c->out);
}

bool conn_flush(Conn *c) {
    while (c->out.len > 0) {
        ssize_t n = send(c->fd, c->out.data, c->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0) return errno == EAGAIN || errno == EINTR;
        buf_drop(&c->out, (size_t)n);
    }
    return true;
}

size_t request_begin(Conn *c, uint32_t fields, const char *op) {
    size_t start = c->out.len;
    buf_add(&c->out, "\0\0\0\0", 4);
    pack_map(&c->out, fields + 2);
    pack_number(&c->out, "id", (int64_t)++c->last_id);
    pack_pair(&c->out, "op", op);
    return start;
}

void request_end(Conn *c, size_t start) {
    size_t n = c->out.len - start - 4;
    for (int i = 0; i < 4; i++) c->out.data[start + (size_t)i] = (uint8_t)(n >> (24 - 8 * i));
}

bool conn_fill(Conn *c) {
    buf_reserve(&c->in, CHUNK);
    ssize_t n = recv(c->fd, c->in.data + c->in.len, CHUNK, MSG_DONTWAIT);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    c->in.len += (size_t)n;
    return n > 0;
}

FrameState conn_frame(Conn *c, Reader *message) {
    if (c->in.len < 4) return FRAME_NONE;
    const uint8_t *d = c->in.data;
    size_t n = (size_t)d[0] << 24 | (size_t)d[1] << 16 | (size_t)d[2] << 8 | d[3];
    if (n > MAX_FRAME) return FRAME_BAD;
    if (c->in.len < 4 + n) return FRAME_NONE;
    *message = (Reader){d + 4, d + 4 + n};
    return mp_is_message(*message) ? FRAME_READY : FRAME_BAD;
}

void conn_next(Conn *c, Reader message) { buf_drop(&c->in, 4 + (size_t)(message.end - message.p)); }
