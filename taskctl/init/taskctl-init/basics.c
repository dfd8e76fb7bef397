#include "basics.h"

#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int64_t clock_read(clockid_t id, int64_t per_second) {
    struct timespec t;
    clock_gettime(id, &t);
    return t.tv_sec * per_second + t.tv_nsec / (1000000000 / per_second);
}

int64_t now_ms(void) { return clock_read(CLOCK_MONOTONIC, 1000); }
int64_t wall_us(void) { return clock_read(CLOCK_REALTIME, 1000000); }
int64_t earlier(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t after(int64_t ms) { return ms > NEVER / 2 ? NEVER : now_ms() + ms + 1; }

void note(const char *format, ...) {
    char line[MESSAGE_MAX + 512] = "taskctl-init: ";
    size_t used = strlen(line), room = sizeof line - used - 1;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line + used, room, format, args);
    va_end(args);
    used += n < 0 ? 0 : (size_t)n < room ? (size_t)n : room - 1;
    for (size_t i = 0; i < used; i++)
        if (line[i] == '\n' || line[i] == '\r') line[i] = ' ';
    line[used++] = '\n';
    struct pollfd stderr_poll = {.fd = 2, .events = POLLOUT};
    if (poll(&stderr_poll, 1, 1000) == 1 && write(2, line, used) < 0) return;
}

void fail(int code, const char *format, ...) {
    char text[MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    note("%s", text);
    exit(code);
}

const char *error_text(int error) {
    static char text[128];
    snprintf(text, sizeof text, "%s", strerror(error));
    if (text[0] >= 'A' && text[0] <= 'Z' && !(text[1] >= 'A' && text[1] <= 'Z')) text[0] += 32;
    return text;
}

void *checked(void *memory) {
    if (memory == NULL) fail(EXIT_REFUSED, "out of memory; raise the container's memory limit");
    return memory;
}

void close_fd(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

int64_t jittered(int64_t ms) {
    static uint64_t state;
    if (state == 0) state = (uint64_t)clock_read(CLOCK_MONOTONIC, 1000000000) ^ ((uint64_t)getpid() << 32);
    state = state * 6364136223846793005u + 1442695040888963407u;
    return ms / 2 + (int64_t)((state >> 33) % (uint64_t)(ms + 1)); /* half to one and a half */
}

/* Length of the UTF-8 sequence at s, 0 if there is none (RFC 3629: no overlong, no surrogate). */
static size_t utf8_step(const uint8_t *s, size_t n) {
    if (n == 0) return 0;
    if (s[0] < 0x80) return 1;
    size_t len = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] < 0xC2 || s[0] > 0xF4 || n < len) return 0;
    for (size_t i = 1; i < len; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    if ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F)) return 0;
    if ((s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F)) return 0;
    return len;
}

bool is_utf8(const char *text) {
    const uint8_t *s = (const uint8_t *)text;
    for (size_t n = strlen(text), step; n > 0; s += step, n -= step)
        if ((step = utf8_step(s, n)) == 0) return false;
    return true;
}

void copy_text(char *to, size_t room, const char *from, size_t n) {
    const uint8_t *s = (const uint8_t *)from;
    size_t used = 0;
    while (n > 0 && *s != 0) {
        size_t step = utf8_step(s, n), len = step ? step : 1;
        if (used + len >= room) break;
        if (step) memmove(to + used, s, len); /* from may be to */
        else to[used] = '?';
        used += len, s += len, n -= len;
    }
    to[used] = 0;
}
