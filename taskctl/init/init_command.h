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
    "      --cluster C              another TaskCluster, which this task's one lists in spec.peers\n"
    "      --input JSON | --data KEY=VALUE ... | --input-object NAME\n"
    "      --env KEY=VALUE ...      the child's whole env, instead of this task's\n"
    "      --group G                the group it belongs to\n"
    "      --after NAME ...         run when these have succeeded; --after-group G [--count N]: all\n"
    "                               members of a group, N at least; --min-success N of all these;\n"
    "                               --subtree: with their descendants; --when Always: however they end\n"
    "      --then [/PLACE] NAME ... the same, and their results are its input, an array; with /PLACE\n"
    "                               a part of the input, for example /results\n"
    "      --set FIELD=VALUE        any field of a Task's spec, for example retry.limit=3; the value\n"
    "                               is JSON where it begins like JSON, else text\n"
    "  results [--min-success N] [--details] [NAME ...]\n"
    "                               wait for children (default: all of this task) and print their\n"
    "                               results in the order of spawning, each as a line of JSON; fails\n"
    "                               as soon as one fails, or fewer than N can succeed (null: no\n"
    "                               result); --details: name, state, reason, exit_code, result\n"
    "  output JSON | --data KEY=VALUE ... | -\n"
    "                               set the task's output (-: JSON from standard input)\n"
    "  progress DONE [TOTAL] [MESSAGE]\n"
    "  info                         print who this task is, as name=value lines\n"
    "  version | --help\n"
    "\n"
    "Exit codes: 0 done, 1 refused, 2 wrong usage, 75 the agent did not answer within\n"
    "$TASKCTL_DEADLINE_S seconds (default 30; results waits for children without limit).\n"
    "Also callable as taskctl-input, taskctl-spawn ...\n";

static Conn agent = {.fd = -1};
static Reader attached; /* the answer to attach; its frame is kept in attach_frame */
static Buf attach_frame;
static int64_t give_up_at, deadline_ms, next_backoff_ms = BACKOFF_MIN_MS;
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

#include "init_results.h"
#include "init_spawn.h"

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
    {"progress", command_progress}, {"info", command_info},   {"results", command_results},
};

/* Runs a command by name. False: there is none of that name. */
static bool run_command(const char *name, char **arguments) {
    for (size_t i = 0; i < sizeof COMMANDS / sizeof *COMMANDS; i++) {
        if (strcmp(name, COMMANDS[i].name) != 0) continue;
        const char *deadline = getenv("TASKCTL_DEADLINE_S");
        int64_t seconds = COMMAND_DEADLINE_S;
        if (deadline && *deadline) seconds = parse_count(deadline, "TASKCTL_DEADLINE_S", 1);
        deadline_ms = seconds > NEVER / 2000 ? NEVER : seconds * 1000;
        give_up_at = after(deadline_ms);
        signal(SIGPIPE, SIG_IGN); /* a closed stdout is an error message, not a silent death */
        COMMANDS[i].run((Args){arguments});
        print_end();
        return true;
    }
    return false;
}

#endif
