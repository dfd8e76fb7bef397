/* Reads frames (length, body) from stdin; prints for each whether taskctl-init takes its body
 * for a message: one digit, 1 or 0. Then walks all of it through the lookups. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conn.h"
#include "load.h"
#include "msgpack.h"

static void look_up(Reader message) {
    static const char *const keys[] = {"id", "ok", "a", "argv", ""};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        Reader at;
        char text[8];
        Value v;
        map_text(message, keys[i], text, sizeof text);
        map_int(message, keys[i], 0);
        map_true(message, keys[i]);
        if (map_find(message, keys[i], &at) && mp_read(&at, &v) && v.type == MP_ARRAY) all_text(at, v.n);
    }
}

int main(void) {
    Conn c = {.fd = -1};
    uint8_t head[4];
    while (fread(head, 4, 1, stdin) == 1) {
        size_t n = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];
        /* A block of its own, so that the sanitizer sees a read beyond its end. */
        uint8_t *frame = malloc(n + 4);
        if (frame == NULL) return 2;
        memcpy(frame, head, 4);
        if (n > 0 && fread(frame + 4, n, 1, stdin) != 1) return 2;
        c.in = (Buf){.data = frame, .len = n + 4, .cap = n + 4};
        Reader message;
        FrameState state = conn_frame(&c, &message);
        putchar(state == FRAME_READY ? '1' : '0');
        if (state == FRAME_READY) look_up(message);
        free(frame);
    }
    return 0;
}
