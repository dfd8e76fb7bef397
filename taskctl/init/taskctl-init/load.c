#define _GNU_SOURCE
#include "load.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "basics.h"
#include "msgpack.h"
#include "state.h"

void free_list(char **list) {
    for (char **item = list; item && *item; item++) free(*item);
    free(list);
}

void run_free(void) {
    free(S.uid), free(S.log), free(S.record), free(S.cwd), free(S.workspace), free(S.record_key);
    free_list(S.argv), free_list(S.env);
    S.uid = S.log = S.record = S.cwd = S.workspace = S.record_key = NULL;
    S.argv = S.env = NULL;
}

void env_set(char ***env, size_t *count, char *entry) { /* takes the entry over */
    size_t name = (size_t)(strchr(entry, '=') - entry) + 1;
    for (size_t i = 0; i < *count; i++)
        if (strncmp((*env)[i], entry, name) == 0) {
            free((*env)[i]);
            (*env)[i] = entry;
            return;
        }
    *env = checked(realloc(*env, (*count + 2) * sizeof **env));
    (*env)[(*count)++] = entry;
    (*env)[*count] = NULL;
}

/* Appends a directory to a list like $PATH, unless it is there. */
static void env_append(char ***env, size_t *count, const char *name, const char *otherwise, const char *directory) {
    const char *old = otherwise;
    size_t length = strlen(name), want = strlen(directory);
    for (char **item = *env; item && *item; item++)
        if (strncmp(*item, name, length) == 0 && (*item)[length] == '=') old = *item + length + 1;
    for (const char *part = old; *part; part += strcspn(part, ":"), part += *part == ':')
        if (strcspn(part, ":") == want && strncmp(part, directory, want) == 0) return;
    char *entry = NULL;
    if (asprintf(&entry, "%s=%s%s%s", name, old, *old ? ":" : "", directory) < 0) checked(NULL);
    env_set(env, count, entry);
}

bool run_string(const Value *v, const char *what, char **to) {
    if (memchr(v->s, 0, v->n)) {
        snprintf(S.message, sizeof S.message, "%s holds a NUL byte; take it out", what);
        return false;
    }
    *to = checked(strndup(v->s, v->n));
    return true;
}

bool run_env(Reader map, size_t pairs) {
    size_t count = 0;
    bool good = true;
    for (char **item = environ; *item; item++)
        if (strchr(*item, '=')) env_set(&S.env, &count, checked(strdup(*item)));
    for (; pairs > 0; pairs--) {
        Value key, value;
        char *name = NULL, *text = NULL, *entry = NULL;
        if (!mp_read(&map, &key) || !mp_read(&map, &value)) break; /* checked before */
        if (key.n == 0 || memchr(key.s, '=', key.n)) {
            snprintf(S.message, sizeof S.message, "env: a name is empty or holds \"=\"; mend the task's env");
            good = false;
        } else if (run_string(&key, "env: a name", &name) && run_string(&value, name, &text)) {
            if (asprintf(&entry, "%s=%s", name, text) < 0) checked(NULL);
            env_set(&S.env, &count, entry);
        } else {
            good = false;
        }
        free(name), free(text);
    }
    char extra[PATH_MAX + 32];
    env_append(&S.env, &count, "PATH", DEFAULT_PATH, S.self_dir);
    snprintf(extra, sizeof extra, "%s/../python", S.self_dir);
    char *python = realpath(extra, NULL);
    if (python) env_append(&S.env, &count, "PYTHONPATH", "", python);
    free(python);
    if (S.keys_fd >= 0 && S.keeper_in_proc > 0) {
        snprintf(extra, sizeof extra, "TASKCTL_KEYS=/proc/%d/fd/%d", S.keeper_in_proc, S.keys_fd);
        env_set(&S.env, &count, checked(strdup(extra)));
    }
    return good;
}

bool run_argv(Reader array, size_t n) {
    S.argv = checked(calloc(n + 1, sizeof *S.argv));
    for (size_t i = 0; i < n; i++) {
        Value v;
        char what[32];
        snprintf(what, sizeof what, "argument %zu", i);
        if (!mp_read(&array, &v) || !run_string(&v, what, &S.argv[i])) return false;
    }
    return true;
}

bool all_text(Reader items, uint64_t n) {
    for (Value v; n > 0; n--)
        if (!mp_read(&items, &v) || v.type != MP_STR) return false;
    return true;
}

bool run_load(Reader m, bool *startable) {
    enum { NEEDED = 4, TEXTS = 6 };
    static const char *const names[TEXTS] = {"uid", "log", "record", "cwd", "workspace", "record_key"};
    char **const fields[TEXTS] = {&S.uid, &S.log, &S.record, &S.cwd, &S.workspace, &S.record_key};
    Value text[TEXTS], attempt, head;
    Reader argv, env;
    size_t argc, pairs;
    for (int i = 0; i < TEXTS; i++)
        if (!map_get(m, names[i], MP_STR, &text[i])) {
            if (i < NEEDED) return false;
            text[i] = (Value){.type = MP_STR, .s = ""};
        }
    if (!map_get(m, "attempt", MP_INT, &attempt)) return false;
    if (!map_find(m, "argv", &argv) || !mp_read(&argv, &head) || head.type != MP_ARRAY || head.n == 0) return false;
    if (!all_text(argv, argc = head.n)) return false;
    if (!map_find(m, "env", &env) || !mp_read(&env, &head) || head.type != MP_MAP) return false;
    if (!all_text(env, 2 * (uint64_t)(pairs = head.n))) return false;

    run_free();
    S.message[0] = S.reason[0] = 0;
    S.attempt = attempt.i;
    int64_t grace_ms = map_int(m, "grace_ms", -1);
    S.grace_ms = grace_ms >= 0 ? grace_ms : DEFAULT_GRACE_MS;
    S.timeout_ms = map_int(m, "timeout_ms", 0);
    S.memory_bytes = map_int(m, "memory_bytes", 0);
    S.cpu_milli = map_int(m, "cpu_milli", 0);
    S.log_limit = map_int(m, "log_bytes", 0);
    if (S.log_limit < 0) S.log_limit = 0;
    bool good = true;
    for (int i = 0; i < TEXTS; i++)
        if (!run_string(&text[i], names[i], fields[i])) good = false, *fields[i] = checked(strdup(""));
    *startable = run_argv(argv, argc) && run_env(env, pairs) && good;
    return true;
}
