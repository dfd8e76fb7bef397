/* Paths that a task or an image names. */
#ifndef SHIM_PATHS_H
#define SHIM_PATHS_H

/* Whether `path` leads through none of the links that the kernel makes up in /proc: they may lead
 * to what lies outside of the root. */
void refuse_made_up_links(const char *path);

/* The working directory is the task's or the image's to name. */
void enter_directory(const char *path);

#endif
