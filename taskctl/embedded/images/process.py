"""What a container of an image runs as which user (pure; the kubelet's and containerd's rules)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from taskctl.embedded.images.model import ImageConfig, ImageError, Json

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ID_LIMIT: Final = 2**32 - 2


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a container's program runs as.

    Attributes:
        uid: numeric user.
        gid: numeric group.
        groups: further groups.
        home: home directory; ``/`` where the image does not say.
    """

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = "/"


@dataclass(frozen=True, slots=True)
class Account:
    """A line of ``/etc/passwd``."""

    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True, slots=True)
class UnixGroup:
    """A line of ``/etc/group``."""

    name: str
    gid: int
    members: frozenset[str]


@dataclass(frozen=True, slots=True)
class Accounts:
    """Users and groups of an image."""

    users: tuple[Account, ...] = ()
    groups: tuple[UnixGroup, ...] = ()

    @classmethod
    def parse(cls, passwd: str, group: str) -> Accounts:
        """Read the two files; lines that make no sense are left out, as libc does."""
        users = [
            Account(parts[0], int(parts[2]), int(parts[3]), parts[5] or "/")
            for parts in _lines(passwd, 6)
            if _is_id(parts[2]) and _is_id(parts[3])
        ]
        groups = [
            UnixGroup(parts[0], int(parts[2]), frozenset(parts[3].split(",")) - {""})
            for parts in _lines(group, 4)
            if _is_id(parts[2])
        ]
        return cls(tuple(users), tuple(groups))


def command(container: Json, config: ImageConfig) -> list[str]:
    """Return what a container runs, before variables are replaced in it.

    Kubernetes: ``command`` replaces the image's entry point and its arguments; ``args`` alone
    replaces the arguments.

    Raises:
        ImageError: neither says anything.
    """
    own, args = container.get("command") or (), container.get("args") or ()
    if own:
        return [*own, *args]
    result = [*config.entrypoint, *(args or config.cmd)]
    if not result:
        raise ImageError("no command specified: neither the container nor the image names one")
    return result


def identity(pod: Json, container: Json, config: ImageConfig, accounts: Accounts) -> Identity:
    """Return who a container runs as.

    ``runAsUser`` goes before the image's user, the container's before the pod's.

    Raises:
        ImageError: the image's user does not exist in it, or ``runAsNonRoot`` forbids it.
    """
    own = container.get("securityContext") or {}
    whole = pod["spec"].get("securityContext") or {}
    given = own.get("runAsUser", whole.get("runAsUser"))
    group = own.get("runAsGroup", whole.get("runAsGroup"))
    non_root = own.get("runAsNonRoot", whole.get("runAsNonRoot"))
    name, _, group_name = config.user.partition(":")
    if given is not None:
        name, group_name = str(given), ""
    account = _account(name or "0", accounts, named=bool(name))
    uid = account.uid
    if non_root and given is None and name and not name.isdecimal():
        raise ImageError(
            f"container has runAsNonRoot and image has non-numeric user ({name}), cannot verify "
            "user is non-root"
        )
    if non_root and uid == 0:
        raise ImageError("container has runAsNonRoot and image will run as root")
    gid = account.gid
    if group is not None:
        gid = int(group)
    elif group_name:
        gid = _group(group_name, accounts)
    further = {g.gid for g in accounts.groups if account.name and account.name in g.members}
    further |= {int(number) for number in whole.get("supplementalGroups") or ()}
    if whole.get("fsGroup") is not None:
        further.add(int(whole["fsGroup"]))
    return Identity(uid, gid, tuple(sorted(further - {gid})), account.home)


def _account(name: str, accounts: Accounts, *, named: bool) -> Account:
    for account in accounts.users:
        if account.name == name or (name.isdecimal() and account.uid == int(name)):
            return account
    if _is_id(name):
        return Account("", int(name), 0, "/root" if not named else "/")
    raise ImageError(f"unable to find user {name}: no matching entries in passwd file")


def _group(name: str, accounts: Accounts) -> int:
    for group in accounts.groups:
        if group.name == name:
            return group.gid
    if _is_id(name):
        return int(name)
    raise ImageError(f"unable to find group {name}: no matching entries in group file")


def _lines(text: str, count: int) -> Iterable[list[str]]:
    for line in text.splitlines():
        parts = line.split(":")
        if len(parts) >= count:
            yield parts


def _is_id(text: str) -> bool:
    return text.isdecimal() and text.isascii() and len(text) <= 10 and int(text) <= _ID_LIMIT
