/* Limits and exit codes that several units share, and small things: time, notes on stderr, UTF-8. */
#ifndef TASKCTL_INIT_BASICS_H
#define TASKCTL_INIT_BASICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

enum {
    PROTOCOL = 1,
    MAX_FRAME = 16 << 20,
    CHUNK = 64 << 10,         /* read from the child at a time */
    SAFE_WRITE = 4096,        /* a writable pipe takes this much without blocking */
    TAIL_MAX = 2048,          /* end of the log that is reported */
    MESSAGE_MAX = 1024,       /* of our own sentences */
    BACKOFF_MIN_MS = 20,      /* between two tries to reach the agent */
    BACKOFF_MAX_MS = 1000,
    LEFTOVER_MS = 1000,       /* for what outlives the command to finish its output */
    FLUSH_MS = 10000,         /* for a slow reader of our stdout, after the command's end */
    DEFAULT_GRACE_MS = 10000, /* between SIGTERM and SIGKILL, where nobody says */
    COMMAND_DEADLINE_S = 30,  /* for the agent to answer a command */
    EXIT_REFUSED = 1,
    EXIT_USAGE = 2,
    EXIT_AWAY = 75, /* EX_TEMPFAIL of sysexits.h */
    CODE_NOT_EXECUTABLE = 126, /* as shells and container runtimes have it */
    CODE_NOT_FOUND = 127,
};

#define NEVER INT64_MAX
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

int64_t clock_read(clockid_t id, int64_t per_second);
int64_t now_ms(void);
int64_t wall_us(void);
int64_t earlier(int64_t a, int64_t b);

/* When `ms` from now have passed in full; no overflow where "practically never" is meant. */
int64_t after(int64_t ms);

/* One line on stderr; given up if nobody reads stderr for a second. */
__attribute__((format(printf, 1, 2))) void note(const char *format, ...);
__attribute__((format(printf, 2, 3), noreturn)) void fail(int code, const char *format, ...);

/* strerror in the middle of a sentence. */
const char *error_text(int error);
void *checked(void *memory);
void close_fd(int *fd);

/* Random enough to keep a hundred containers from knocking at the same moment. */
int64_t jittered(int64_t ms);
bool is_utf8(const char *text);

/* Copies text of n bytes into room bytes, whole characters only; what is not UTF-8 becomes ?. */
void copy_text(char *to, size_t room, const char *from, size_t n);

#endif
