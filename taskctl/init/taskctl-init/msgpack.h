/* A growing buffer, and msgpack. Every byte that arrives is read through mp_read(), which checks. */
#ifndef TASKCTL_INIT_MSGPACK_H
#define TASKCTL_INIT_MSGPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint8_t *data;
    size_t len, cap;
} Buf;

void buf_reserve(Buf *b, size_t more);
void buf_add(Buf *b, const void *data, size_t n);
void buf_byte(Buf *b, uint8_t byte);
void buf_text(Buf *b, const char *text);
void buf_drop(Buf *b, size_t n);
void buf_free(Buf *b);
void pack_int(Buf *b, int64_t v);
void pack_bytes(Buf *b, const char *s, size_t n);
void pack_text(Buf *b, const char *s);
void pack_bool(Buf *b, bool v);
void pack_map(Buf *b, uint32_t n);
void pack_array(Buf *b, uint32_t n);
void pack_bin(Buf *b, const void *s, size_t n);
void pack_pair(Buf *b, const char *key, const char *value);
void pack_number(Buf *b, const char *key, int64_t value);

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

/* Reads one value; of an array or map only the head. False: not msgpack, or cut short. */
bool mp_read(Reader *r, Value *v);

/* Steps over one whole value. Counts instead of recursing, so nesting cannot overflow the
 * stack; each pending value needs a byte, so a false count ends at the frame's end. */
bool mp_skip(Reader *r);

/* A whole message: one map with text keys, nothing behind it. */
bool mp_is_message(Reader r);

/* Finds the value of a key in a map. The map must have been checked. */
bool map_find(Reader map, const char *key, Reader *found);
bool map_get(Reader map, const char *key, MpType type, Value *v);
int64_t map_int(Reader map, const char *key, int64_t otherwise);
bool map_true(Reader map, const char *key);

/* Text of a key as a cut, clean C string; "" if there is none. */
void map_text(Reader map, const char *key, char *to, size_t room);

#endif
