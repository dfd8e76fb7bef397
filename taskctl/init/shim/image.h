/* The root of a container that runs in an unpacked image.
 *
 * The image's directory is shared by all its containers and is never written to. An overlay puts
 * the container's own directory `upper` over it. Where the kernel or the file system allows no
 * overlay, the image's top-level entries are bound read-only into a tmpfs, and /tmp is writable.
 *
 * What the image holds is hostile: a name in it may be a link to anything. So everything of the
 * host is out of reach (detached) before the first name below the new root is followed, and a
 * name is never followed through the links that the kernel makes up in /proc.
 */
#ifndef SHIM_IMAGE_H
#define SHIM_IMAGE_H

#include "files.h"

void fill_image_root(const struct spec *spec);

/* Become the user that the spec names. In a user namespace its map has done that already. */
void take_user(const struct spec *spec);

#endif
