#include "results.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "args.h"
#include "basics.h"
#include "conn.h"
#include "msgpack.h"
#include "print.h"
#include "request.h"

enum { WAIT_MS = 20000, RESULTS_AT_ONCE = 200, NO_CODE = -1 };

typedef struct {
    char *name, *uid;
    char *state, *reason, *message; /* NULL: not ended */
    int64_t exit_code;
    bool lost; /* it has succeeded, and its result is gone */
} Kid;

typedef struct {
    Kid *kids;   /* in the order of the results */
    Kid **by_uid; /* the same, sorted */
    size_t n, open, bad, tolerated;
    bool details;
} Family;

static char *text_of(Reader map, const char *key) {
    Value v;
    bool found = map_get(map, key, MP_STR, &v);
    return checked(strndup(found ? v.s : "", found ? v.n : 0));
}

static bool has_succeeded(const Kid *kid) { return kid->state && strcmp(kid->state, "Succeeded") == 0 && !kid->lost; }
static int compare_names(const void *a, const void *b) { return strcmp((*(Kid *const *)a)->name, (*(Kid *const *)b)->name); }
static int compare_uids(const void *a, const void *b) { return strcmp((*(Kid *const *)a)->uid, (*(Kid *const *)b)->uid); }

/* All children in the order of their creation. */
static size_t list_all(Kid **all) {
    Buf none = {0};
    Reader answer = ask("list", &none, 0), tasks;
    Value head;
    if (!map_find(answer, "tasks", &tasks) || !mp_read(&tasks, &head) || head.type != MP_ARRAY)
        fail(EXIT_REFUSED, "the agent answered without the children");
    *all = checked(calloc(head.n + 1, sizeof **all));
    for (size_t i = 0; i < head.n; i++) {
        (*all)[i].name = text_of(tasks, "name");
        (*all)[i].uid = text_of(tasks, "uid");
        mp_skip(&tasks);
    }
    conn_next(&agent, answer);
    return head.n;
}

/* Those of the given names, or all. */
static void family_load(Family *f, char **names) {
    Kid *all;
    size_t n_all = list_all(&all), n = 0;
    while (names[n]) n++;
    f->n = n ? n : n_all;
    f->kids = n ? checked(calloc(n, sizeof *f->kids)) : all;
    f->by_uid = checked(calloc((n > n_all ? n : n_all) + 1, sizeof *f->by_uid));
    for (size_t i = 0; n && i < n_all; i++) f->by_uid[i] = &all[i];
    if (n) qsort(f->by_uid, n_all, sizeof *f->by_uid, compare_names);
    for (size_t i = 0; i < n; i++) {
        Kid wanted = {.name = names[i]}, *key = &wanted;
        Kid **found = bsearch(&key, f->by_uid, n_all, sizeof *f->by_uid, compare_names);
        if (found == NULL) fail(EXIT_REFUSED, "\"%s\" is no child of this task", names[i]);
        f->kids[i] = **found;
    }
    for (size_t i = 0; i < f->n; i++) f->by_uid[i] = &f->kids[i];
    qsort(f->by_uid, f->n, sizeof *f->by_uid, compare_uids);
    for (size_t i = 1; i < f->n; i++)
        if (strcmp(f->by_uid[i - 1]->uid, f->by_uid[i]->uid) == 0) usage("\"%s\" is named twice", f->by_uid[i]->name);
    f->open = f->n;
}

/* Counts a child without success; ends the program where there are too many. */
static void family_bad(Family *f, const Kid *kid) {
    f->bad++;
    if (f->bad <= f->tolerated) return;
    const char *word = strcmp(kid->state, "Succeeded") == 0 ? "has lost its result" : kid->state;
    fail(EXIT_REFUSED, "child %s: %s%s%s: %s", kid->name, word, *kid->reason ? ", " : "", kid->reason, kid->message);
}

static void kid_ended(Family *f, Reader told) {
    char *uid = text_of(told, "uid");
    Kid wanted = {.uid = uid}, *key = &wanted;
    Kid **found = bsearch(&key, f->by_uid, f->n, sizeof *f->by_uid, compare_uids);
    free(uid);
    if (found == NULL || (*found)->state) return; /* another's, or known */
    Kid *kid = *found;
    kid->state = text_of(told, "state");
    kid->reason = text_of(told, "reason");
    kid->message = text_of(told, "message");
    kid->exit_code = map_int(told, "exit_code", NO_CODE);
    f->open--;
    if (!has_succeeded(kid)) family_bad(f, kid);
}

static void kid_reopen(Family *f, Kid *kid) {
    free(kid->state), free(kid->reason), free(kid->message);
    kid->state = kid->reason = kid->message = NULL;
    f->open++;
}

