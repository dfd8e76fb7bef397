/* taskctl-init as a command inside a task: one connection, one request, one answer; included
 * by taskctl-init.c alone. JSON is passed through as text: the agent reads it. */
#ifndef INIT_COMMAND_H
#define INIT_COMMAND_H

#include "init_print.h"

static const char HELP[] =
    "Usage: taskctl-init COMMAND ...        (inside a task; without COMMAND it is the supervisor)\n"
    "\n"
    "  input [KEY]                  print the task's input as JSON, or one key's value as text\n"
    "  spawn [OPTION ...] [-- COMMAND ARGS ...]\n"
    "                               create a child task and print its name; what is not given is\n"
    "                               inherited from this task\n"
    "      --key K                  names the child among this task's children: run again, the same\n"
    "                               key is the same child (default: made from the other options)\n"
    "      --name N  --image I  --timeout SECONDS  --slots N\n"
    "      --input JSON | --data KEY=VALUE ... | --input-object NAME\n"
    "      --env KEY=VALUE ...      the child's whole env, instead of this task's\n"
    "      --set FIELD=VALUE        any other number, true/false or text of a Task's spec\n"
    "  output JSON | --data KEY=VALUE ... | -\n"
    "                               set the task's output (-: JSON from standard input)\n"
    "  progress DONE [TOTAL] [MESSAGE]\n"
    "  info                         print who this task is, as name=value lines\n"
    "  version | --help\n"
    "\n"
    "Exit codes: 0 done, 1 refused, 2 wrong usage, 75 the agent did not answer within\n"
    "$TASKCTL_DEADLINE_S seconds (default 30). Also callable as taskctl-input, taskctl-spawn ...\n";

static Conn agent = {.fd = -1};
static Reader attached; /* the answer to attach; its frame is kept in attach_frame */
static Buf attach_frame;
static int64_t give_up_at, next_backoff_ms = BACKOFF_MIN_MS;
static char away_because[MESSAGE_MAX] = "it does not answer";

