#include "args.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "basics.h"
#include "msgpack.h"

void usage(const char *format, ...) {
    char text[MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fail(EXIT_USAGE, "%s; see taskctl-init --help", text);
}

const char *checked_text(const char *text, const char *what) {
    if (!is_utf8(text)) usage("%s is not UTF-8", what);
    return text;
}

bool take_option(Args *a, const char *name, const char **value) {
    size_t n = strlen(name);
    const char *option = *a->at;
    if (strncmp(option, name, n) != 0 || (option[n] != 0 && option[n] != '=')) return false;
    *value = option[n] == '=' ? option + n + 1 : a->at[1];
    if (*value == NULL) usage("%s needs a value", name);
    a->at += option[n] == '=' ? 1 : 2;
    checked_text(*value, name);
    return true;
}

bool take_flag(Args *a, const char *name) {
    if (strcmp(*a->at, name) != 0) return false;
    a->at++;
    return true;
}

static void pack_key_value(Buf *b, const char *pair, bool as_entry) {
    const char *equals = strchr(checked_text(pair, pair), '=');
    if (equals == NULL || equals == pair) usage("\"%s\" is not KEY=VALUE", pair);
    if (as_entry) pack_map(b, 2), pack_text(b, "name");
    pack_bytes(b, pair, (size_t)(equals - pair));
    if (as_entry) pack_text(b, "value");
    pack_text(b, equals + 1);
}

bool take_pairs(Args *a, const char *name, bool as_entries, Buf *pairs, uint32_t *count) {
    const char *first;
    if (!take_option(a, name, &first)) return false;
    for (const char *pair = first; pair; pair = *a->at && **a->at != '-' ? *a->at++ : NULL) {
        pack_key_value(pairs, pair, as_entries);
        ++*count;
    }
    return true;
}

int64_t parse_count(const char *text, const char *what, int64_t low) {
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || end == text || *end || value < low) usage("%s must be a whole number from %d on, not \"%s\"", what, (int)low, text);
    return value;
}

char *read_stdin(void) {
    Buf text = {0};
    ssize_t n;
    do {
        buf_reserve(&text, CHUNK);
        n = read(0, text.data + text.len, CHUNK);
        if (n < 0 && errno != EINTR) fail(EXIT_REFUSED, "standard input: %s", error_text(errno));
        if (n > 0) text.len += (size_t)n;
        if (text.len > MAX_FRAME) fail(EXIT_REFUSED, "standard input holds over 16 MiB; write it to a file in the workspace");
    } while (n != 0);
    if (text.len > 0 && memchr(text.data, 0, text.len)) usage("standard input holds a NUL byte: not JSON");
    buf_byte(&text, 0);
    return (char *)text.data;
}