static void allow_more_time(void) {
    give_up_at = after(deadline_ms);
    next_backoff_ms = BACKOFF_MIN_MS;
}

/* Waits until all have ended. */
static void family_wait(Family *f) {
    static char epoch[80];
    static int64_t position;
    while (f->open > 0) {
        Buf fields = {0};
        Reader answer, ended;
        Value v;
        pack_pair(&fields, "epoch", epoch);
        pack_number(&fields, "after", position);
        pack_number(&fields, "wait_ms", earlier(WAIT_MS, deadline_ms / 2));
        answer = ask("children", &fields, 3);
        buf_free(&fields);
        allow_more_time();
        map_text(answer, "epoch", epoch, sizeof epoch);
        position = map_int(answer, "next", 0);
        if (!map_find(answer, "ended", &ended) || !mp_read(&ended, &v) || v.type != MP_ARRAY)
            fail(EXIT_REFUSED, "the agent answered without the children");
        for (size_t n = v.n; n > 0; n--) kid_ended(f, ended), mp_skip(&ended);
        conn_next(&agent, answer);
    }
}

static void kid_print(const Family *f, const Kid *kid, const char *json, size_t n) {
    Buf line = {0};
    char code[32] = "null";
    if (f->details) {
        if (kid->exit_code != NO_CODE) snprintf(code, sizeof code, "%" PRId64, kid->exit_code);
        buf_text(&line, "{\"name\":"), json_string(&line, kid->name, strlen(kid->name));
        buf_text(&line, ",\"state\":"), json_string(&line, kid->state, strlen(kid->state));
        buf_text(&line, ",\"reason\":"), json_string(&line, kid->reason, strlen(kid->reason));
        buf_text(&line, ",\"exit_code\":"), buf_text(&line, code);
        buf_text(&line, ",\"result\":"), buf_add(&line, json, n);
        buf_text(&line, "}\n");
    } else {
        buf_add(&line, json, n), buf_byte(&line, '\n');
    }
    print(line.data, line.len);
    buf_free(&line);
}

/* Prints one answer. False: the child runs again. */
static bool kid_answered(Family *f, Kid *kid, Reader item) {
    Value v;
    if (map_get(item, "json", MP_STR, &v)) return kid_print(f, kid, v.s, v.n), true;
    if (map_get(item, "open", MP_STR, &v)) return kid_reopen(f, kid), false;
    free(kid->message);
    kid->message = text_of(item, "missing");
    kid->lost = true;
    family_bad(f, kid);
    kid_print(f, kid, "null", 4);
    return true;
}

/* Prints results from the first on that is not printed; returns how many. */
static size_t family_print(Family *f, size_t first) {
    Buf fields = {0};
    Reader answer, items;
    Value head;
    size_t end = first;
    uint32_t asked = 0;
    for (; end < f->n && asked < RESULTS_AT_ONCE; end++) asked += has_succeeded(&f->kids[end]);
    pack_pair(&fields, "format", "json");
    pack_text(&fields, "uids");
    pack_array(&fields, asked);
    for (size_t i = first; i < end; i++)
        if (has_succeeded(&f->kids[i])) pack_text(&fields, f->kids[i].uid);
    answer = ask("results", &fields, 2);
    buf_free(&fields);
    allow_more_time();
    if (!map_find(answer, "results", &items) || !mp_read(&items, &head) || head.type != MP_ARRAY || (asked && !head.n))
        fail(EXIT_REFUSED, "the agent answered without results");
    size_t left = head.n;
    for (; first < end; first++) {
        Kid *kid = &f->kids[first];
        if (!has_succeeded(kid)) {
            kid_print(f, kid, "null", 4);
            continue;
        }
        if (left-- == 0 || !kid_answered(f, kid, items)) break;
        mp_skip(&items);
    }
    conn_next(&agent, answer);
    return first;
}

void command_results(Args a) {
    Family f = {0};
    const char *v = NULL;
    while (*a.at && **a.at == '-') {
        if (take_flag(&a, "--details")) f.details = true;
        else if (!take_option(&a, "--min-success", &v)) usage("results does not know \"%s\"", *a.at);
    }
    int64_t needed = v ? parse_count(v, "--min-success", 0) : -1;
    family_load(&f, a.at);
    if (needed > (int64_t)f.n) usage("--min-success is %s; there are %zu children", v, f.n);
    f.tolerated = needed < 0 ? 0 : f.n - (size_t)needed;
    for (size_t printed = 0; printed < f.n;) {
        family_wait(&f);
        printed = family_print(&f, printed);
    }
}
