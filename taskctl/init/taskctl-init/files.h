/* Files in the workspace.
 *
 * Tasks of other people write there. A name may be a link to something precious, a pipe that
 * never answers or a device, and may become that at any moment. So every part of a path below the
 * workspace is opened relative to the one before, no link is followed, no open() waits, and a
 * file counts only once its descriptor has proved to be a regular file with one name. */
#ifndef TASKCTL_INIT_FILES_H
#define TASKCTL_INIT_FILES_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Opens the directory of a file, and makes it if it is not there. The workspace itself may be
 * reached through links: its path is the image's and the pod's. `name` becomes the last part. */
int open_parent(const char *path, char name[NAME_MAX + 1]);

/* The same; what is in the way below the workspace is moved aside first. */
int open_own(int parent, const char *name);
bool write_all(int fd, const uint8_t *data, size_t n);

/* Writes a file so that it is there in full or not at all, also after a power cut. */
bool replace_file(const char *path, const uint8_t *data, size_t n);

#endif
