"""What a container's processes may ask of the kernel, from its security context (pure).

Everything is dropped unless it was asked for, as under the ``restricted`` Pod Security Standard:
task code is not trusted, and on this node it runs beside the host's own programs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from taskctl.embedded.node.model import Json

# In the order of their numbers: include/uapi/linux/capability.h. Kubernetes omits the "CAP_".
CAPABILITIES: Final = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
    "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW",
    "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT",
    "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD",
    "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
    "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)  # fmt: skip
_NUMBERS: Final = {name: number for number, name in enumerate(CAPABILITIES)}


class PrivilegeError(Exception):
    """A security context names what does not exist; the container waits."""


@dataclass(frozen=True, slots=True)
class Privileges:
    """What a container keeps of the kernel's powers.

    Attributes:
        privileged: everything, and the host's devices.
        capabilities: their numbers.
        all_calls: system calls are not filtered.
    """

    privileged: bool = False
    capabilities: frozenset[int] = frozenset()
    all_calls: bool = False


NONE: Final = Privileges()


def privileges(pod: Json, container: Json) -> Privileges:
    """Return what a container of a pod was given.

    Raises:
        PrivilegeError: ``capabilities.add`` names an unknown capability.
    """
    own = container.get("securityContext") or {}
    whole = pod["spec"].get("securityContext") or {}
    profile = own.get("seccompProfile") or whole.get("seccompProfile") or {}
    added = (own.get("capabilities") or {}).get("add") or ()
    return Privileges(
        privileged=bool(own.get("privileged")),
        capabilities=_numbers(added),
        all_calls=profile.get("type") == "Unconfined",
    )


def _numbers(names: Iterable[str]) -> frozenset[int]:
    found: set[int] = set()
    for name in names:
        plain = name.upper().removeprefix("CAP_")
        if plain == "ALL":
            found.update(_NUMBERS.values())
        elif plain in _NUMBERS:
            found.add(_NUMBERS[plain])
        else:
            raise PrivilegeError(
                f"securityContext.capabilities.add: there is no capability {name!r}; "
                "write one such as NET_BIND_SERVICE"
            )
    return frozenset(found)
