/* What a container's processes may ask of the kernel: capabilities, system calls, devices and the
 * kernel's own file systems.
 *
 * The lists follow the defaults of container engines, so that what works here works there:
 * capabilities as under the "restricted" Pod Security Standard (none), system calls and masked
 * paths as in moby's profiles/seccomp/default.json and oci/defaults.go. Everything here runs in
 * the container's own first process, between clone() and exec.
 */
#ifndef SHIM_GUARD_H
#define SHIM_GUARD_H

#include "files.h"
#include "root.h"

/* No process of the container can ever gain a capability that is not in `mask`. This itself takes
 * one, which a change of user ends. */
void bound_capabilities(uint64_t mask);

/* Keep only the capabilities of `mask`. */
void drop_capabilities(uint64_t mask);
void filter_calls(const struct spec *spec);

/* The network is the host's, and with it the names of abstract Unix sockets: the X server, message
 * buses. Landlock keeps the container from those that it has not made itself (Linux 6.12 and newer;
 * an older kernel refuses the ruleset). */
void keep_from_abstract_sockets(void);

/* The devices that every program may expect and that give nothing away. Others come as volumes. */
void make_devices(const struct spec *spec);

/* Of /proc: what tells of the host's hardware and keys is hidden, what would change the host is
 * read-only. A path that this kernel does not have is passed over. */
void guard_kernel_paths(const struct spec *spec);

#endif
