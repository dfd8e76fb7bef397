/* The private root file system of a container.
 *
 * Everything here runs in the container's own first process, after clone() and before exec.
 * A step that fails calls give_up(), which reports to the shim and ends the process.
 *
 * The root is a fresh tmpfs. Each entry of the host's "/" is bound into it read-only (a symlink
 * is copied), except /proc (of the PID namespace where there is one), /dev (a few harmless devices;
 * a privileged container has the host's /dev and a writable /sys) and /tmp (a directory of this
 * container, writable). /run is empty but for what is mounted there.
 *
 * A mount point that does not exist below such a read-only directory cannot be made there. The
 * directory is then "spread": a tmpfs goes over it and each of its entries is bound again one by
 * one, so that the new name can be added beside them without touching the host.
 */
#ifndef SHIM_ROOT_H
#define SHIM_ROOT_H

#include <sys/types.h>
#include "files.h"

#define ROOT "root" /* below the container's directory, which is the working directory */
#define TMPFS_OPTIONS "mode=755,size=64m"

/* Bind `source`, with all that is mounted below it, on the existing `target`. */
void attach(const struct spec *spec, const char *source, const char *target, int readonly);
void make_entry(const char *path, int is_dir, mode_t mode);

/* Give the directory `to` an entry that shows `from`/`name`. */
void show(const struct spec *spec, const char *from, const char *to, const char *name, int readonly);
int is_dots(const char *name);
void mask(const char *path);

/* Put this process, which has a mount namespace of its own, into the new root. */
void enter_root(struct spec *spec);

#endif
