/* Small things, a growing buffer, msgpack, and the framed connection to the agent
 * (docs/protocol.md); included by taskctl-init.c alone. Every byte that arrives is read
 * through mp_read(), which checks. */
#ifndef INIT_WIRE_H
#define INIT_WIRE_H

/* ------------------------------------------------------------------ small things */

static int64_t clock_read(clockid_t id, int64_t per_second) {
    struct timespec t;
    clock_gettime(id, &t);
    return t.tv_sec * per_second + t.tv_nsec / (1000000000 / per_second);
}
static int64_t now_ms(void) { return clock_read(CLOCK_MONOTONIC, 1000); }
static int64_t wall_us(void) { return clock_read(CLOCK_REALTIME, 1000000); }

static int64_t earlier(int64_t a, int64_t b) { return a < b ? a : b; }
/* When `ms` from now have passed in full; no overflow where "practically never" is meant. */
static int64_t after(int64_t ms) { return ms > NEVER / 2 ? NEVER : now_ms() + ms + 1; }

/* One line on stderr; given up if nobody reads stderr for a second. */
__attribute__((format(printf, 1, 2))) static void note(const char *format, ...) {
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

__attribute__((format(printf, 2, 3), noreturn)) static void fail(int code, const char *format, ...) {
    char text[MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    note("%s", text);
    exit(code);
}

/* strerror in the middle of a sentence. */
static const char *error_text(int error) {
    static char text[128];
    snprintf(text, sizeof text, "%s", strerror(error));
    if (text[0] >= 'A' && text[0] <= 'Z' && !(text[1] >= 'A' && text[1] <= 'Z')) text[0] += 32;
    return text;
}

static void *checked(void *memory) {
    if (memory == NULL) fail(EXIT_REFUSED, "out of memory; raise the container's memory limit");
    return memory;
}

static void close_fd(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

/* Random enough to keep a hundred containers from knocking at the same moment. */
static int64_t jittered(int64_t ms) {
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

static bool is_utf8(const char *text) {
    const uint8_t *s = (const uint8_t *)text;
    for (size_t n = strlen(text), step; n > 0; s += step, n -= step)
        if ((step = utf8_step(s, n)) == 0) return false;
    return true;
}

/* Copies text of n bytes into room bytes, whole characters only; what is not UTF-8 becomes ?. */
static void copy_text(char *to, size_t room, const char *from, size_t n) {
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

/* ------------------------------------------------------------------ growing buffer */

typedef struct {
    uint8_t *data;
    size_t len, cap;
} Buf;

static void buf_reserve(Buf *b, size_t more) {
    if (b->cap - b->len >= more) return;
    size_t cap = b->cap ? b->cap : 256;
    while (cap - b->len < more) cap *= 2;
    b->data = checked(realloc(b->data, cap));
    b->cap = cap;
}

static void buf_add(Buf *b, const void *data, size_t n) {
    if (n == 0) return;
    buf_reserve(b, n);
    memcpy(b->data + b->len, data, n);
    b->len += n;
}

static void buf_byte(Buf *b, uint8_t byte) { buf_add(b, &byte, 1); }
static void buf_text(Buf *b, const char *text) { buf_add(b, text, strlen(text)); }

static void buf_drop(Buf *b, size_t n) { /* the first n bytes */
    b->len -= n;
    if (b->len > 0) memmove(b->data, b->data + n, b->len);
    if (b->len == 0 && b->cap > 4 * CHUNK) { /* one huge frame does not cost for ever */
        free(b->data);
        *b = (Buf){0};
    }
}

static void buf_free(Buf *b) {
    free(b->data);
    *b = (Buf){0};
}

/* ------------------------------------------------------------------ msgpack */

static void pack_big(Buf *b, uint8_t tag, uint64_t value, int bytes) {
    buf_byte(b, tag);
    while (bytes-- > 0) buf_byte(b, (uint8_t)(value >> (8 * bytes)));
}

static void pack_uint(Buf *b, uint64_t v) {
    if (v < 128) buf_byte(b, (uint8_t)v);
    else if (v <= UINT8_MAX) pack_big(b, 0xcc, v, 1);
    else if (v <= UINT16_MAX) pack_big(b, 0xcd, v, 2);
    else if (v <= UINT32_MAX) pack_big(b, 0xce, v, 4);
    else pack_big(b, 0xcf, v, 8);
}

static void pack_int(Buf *b, int64_t v) {
    if (v >= 0) pack_uint(b, (uint64_t)v);
    else pack_big(b, 0xd3, (uint64_t)v, 8);
}

static void pack_bytes(Buf *b, const char *s, size_t n) { /* str */
    if (n < 32) buf_byte(b, (uint8_t)(0xa0 | n));
    else if (n <= UINT8_MAX) pack_big(b, 0xd9, n, 1);
    else if (n <= UINT16_MAX) pack_big(b, 0xda, n, 2);
    else pack_big(b, 0xdb, n, 4);
    buf_add(b, s, n);
}

static void pack_text(Buf *b, const char *s) { pack_bytes(b, s, strlen(s)); }
static void pack_bool(Buf *b, bool v) { buf_byte(b, v ? 0xc3 : 0xc2); }
static void pack_map(Buf *b, uint32_t n) { n < 16 ? buf_byte(b, (uint8_t)(0x80 | n)) : pack_big(b, 0xdf, n, 4); }
static void pack_array(Buf *b, uint32_t n) { n < 16 ? buf_byte(b, (uint8_t)(0x90 | n)) : pack_big(b, 0xdd, n, 4); }

static void pack_bin(Buf *b, const void *s, size_t n) {
    pack_big(b, 0xc5, n, 2); /* only the tail of a log is sent as bin */
    buf_add(b, s, n);
}

static void pack_pair(Buf *b, const char *key, const char *value) {
    pack_text(b, key);
    pack_text(b, value);
}

static void pack_number(Buf *b, const char *key, int64_t value) {
    pack_text(b, key);
    pack_int(b, value);
}

typedef struct {
    const uint8_t *p, *end;
} Reader;

typedef enum { MP_NIL, MP_BOOL, MP_INT, MP_BIG, MP_FLOAT, MP_STR, MP_BIN, MP_ARRAY, MP_MAP, MP_EXT } MpType;

typedef struct {
    MpType type;
    int64_t i;   /* MP_INT; MP_BOOL: 0 or 1 */
    uint64_t u;  /* MP_BIG: over INT64_MAX; raw bits while reading */
    double f;    /* MP_FLOAT */
    const char *s; /* MP_STR, MP_BIN, MP_EXT: n bytes in the frame, not terminated */
    size_t n;    /* bytes, or items of an array, or pairs of a map */
} Value;

static bool read_big(Reader *r, int bytes, uint64_t *value) {
    if (r->end - r->p < bytes) return false;
    *value = 0;
    while (bytes-- > 0) *value = *value << 8 | *r->p++;
    return true;
}

static bool read_payload(Reader *r, Value *v, MpType type, size_t n) {
    if ((size_t)(r->end - r->p) < n) return false;
    *v = (Value){.type = type, .s = (const char *)r->p, .n = n};
    r->p += n;
    return true;
}

static bool read_sized(Reader *r, Value *v, MpType type, int bytes) {
    uint64_t n;
    return read_big(r, bytes, &n) && (type != MP_EXT || n++ < UINT32_MAX) && read_payload(r, v, type, n);
}

static bool read_number(Reader *r, Value *v, uint8_t tag) {
    static const uint8_t size[] = {4, 8, 1, 2, 4, 8, 1, 2, 4, 8}; /* 0xca … 0xd3 */
    int bytes = size[tag - 0xca];
    uint64_t raw;
    if (!read_big(r, bytes, &raw)) return false;
    *v = (Value){.type = MP_INT, .i = (int64_t)raw, .u = raw};
    if (tag == 0xca) {
        uint32_t bits = (uint32_t)raw;
        float single;
        memcpy(&single, &bits, sizeof single);
        v->type = MP_FLOAT, v->f = single;
    } else if (tag == 0xcb) {
        v->type = MP_FLOAT;
        memcpy(&v->f, &raw, sizeof v->f);
    } else if (tag <= 0xcf) {
        if (raw > INT64_MAX) v->type = MP_BIG;
    } else if (bytes < 8 && raw >> (8 * bytes - 1)) { /* sign */
        v->i = (int64_t)raw - ((int64_t)1 << (8 * bytes));
    }
    return true;
}

static bool read_items(Reader *r, Value *v, MpType type, int bytes) {
    uint64_t n;
    if (!read_big(r, bytes, &n)) return false;
    *v = (Value){.type = type, .n = n};
    return true;
}

/* Reads one value; of an array or map only the head. False: not msgpack, or cut short. */
static bool mp_read(Reader *r, Value *v) {
    if (r->p >= r->end) return false;
    uint8_t tag = *r->p++;
    *v = (Value){.type = MP_NIL};
    if (tag < 0x80) return *v = (Value){.type = MP_INT, .i = tag}, true;
    if (tag < 0x90) return *v = (Value){.type = MP_MAP, .n = tag & 15}, true;
    if (tag < 0xa0) return *v = (Value){.type = MP_ARRAY, .n = tag & 15}, true;
    if (tag < 0xc0) return read_payload(r, v, MP_STR, tag & 31);
    if (tag >= 0xe0) return *v = (Value){.type = MP_INT, .i = (int8_t)tag}, true;
    if (tag >= 0xca && tag <= 0xd3) return read_number(r, v, tag);
    switch (tag) {
    case 0xc0: return true;
    case 0xc2: case 0xc3: return *v = (Value){.type = MP_BOOL, .i = tag & 1}, true;
    case 0xc4: case 0xc5: case 0xc6: return read_sized(r, v, MP_BIN, 1 << (tag - 0xc4));
    case 0xc7: case 0xc8: case 0xc9: return read_sized(r, v, MP_EXT, 1 << (tag - 0xc7));
    case 0xd4: case 0xd5: case 0xd6: case 0xd7: case 0xd8:
        return read_payload(r, v, MP_EXT, ((size_t)1 << (tag - 0xd4)) + 1);
    case 0xd9: case 0xda: case 0xdb: return read_sized(r, v, MP_STR, 1 << (tag - 0xd9));
    case 0xdc: case 0xdd: return read_items(r, v, MP_ARRAY, 2 << (tag - 0xdc));
    case 0xde: case 0xdf: return read_items(r, v, MP_MAP, 2 << (tag - 0xde));
    default: return false; /* 0xc1 is never used */
    }
}

/* Steps over one whole value. Counts instead of recursing, so nesting cannot overflow the
 * stack; each pending value needs a byte, so a false count ends at the frame's end. */
static bool mp_skip(Reader *r) {
    uint64_t pending = 1;
    Value v;
    while (pending > 0) {
        if (pending > (uint64_t)(r->end - r->p) || !mp_read(r, &v)) return false;
        pending--;
        if (v.type == MP_ARRAY) pending += v.n;
        if (v.type == MP_MAP) pending += 2 * (uint64_t)v.n;
    }
    return true;
}

/* A whole message: one map with text keys, nothing behind it. */
static bool mp_is_message(Reader r) {
    Value v;
    Reader inside = r;
    if (!mp_skip(&r) || r.p != r.end || !mp_read(&inside, &v) || v.type != MP_MAP) return false;
    for (size_t n = v.n; n > 0; n--)
        if (!mp_read(&inside, &v) || v.type != MP_STR || !mp_skip(&inside)) return false;
    return true;
}

/* Finds the value of a key in a map. The map must have been checked. */
static bool map_find(Reader map, const char *key, Reader *found) {
    Value v;
    if (!mp_read(&map, &v) || v.type != MP_MAP) return false;
    for (size_t n = v.n; n > 0; n--) {
        if (!mp_read(&map, &v)) return false;
        if (v.type == MP_STR && v.n == strlen(key) && memcmp(v.s, key, v.n) == 0) {
            *found = map;
            return true;
        }
        if (!mp_skip(&map)) return false;
    }
    return false;
}

static bool map_get(Reader map, const char *key, MpType type, Value *v) {
    Reader at;
    return map_find(map, key, &at) && mp_read(&at, v) && v->type == type;
}

static int64_t map_int(Reader map, const char *key, int64_t otherwise) {
    Value v;
    return map_get(map, key, MP_INT, &v) ? v.i : otherwise;
}

static bool map_true(Reader map, const char *key) {
    Value v;
    return map_get(map, key, MP_BOOL, &v) && v.i;
}

/* Text of a key as a cut, clean C string; "" if there is none. */
static void map_text(Reader map, const char *key, char *to, size_t room) {
    Value v;
    bool found = map_get(map, key, MP_STR, &v);
    copy_text(to, room, found ? v.s : "", found ? v.n : 0);
}

/* ------------------------------------------------------------------ connection */

typedef struct {
    int fd; /* -1: closed */
    Buf in, out;
    uint64_t last_id;
} Conn;

/* Connects without waiting; -1 and errno if nobody listens, or the queue is full. */
static int connect_unix(const char *path) {
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

static void conn_close(Conn *c) {
    close_fd(&c->fd);
    buf_free(&c->in);
    buf_free(&c->out);
}

/* Sends what the socket takes. False: the connection is gone. */
static bool conn_flush(Conn *c) {
    while (c->out.len > 0) {
        ssize_t n = send(c->fd, c->out.data, c->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0) return errno == EAGAIN || errno == EINTR;
        buf_drop(&c->out, (size_t)n);
    }
    return true;
}

/* Begins a request with `fields` fields behind id and op; returns where it starts in c->out. */
static size_t request_begin(Conn *c, uint32_t fields, const char *op) {
    size_t start = c->out.len;
    buf_add(&c->out, "\0\0\0\0", 4);
    pack_map(&c->out, fields + 2);
    pack_number(&c->out, "id", (int64_t)++c->last_id);
    pack_pair(&c->out, "op", op);
    return start;
}

static void request_end(Conn *c, size_t start) {
    size_t n = c->out.len - start - 4;
    for (int i = 0; i < 4; i++) c->out.data[start + (size_t)i] = (uint8_t)(n >> (24 - 8 * i));
}

/* Reads once. False: end of stream, or an error. */
static bool conn_fill(Conn *c) {
    buf_reserve(&c->in, CHUNK);
    ssize_t n = recv(c->fd, c->in.data + c->in.len, CHUNK, MSG_DONTWAIT);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    c->in.len += (size_t)n;
    return n > 0;
}

typedef enum { FRAME_NONE, FRAME_READY, FRAME_BAD } FrameState;

/* Looks at the first frame received; `message` points into c->in until conn_next(). */
static FrameState conn_frame(Conn *c, Reader *message) {
    if (c->in.len < 4) return FRAME_NONE;
    const uint8_t *d = c->in.data;
    size_t n = (size_t)d[0] << 24 | (size_t)d[1] << 16 | (size_t)d[2] << 8 | d[3];
    if (n > MAX_FRAME) return FRAME_BAD;
    if (c->in.len < 4 + n) return FRAME_NONE;
    *message = (Reader){d + 4, d + 4 + n};
    return mp_is_message(*message) ? FRAME_READY : FRAME_BAD;
}

static void conn_next(Conn *c, Reader message) { buf_drop(&c->in, 4 + (size_t)(message.end - message.p)); }

#endif
