/* The only program of an image without anything else. Its arguments are steps, done in order:
 *
 *   env NAME          prints NAME=value
 *   read PATH         copies a file, "-" for standard input, to standard output
 *   write PATH TEXT   makes a file
 *   list PATH         prints the names in a directory
 *   sleep MS          waits
 *   exit CODE         ends
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BAD_USAGE = 64, FAILED = 74 };

static void fail(const char *what)
{
    perror(what);
    exit(FAILED);
}

static void print_env(const char *name)
{
    const char *value = getenv(name);

    if (value == NULL) {
        fprintf(stderr, "probe: %s is not set\n", name);
        exit(FAILED);
    }
    printf("%s=%s\n", name, value);
}

static void copy_out(const char *path)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    char buffer[4096];
    size_t size;

    if (file == NULL)
        fail(path);
    while ((size = fread(buffer, 1, sizeof buffer, file)) > 0)
        fwrite(buffer, 1, size, stdout);
    if (ferror(file))
        fail(path);
    if (file != stdin)
        fclose(file);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");

    if (file == NULL || fputs(text, file) == EOF || fclose(file) == EOF)
        fail(path);
}

static void list(const char *path)
{
    DIR *directory = opendir(path);
    struct dirent *entry;

    if (directory == NULL)
        fail(path);
    while ((entry = readdir(directory)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            printf("%s\n", entry->d_name);
    closedir(directory);
}

static long number(const char *text)
{
    char *end;
    long value = strtol(text, &end, 10);

    if (end == text || *end != '\0' || value < 0) {
        fprintf(stderr, "probe: not a number: %s\n", text);
        exit(BAD_USAGE);
    }
    return value;
}

static void wait_ms(long ms)
{
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    fflush(stdout);
    while (nanosleep(&left, &left) != 0)
        ;
}

int main(int argc, char **argv)
{
    int at = 1;

    while (at < argc) {
        const char *step = argv[at];
        int given = argc - at - 1;

        if (strcmp(step, "write") == 0 && given >= 2) {
            write_file(argv[at + 1], argv[at + 2]);
            at += 3;
            continue;
        }
        if (strcmp(step, "env") == 0 && given >= 1) {
            print_env(argv[at + 1]);
        } else if (strcmp(step, "read") == 0 && given >= 1) {
            copy_out(argv[at + 1]);
        } else if (strcmp(step, "list") == 0 && given >= 1) {
            list(argv[at + 1]);
        } else if (strcmp(step, "sleep") == 0 && given >= 1) {
            wait_ms(number(argv[at + 1]));
        } else if (strcmp(step, "exit") == 0 && given >= 1) {
            return (int)number(argv[at + 1]);
        } else {
            fprintf(stderr, "probe: not understood: %s\n", step);
            return BAD_USAGE;
        }
        at += 2;
    }
    return 0;
}
