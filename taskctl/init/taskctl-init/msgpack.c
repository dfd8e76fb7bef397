#include "msgpack.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "basics.h"

void buf_reserve(Buf *b, size_t more) {
    if (b->cap - b->len >= more) return;
    size_t cap = b->cap ? b->cap : 256;
    while (cap - b->len < more) cap *= 2;
    b->data = checked(realloc(b->data, cap));
    b->cap = cap;
}

void buf_add(Buf *b, const void *data, size_t n) {
    if (n == 0) return;
    buf_reserve(b, n);
    memcpy(b->data + b->len, data, n);
    b->len += n;
}

void buf_byte(Buf *b, uint8_t byte) { buf_add(b, &byte, 1); }
void buf_text(Buf *b, const char *text) { buf_add(b, text, strlen(text)); }

void buf_drop(Buf *b, size_t n) { /* the first n bytes */
    b->len -= n;
    if (b->len > 0) memmove(b->data, b->data + n, b->len);
    if (b->len == 0 && b->cap > 4 * CHUNK) { /* one huge frame does not cost for ever */
        free(b->data);
        *b = (Buf){0};
    }
}

void buf_free(Buf *b) {
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

void pack_int(Buf *b, int64_t v) {
    if (v >= 0) pack_uint(b, (uint64_t)v);
    else pack_big(b, 0xd3, (uint64_t)v, 8);
}

void pack_bytes(Buf *b, const char *s, size_t n) { /* str */
    if (n < 32) buf_byte(b, (uint8_t)(0xa0 | n));
    else if (n <= UINT8_MAX) pack_big(b, 0xd9, n, 1);
    else if (n <= UINT16_MAX) pack_big(b, 0xda, n, 2);
    else pack_big(b, 0xdb, n, 4);
    buf_add(b, s, n);
}

void pack_text(Buf *b, const char *s) { pack_bytes(b, s, strlen(s)); }
void pack_bool(Buf *b, bool v) { buf_byte(b, v ? 0xc3 : 0xc2); }
void pack_map(Buf *b, uint32_t n) { n < 16 ? buf_byte(b, (uint8_t)(0x80 | n)) : pack_big(b, 0xdf, n, 4); }
void pack_array(Buf *b, uint32_t n) { n < 16 ? buf_byte(b, (uint8_t)(0x90 | n)) : pack_big(b, 0xdd, n, 4); }

void pack_bin(Buf *b, const void *s, size_t n) {
    pack_big(b, 0xc5, n, 2); /* only the tail of a log is sent as bin */
    buf_add(b, s, n);
}

void pack_pair(Buf *b, const char *key, const char *value) {
    pack_text(b, key);
    pack_text(b, value);
}

void pack_number(Buf *b, const char *key, int64_t value) {
    pack_text(b, key);
    pack_int(b, value);
}

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

bool mp_read(Reader *r, Value *v) {
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

bool mp_skip(Reader *r) {
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

bool mp_is_message(Reader r) {
    Value v;
    Reader inside = r;
    if (!mp_skip(&r) || r.p != r.end || !mp_read(&inside, &v) || v.type != MP_MAP) return false;
    for (size_t n = v.n; n > 0; n--)
        if (!mp_read(&inside, &v) || v.type != MP_STR || !mp_skip(&inside)) return false;
    return true;
}

bool map_find(Reader map, const char *key, Reader *found) {
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

bool map_get(Reader map, const char *key, MpType type, Value *v) {
    Reader at;
    return map_find(map, key, &at) && mp_read(&at, v) && v->type == type;
}

int64_t map_int(Reader map, const char *key, int64_t otherwise) {
    Value v;
    return map_get(map, key, MP_INT, &v) ? v.i : otherwise;
}

bool map_true(Reader map, const char *key) {
    Value v;
    return map_get(map, key, MP_BOOL, &v) && v.i;
}

void map_text(Reader map, const char *key, char *to, size_t room) {
    Value v;
    bool found = map_get(map, key, MP_STR, &v);
    copy_text(to, room, found ? v.s : "", found ? v.n : 0);
}
