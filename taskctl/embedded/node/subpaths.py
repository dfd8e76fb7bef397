"""What a ``subPath`` of a volume is on the host; blocking.

Containers write to volumes: a part of a subPath may be a link to anywhere, and may become one at
any time. The rules are the kubelet's (pkg/volume/util/subpath): links are resolved once, and what
comes out must lie in the volume; from then on, each part is opened on its own and must not be a
link. Here that is done to create what is missing, in the shim to mount it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from taskctl import beneath
from taskctl.embedded.node.mounts import Bind


class SubPathError(Exception):
    """A subPath is not usable; the container waits with ``CreateContainerConfigError``."""


def settle(bind: Bind) -> Bind:
    """Return a bind whose source is there, in its volume, with no link on the way.

    What is not there yet becomes a directory, with the permissions of the volume.

    Raises:
        SubPathError: it leads out of its volume, or cannot be made.
    """
    if bind.volume is None:
        return bind
    try:
        # Not Path.resolve(): that raises RuntimeError where links go round in a circle.
        volume, real = (Path(os.path.realpath(path)) for path in (bind.volume, bind.source))
        if not real.is_relative_to(volume):
            raise SubPathError(f"subPath leads to {real}, out of its volume")
        if not real.exists():
            mode = volume.stat().st_mode & 0o777
            beneath.make_directories(volume, str(real.relative_to(volume)), mode)
    except OSError as error:
        raise SubPathError(f"subPath {bind.source}: {error}") from error
    return replace(bind, source=real, volume=volume)
