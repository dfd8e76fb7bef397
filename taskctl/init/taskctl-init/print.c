#include "print.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "basics.h"
#include "msgpack.h"

void print(const void *data, size_t n) {
    if (!fwrite(data, n, 1, stdout) && n > 0) fail(EXIT_REFUSED, "standard output: %s", error_text(errno));
}

void print_end(void) {
    if (fflush(stdout) != 0) fail(EXIT_REFUSED, "standard output: %s", error_text(errno));
}

void json_string(Buf *b, const char *s, size_t n) {
    char escape[8];
    buf_byte(b, '"');
    for (; n > 0; s++, n--) {
        if (*s == '"' || *s == '\\') buf_byte(b, '\\');
        if ((uint8_t)*s >= 0x20) buf_byte(b, (uint8_t)*s);
        else snprintf(escape, sizeof escape, "\\u%04x", *s), buf_text(b, escape);
    }
    buf_byte(b, '"');
}

static void json_float(Buf *b, double f) { /* the shortest text that reads back as the same */
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, f);
        if (strtod(text, NULL) == f) break;
    }
    buf_text(b, text);
}

void json_value(Buf *b, Reader *r, int depth) {
    Value v;
    char number[32];
    if (depth > 256 || !mp_read(r, &v)) fail(EXIT_REFUSED, "the input is nested too deeply to print");
    switch (v.type) {
    case MP_BOOL: return buf_text(b, v.i ? "true" : "false");
    case MP_INT: snprintf(number, sizeof number, "%" PRId64, v.i); return buf_text(b, number);
    case MP_BIG: snprintf(number, sizeof number, "%" PRIu64, v.u); return buf_text(b, number);
    case MP_FLOAT: return json_float(b, v.f);
    case MP_STR: return json_string(b, v.s, v.n);
    case MP_ARRAY:
    case MP_MAP:
        buf_byte(b, v.type == MP_MAP ? '{' : '[');
        for (size_t i = 0; i < v.n; i++) {
            if (i > 0) buf_byte(b, ',');
            json_value(b, r, depth + 1);
            if (v.type == MP_MAP) buf_byte(b, ':'), json_value(b, r, depth + 1);
        }
        return buf_byte(b, v.type == MP_MAP ? '}' : ']');
    default: return buf_text(b, "null"); /* bin and ext never come in an input */
    }
}
