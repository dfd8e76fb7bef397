#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "args.h"
#include "basics.h"
#include "msgpack.h"
#include "print.h"
#include "request.h"

/* How often this attempt has spawned the same before; see "Spawn keys" in docs/protocol.md. */
static unsigned count_equal(uint64_t digest) {
    const char *path = getenv("TASKCTL_KEYS");
    uint64_t known[512];
    unsigned equal = 0;
    ssize_t n = 0;
    int fd = path ? open(path, O_RDWR | O_APPEND | O_CLOEXEC) : -1;
    bool good = fd >= 0 && flock(fd, LOCK_EX) == 0;
    while (good && (n = read(fd, known, sizeof known)) > 0)
        for (size_t i = 0; i < (size_t)n / sizeof *known; i++) equal += known[i] == digest;
    if (!good || n < 0 || write(fd, &digest, sizeof digest) != sizeof digest)
        fail(EXIT_REFUSED, "cannot number this child (TASKCTL_KEYS=%s: %s); name it with --key", path ? path : "", error_text(errno));
    close(fd); /* unlocks */
    return equal;
}

static void default_key(const Buf *spec, char *key, size_t room) {
    uint64_t digest = 14695981039346656037u; /* FNV-1a; need not be strong: equal digests are counted */
    for (size_t i = 0; i < spec->len; i++) digest = (digest ^ spec->data[i]) * 1099511628211u;
    snprintf(key, room, "auto-%016" PRIx64 "-%u", digest, count_equal(digest));
}

/* Items or key-value pairs, packed one behind the other. */
typedef struct {
    Buf b;
    uint32_t n;
} List;

typedef struct {
    const char *key;
    List fields, overrides, data, env, set, join, sources;
    const char **after; /* tasks to run after, each once */
    uint32_t n_after;
    bool has_input, replaces_input; /* replaces_input: --then without a place */
} Spawn;

static void list_join(List *to, const char *field, const List *items, bool map) {
    pack_text(&to->b, field);
    map ? pack_map(&to->b, items->n) : pack_array(&to->b, items->n);
    buf_add(&to->b, items->b.data, items->b.len);
    to->n++;
}

static void spawn_input(Spawn *s) {
    if (s->has_input) usage("give one input: --input, --data or --input-object");
    s->has_input = true;
}

static void spawn_override(Spawn *s, const char *field) {
    pack_text(&s->overrides.b, field);
    s->overrides.n++;
}

static void spawn_text(Spawn *s, const char *field, const char *value) {
    spawn_override(s, field);
    pack_text(&s->overrides.b, value);
}

static void spawn_count(Spawn *s, const char *field, const char *value, const char *option) {
    spawn_override(s, field);
    pack_int(&s->overrides.b, parse_count(value, option, 1));
}

static void spawn_set(Spawn *s, const char *pair) {
    const char *equals = strchr(pair, '=');
    if (equals == NULL || equals == pair) usage("--set wants FIELD=VALUE, not \"%s\"", pair);
    pack_array(&s->set.b, 2);
    pack_bytes(&s->set.b, pair, (size_t)(equals - pair));
    pack_text(&s->set.b, equals + 1);
    s->set.n++;
}

static void spawn_join(Spawn *s, const char *field) {
    pack_text(&s->join.b, field);
    s->join.n++;
}

static void add_after(Spawn *s, const char *name) {
    if (*checked_text(name, "the name of a task") == 0) usage("the name of a task to run after is empty");
    for (uint32_t i = 0; i < s->n_after; i++)
        if (strcmp(s->after[i], name) == 0) return;
    s->after = checked(realloc(s->after, (s->n_after + 1) * sizeof *s->after));
    s->after[s->n_after++] = name;
}

/* `--after NAME ...`, up to the next argument that begins with a dash. */
static bool spawn_after(Spawn *s, Args *a) {
    const char *name;
    if (!take_option(a, "--after", &name)) return false;
    add_after(s, name);
    while (*a->at && **a->at != '-') add_after(s, *a->at++);
    return true;
}

static void add_result(Spawn *s, List *names, const char *name) {
    add_after(s, name);
    pack_text(&names->b, name);
    names->n++;
}

/* `--then [/PLACE] NAME ...`. */
static bool spawn_then(Spawn *s, Args *a) {
    const char *first, *place = "";
    List names = {0};
    if (!take_option(a, "--then", &first)) return false;
    if (*first == '/') place = first;
    else add_result(s, &names, first);
    while (*a->at && **a->at != '-') add_result(s, &names, *a->at++);
    if (names.n == 0) usage("--then %s names no task", place);
    if (*place == 0) s->replaces_input = true;
    pack_map(&s->sources.b, 2);
    pack_pair(&s->sources.b, "path", place);
    pack_text(&s->sources.b, "tasks");
    pack_array(&s->sources.b, names.n);
    buf_add(&s->sources.b, names.b.data, names.b.len);
    s->sources.n++;
    buf_free(&names.b);
    return true;
}