__attribute__((format(printf, 1, 2), noreturn)) static void usage(const char *format, ...) {
    char text[MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fail(EXIT_USAGE, "%s; see taskctl-init --help", text);
}

static const char *checked_text(const char *text, const char *what) {
    if (!is_utf8(text)) usage("%s is not UTF-8", what);
    return text;
}

/* ------------------------------------------------------------------ talk with the agent */

/* Waits before the next try, or ends with the reason of the last failure. */
static void try_again(const char *because) {
    if (because) snprintf(away_because, sizeof away_because, "%s", because);
    conn_close(&agent);
    int64_t wait = jittered(next_backoff_ms);
    next_backoff_ms = earlier(2 * next_backoff_ms, BACKOFF_MAX_MS);
    if (now_ms() + wait >= give_up_at)
        fail(EXIT_AWAY, "the agent is away: %s; run the command again later (TASKCTL_DEADLINE_S waits longer)", away_because);
    poll(NULL, 0, (int)wait);
}

/* Sends what is in agent.out and waits for the answer to the last request. False: no luck. */
static bool exchange(Reader *answer) {
    while (true) {
        FrameState state;
        while ((state = conn_frame(&agent, answer)) == FRAME_READY) {
            if (map_int(*answer, "id", 0) == (int64_t)agent.last_id) return true;
            conn_next(&agent, *answer); /* a push */
        }
        if (state == FRAME_BAD) return try_again("it sent a malformed frame"), false;
        struct pollfd p = {.fd = agent.fd, .events = POLLIN | (agent.out.len ? POLLOUT : 0)};
        int64_t wait = give_up_at - now_ms();
        if (wait <= 0 || poll(&p, 1, wait > INT_MAX ? INT_MAX : (int)wait) == 0) return try_again(NULL), false;
        if (!conn_flush(&agent) || (p.revents & ~POLLOUT && !conn_fill(&agent)))
            return try_again("the connection broke"), false;
    }
}

/* Sends a request until it is answered. A refusal that lasts ends the program. */
static bool ask_once(const char *op, const Buf *fields, uint32_t n, Reader *answer) {
    char code[32], text[MESSAGE_MAX];
    size_t start = request_begin(&agent, n, op);
    buf_add(&agent.out, fields->data, fields->len);
    if (agent.out.len - start - 4 > MAX_FRAME)
        fail(EXIT_REFUSED, "%s: over 16 MiB; write it to a file in the workspace and pass the path", op);
    request_end(&agent, start);
    if (!exchange(answer)) return false;
    if (map_true(*answer, "ok")) return true;
    map_text(*answer, "error", code, sizeof code);
    map_text(*answer, "message", text, sizeof text);
    if (strcmp(code, "unavailable") == 0) return try_again(text), false;
    fail(EXIT_REFUSED, "%s refused (%s): %s", op, code, text);
}

static bool attach(void) {
    const char *socket = getenv("TASKCTL_SOCKET"), *token = getenv("TASKCTL_TOKEN");
    if (socket == NULL || token == NULL || *socket == 0 || *token == 0)
        fail(EXIT_REFUSED, "this is not inside a task (TASKCTL_SOCKET and TASKCTL_TOKEN are not set); "
                           "use it in a command that a Task runs");
    agent.fd = connect_unix(socket);
    if (agent.fd < 0) {
        char why[256];
        snprintf(why, sizeof why, "%s: %s", socket, error_text(errno));
        return try_again(why), false;
    }
    Buf fields = {0};
    Reader answer;
    pack_number(&fields, "v", PROTOCOL);
    pack_pair(&fields, "token", checked_text(token, "TASKCTL_TOKEN"));
    bool good = ask_once("attach", &fields, 2, &answer);
    buf_free(&fields);
    if (!good) return false;
    attach_frame.len = 0;
    buf_add(&attach_frame, answer.p, (size_t)(answer.end - answer.p));
    attached = (Reader){attach_frame.data, attach_frame.data + attach_frame.len};
    conn_next(&agent, answer);
    return true;
}

static Reader ask(const char *op, const Buf *fields, uint32_t n) {
    Reader answer;
    while ((agent.fd < 0 && !attach()) || !ask_once(op, fields, n, &answer)) continue;
    return answer;
}

/* ------------------------------------------------------------------ arguments */

typedef struct {
    char **at; /* the next argument; the list ends with NULL */
} Args;

/* Whether the next argument is this option; takes its value: `--opt VALUE` or `--opt=VALUE`. */
static bool take_option(Args *a, const char *name, const char **value) {
    size_t n = strlen(name);
    const char *option = *a->at;
    if (strncmp(option, name, n) != 0 || (option[n] != 0 && option[n] != '=')) return false;
    *value = option[n] == '=' ? option + n + 1 : a->at[1];
    if (*value == NULL) usage("%s needs a value", name);
    a->at += option[n] == '=' ? 1 : 2;
    checked_text(*value, name);
    return true;
}

static bool take_flag(Args *a, const char *name) {
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

/* `--name K=V K=V ...`, up to the next argument that begins with a dash. */
static bool take_pairs(Args *a, const char *name, bool as_entries, Buf *pairs, uint32_t *count) {
    const char *first;
    if (!take_option(a, name, &first)) return false;
    for (const char *pair = first; pair; pair = *a->at && **a->at != '-' ? *a->at++ : NULL) {
        pack_key_value(pairs, pair, as_entries);
        ++*count;
    }
    return true;
}

static int64_t parse_count(const char *text, const char *what, int64_t low) {
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || end == text || *end || value < low) usage("%s must be a whole number from %d on, not \"%s\"", what, (int)low, text);
    return value;
}

static void pack_scalar(Buf *b, const char *text) {
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0) pack_bool(b, *text == 't');
    else if (errno == 0 && end != text && *end == 0) pack_int(b, value);
    else pack_text(b, text);
}

