#include "commands.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "args.h"
#include "basics.h"
#include "msgpack.h"
#include "print.h"
#include "request.h"
#include "results.h"
#include "spawn.h"

const char HELP[] =
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

bool run_command(const char *name, char **arguments) {
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