static bool spawn_graph_option(Spawn *s, Args *a) {
    const char *v;
    if (take_option(a, "--group", &v)) spawn_text(s, "group", v);
    else if (take_option(a, "--when", &v)) spawn_text(s, "when", v);
    else if (take_option(a, "--after-group", &v)) spawn_join(s, "group"), pack_text(&s->join.b, v);
    else if (take_option(a, "--count", &v)) spawn_join(s, "count"), pack_int(&s->join.b, parse_count(v, "--count", 0));
    else if (take_option(a, "--min-success", &v)) spawn_join(s, "minSuccess"), pack_int(&s->join.b, parse_count(v, "--min-success", 0));
    else if (take_flag(a, "--subtree")) spawn_join(s, "subtree"), pack_bool(&s->join.b, true);
    else return spawn_after(s, a) || spawn_then(s, a);
    return true;
}

static void spawn_command(Spawn *s, Args a) {
    uint32_t n = 0;
    while (a.at[n]) n++;
    if (n == 0) usage("-- must be followed by a command");
    spawn_override(s, "command");
    pack_array(&s->overrides.b, n);
    for (uint32_t i = 0; i < n; i++) pack_text(&s->overrides.b, checked_text(a.at[i], "the command"));
    spawn_override(s, "args"); /* else this task's would be inherited */
    pack_array(&s->overrides.b, 0);
}

static void spawn_option(Spawn *s, Args *a) {
    const char *v;
    if (take_option(a, "--key", &s->key)) {
        if (*s->key == 0) usage("--key must not be empty");
    } else if (take_option(a, "--name", &v)) {
        pack_pair(&s->fields.b, "name", v), s->fields.n++;
    } else if (take_option(a, "--cluster", &v)) {
        spawn_text(s, "clusterName", v);
    } else if (take_option(a, "--image", &v)) {
        spawn_text(s, "image", v);
    } else if (take_option(a, "--timeout", &v)) {
        spawn_count(s, "timeoutSeconds", v, "--timeout");
    } else if (take_option(a, "--slots", &v)) {
        spawn_count(s, "slots", v, "--slots");
    } else if (take_option(a, "--set", &v)) {
        spawn_set(s, v);
    } else if (take_option(a, "--input", &v)) {
        spawn_input(s), pack_pair(&s->fields.b, "json", v), s->fields.n++;
    } else if (take_option(a, "--input-object", &v)) {
        spawn_input(s), pack_pair(&s->fields.b, "input_object", v), s->fields.n++;
    } else if (!take_pairs(a, "--data", false, &s->data.b, &s->data.n) &&
               !take_pairs(a, "--env", true, &s->env.b, &s->env.n) && !spawn_graph_option(s, a)) {
        usage("spawn does not know \"%s\" (a command goes behind --)", *a->at);
    }
}

static void spawn_close(Spawn *s) {
    if (s->data.n > 0) spawn_input(s), list_join(&s->fields, "data", &s->data, true);
    if (s->replaces_input && (s->has_input || s->sources.n > 1))
        usage("--then without a place is the whole input; give a place where it goes, for example --then /results NAME");
    if (s->env.n > 0) list_join(&s->overrides, "env", &s->env, false);
    if (s->n_after > 0) {
        spawn_join(s, "tasks");
        pack_array(&s->join.b, s->n_after);
        for (uint32_t i = 0; i < s->n_after; i++) pack_text(&s->join.b, s->after[i]);
    }
    if (s->join.n > 0) list_join(&s->overrides, "runAfter", &s->join, true);
    if (s->sources.n > 0) list_join(&s->overrides, "inputFrom", &s->sources, false);
    if (s->overrides.n > 0) list_join(&s->fields, "overrides", &s->overrides, true);
    if (s->set.n > 0) list_join(&s->fields, "set", &s->set, false);
}

void command_spawn(Args a) {
    Spawn s = {0};
    Buf request = {0};
    char made[48];
    while (*a.at) {
        if (take_flag(&a, "--")) {
            spawn_command(&s, a);
            break;
        }
        spawn_option(&s, &a);
    }
    spawn_close(&s);
    if (s.key == NULL) default_key(&s.fields.b, made, sizeof made);
    pack_text(&request, "tasks");
    pack_array(&request, 1);
    pack_map(&request, s.fields.n + 1);
    pack_pair(&request, "key", s.key ? s.key : made);
    buf_add(&request, s.fields.b.data, s.fields.b.len);

    Reader answer = ask("spawn", &request, 1), tasks;
    Value v;
    if (!map_find(answer, "tasks", &tasks) || !mp_read(&tasks, &v) || v.type != MP_ARRAY || v.n != 1 ||
        !map_get(tasks, "name", MP_STR, &v))
        fail(EXIT_REFUSED, "the agent answered without the child's name");
    print(v.s, v.n);
    print("\n", 1);
}