static char *read_stdin(void) {
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

/* ------------------------------------------------------------------ the commands */

/* The agent reads the file in the workspace and picks the key. */
static void input_key_of_large(const char *key) {
    Buf fields = {0};
    Value v;
    pack_pair(&fields, "format", "text");
    pack_pair(&fields, "key", key);
    Reader answer = ask("input", &fields, 2);
    if (!map_get(answer, "text", MP_STR, &v)) fail(EXIT_REFUSED, "the agent answered without the input");
    print(v.s, v.n);
    print("\n", 1);
}

static void input_key(const char *key) {
    Buf fields = {0}, text = {0};
    Value v;
    Reader value, item;
    pack_pair(&fields, "format", "value");
    Reader answer = ask("input", &fields, 1);
    if (map_find(answer, "ref", &value)) return input_key_of_large(key);
    if (!map_find(answer, "value", &value)) fail(EXIT_REFUSED, "the agent answered without the input");
    Reader head = value;
    if (!mp_read(&head, &v) || v.type != MP_MAP)
        fail(EXIT_REFUSED, "the input is %s, so it has no key \"%s\"; print it with `taskctl-init input`",
             v.type == MP_NIL ? "empty" : "not a map", key);
    if (!map_find(value, key, &item)) {
        for (size_t n = v.n; n > 0; n--) { /* the keys that there are */
            Value name;
            if (!mp_read(&head, &name) || !mp_skip(&head)) break;
            if (text.len > 0) buf_text(&text, ", ");
            if (name.type == MP_STR) buf_add(&text, name.s, name.n);
        }
        buf_byte(&text, 0);
        fail(EXIT_REFUSED, "the input has no key \"%s\"; it has: %s", key, (char *)text.data);
    }
    head = item;
    if (mp_read(&head, &v) && v.type == MP_STR) buf_add(&text, v.s, v.n);
    else json_value(&text, &item, 0);
    buf_byte(&text, '\n');
    print(text.data, text.len);
}

static void command_input(Args a) {
    if (*a.at && a.at[1]) usage("input takes one key at most");
    if (*a.at) return input_key(checked_text(*a.at, "the key"));
    Buf fields = {0};
    Value v;
    pack_pair(&fields, "format", "json");
    Reader answer = ask("input", &fields, 1);
    if (!map_get(answer, "json", MP_STR, &v)) fail(EXIT_REFUSED, "the agent answered without the input");
    print(v.s, v.n);
    print("\n", 1);
}

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

typedef struct {
    const char *key;
    Buf fields, overrides, data, env; /* key-value pairs, packed one behind the other */
    uint32_t n_fields, n_overrides, n_data, n_env;
    bool has_input;
} Spawn;

static void spawn_input(Spawn *s) {
    if (s->has_input) usage("give one input: --input, --data or --input-object");
    s->has_input = true;
}

static void spawn_override(Spawn *s, const char *field) {
    pack_text(&s->overrides, field);
    s->n_overrides++;
}

static void spawn_set(Spawn *s, const char *pair) {
    const char *equals = strchr(pair, '=');
    if (equals == NULL || equals == pair) usage("--set wants FIELD=VALUE, not \"%s\"", pair);
    pack_bytes(&s->overrides, pair, (size_t)(equals - pair));
    pack_scalar(&s->overrides, equals + 1);
    s->n_overrides++;
}

static void spawn_command(Spawn *s, Args a) {
    uint32_t n = 0;
    while (a.at[n]) n++;
    if (n == 0) usage("-- must be followed by a command");
    spawn_override(s, "command");
    pack_array(&s->overrides, n);
    for (uint32_t i = 0; i < n; i++) pack_text(&s->overrides, checked_text(a.at[i], "the command"));
    spawn_override(s, "args"); /* else this task's would be inherited */
    pack_array(&s->overrides, 0);
}

static void spawn_option(Spawn *s, Args *a) {
    const char *v;
    if (take_option(a, "--key", &s->key)) {
        if (*s->key == 0) usage("--key must not be empty");
    } else if (take_option(a, "--name", &v)) {
        pack_pair(&s->fields, "name", v), s->n_fields++;
    } else if (take_option(a, "--image", &v)) {
        spawn_override(s, "image"), pack_text(&s->overrides, v);
    } else if (take_option(a, "--timeout", &v)) {
        spawn_override(s, "timeoutSeconds"), pack_int(&s->overrides, parse_count(v, "--timeout", 1));
    } else if (take_option(a, "--slots", &v)) {
        spawn_override(s, "slots"), pack_int(&s->overrides, parse_count(v, "--slots", 1));
    } else if (take_option(a, "--set", &v)) {
        spawn_set(s, v);
    } else if (take_option(a, "--input", &v)) {
        spawn_input(s), pack_pair(&s->fields, "json", v), s->n_fields++;
    } else if (take_option(a, "--input-object", &v)) {
        spawn_input(s), pack_pair(&s->fields, "input_object", v), s->n_fields++;
    } else if (!take_pairs(a, "--data", false, &s->data, &s->n_data) &&
               !take_pairs(a, "--env", true, &s->env, &s->n_env)) {
        usage("spawn does not know \"%s\" (a command goes behind --)", *a->at);
    }
}

static void spawn_close(Spawn *s) {
    if (s->n_data > 0) {
        spawn_input(s);
        pack_text(&s->fields, "data");
        pack_map(&s->fields, s->n_data);
        buf_add(&s->fields, s->data.data, s->data.len);
        s->n_fields++;
    }
    if (s->n_env > 0) {
        spawn_override(s, "env");
        pack_array(&s->overrides, s->n_env);
        buf_add(&s->overrides, s->env.data, s->env.len);
    }
    if (s->n_overrides > 0) {
        pack_text(&s->fields, "overrides");
        pack_map(&s->fields, s->n_overrides);
        buf_add(&s->fields, s->overrides.data, s->overrides.len);
        s->n_fields++;
    }
}

static void command_spawn(Args a) {
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
    if (s.key == NULL) default_key(&s.fields, made, sizeof made);
    pack_text(&request, "tasks");
    pack_array(&request, 1);
    pack_map(&request, s.n_fields + 1);
    pack_pair(&request, "key", s.key ? s.key : made);
    buf_add(&request, s.fields.data, s.fields.len);

    Reader answer = ask("spawn", &request, 1), tasks;
    Value v;
    if (!map_find(answer, "tasks", &tasks) || !mp_read(&tasks, &v) || v.type != MP_ARRAY || v.n != 1 ||
        !map_get(tasks, "name", MP_STR, &v))
        fail(EXIT_REFUSED, "the agent answered without the child's name");
    print(v.s, v.n);
    print("\n", 1);
}

static void command_output(Args a) {
    Buf fields = {0}, pairs = {0};
    uint32_t count = 0;
    if (*a.at == NULL) usage("output wants JSON, --data KEY=VALUE ..., or - for standard input");
    while (*a.at && take_pairs(&a, "--data", false, &pairs, &count)) continue;
    if (count > 0) {
        pack_text(&fields, "data");
        pack_map(&fields, count);
        buf_add(&fields, pairs.data, pairs.len);
    } else {
        const char *json = take_flag(&a, "-") ? read_stdin() : *a.at++;
        pack_pair(&fields, "json", checked_text(json, "the output"));
    }
    if (*a.at) usage("output does not know \"%s\"", *a.at);
    ask("output", &fields, 1);
}

static void command_progress(Args a) {
    Buf fields = {0};
    if (*a.at == NULL) usage("progress wants DONE [TOTAL] [MESSAGE]");
    pack_number(&fields, "done", parse_count(*a.at++, "DONE", 0));
    pack_number(&fields, "total", *a.at ? parse_count(*a.at++, "TOTAL", 0) : 0);
    pack_pair(&fields, "message", *a.at ? checked_text(*a.at++, "MESSAGE") : "");
    if (*a.at) usage("progress takes three arguments at most; put the message in quotes");
    ask("progress", &fields, 3);
}

static void command_info(Args a) {
    static const char *const names[] = {"task", "namespace", "uid", "attempt", "root", "parent", "depth", "cluster", "workspace"};
    Buf none = {0}, text = {0};
    char cancel[64], line[128];
    if (*a.at) usage("info takes no argument");
    Reader answer = ask("info", &none, 0), at;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        Value v;
        buf_text(&text, names[i]);
        buf_byte(&text, '=');
        if (map_get(attached, names[i], MP_STR, &v)) buf_add(&text, v.s, v.n);
        else if (map_find(attached, names[i], &at)) json_value(&text, &at, 0);
        buf_byte(&text, '\n');
    }
    map_text(answer, "cancel", cancel, sizeof cancel);
    snprintf(line, sizeof line, "cancel=%s\ndeadline_us=%" PRId64 "\n", cancel, map_int(answer, "deadline_us", 0));
    buf_text(&text, line);
    print(text.data, text.len);
}

static const struct {
    const char *name;
    void (*run)(Args);
} COMMANDS[] = {
    {"input", command_input},       {"spawn", command_spawn}, {"output", command_output},
    {"progress", command_progress}, {"info", command_info},
};

/* Runs a command by name. False: there is none of that name. */
static bool run_command(const char *name, char **arguments) {
    for (size_t i = 0; i < sizeof COMMANDS / sizeof *COMMANDS; i++) {
        if (strcmp(name, COMMANDS[i].name) != 0) continue;
        const char *deadline = getenv("TASKCTL_DEADLINE_S");
        int64_t seconds = COMMAND_DEADLINE_S;
        if (deadline && *deadline) seconds = parse_count(deadline, "TASKCTL_DEADLINE_S", 1);
        give_up_at = after(seconds > NEVER / 2000 ? NEVER : seconds * 1000);
        signal(SIGPIPE, SIG_IGN); /* a closed stdout is an error message, not a silent death */
        COMMANDS[i].run((Args){arguments});
        print_end();
        return true;
    }
    return false;
}

#endif
