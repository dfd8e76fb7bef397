"""Command, arguments and user of a container in an image: Kubernetes' and containerd's rules."""

from __future__ import annotations

from typing import Any

import pytest

from taskctl.embedded.images.model import ImageConfig, ImageError
from taskctl.embedded.images.process import Accounts, command, identity

IMAGE = ImageConfig(entrypoint=("/ep", "1"), cmd=("c",))
ACCOUNTS = Accounts.parse(
    "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\nbroken\nx:y:z:1:::\n",
    "root:x:0:\nstaff:x:50:app,other\nwheel:x:10:root\n",
)


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ({}, ["/ep", "1", "c"]),
        ({"args": ["a"]}, ["/ep", "1", "a"]),
        ({"command": ["x"]}, ["x"]),
        ({"command": ["x"], "args": ["a"]}, ["x", "a"]),
    ],
)
def test_command(container: dict[str, Any], expected: list[str]) -> None:
    assert command(container, IMAGE) == expected


def test_no_command_at_all() -> None:
    assert command({"args": ["a"]}, ImageConfig()) == ["a"]
    with pytest.raises(ImageError, match="no command"):
        command({}, ImageConfig())


def who(user: str, pod: dict[str, Any] | None = None, **own: Any) -> tuple[int, int, Any, str]:
    spec = {"spec": {"securityContext": pod or {}}}
    found = identity(spec, {"securityContext": own}, ImageConfig(user=user), ACCOUNTS)
    return found.uid, found.gid, found.groups, found.home


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", (0, 0, (10,), "/root")),
        ("app", (1000, 1001, (50,), "/home/app")),
        ("1000", (1000, 1001, (50,), "/home/app")),
        ("1000:50", (1000, 50, (), "/home/app")),
        ("app:staff", (1000, 50, (), "/home/app")),
        ("7", (7, 0, (), "/")),
        ("7:8", (7, 8, (), "/")),
    ],
)
def test_the_image_s_user(user: str, expected: tuple[int, int, Any, str]) -> None:
    assert who(user) == expected


@pytest.mark.parametrize("user", ["nobody", "app:nogroup", "-1", "99999999999"])
def test_a_user_that_is_not_there(user: str) -> None:
    with pytest.raises(ImageError, match="unable to find"):
        who(user)


def test_run_as_user_goes_first() -> None:
    assert who("app", runAsUser=7) == (7, 0, (), "/")
    assert who("nobody", {"runAsUser": 7, "runAsGroup": 9}) == (7, 9, (), "/")
    assert who("app", {"runAsUser": 7}, runAsUser=1000) == (1000, 1001, (50,), "/home/app")
    assert who("7", {"fsGroup": 5, "supplementalGroups": [6]}) == (7, 0, (5, 6), "/")


def test_run_as_non_root() -> None:
    for user in ("", "0", "root"):
        with pytest.raises(ImageError, match="runAsNonRoot"):
            who(user, {"runAsNonRoot": True})
    with pytest.raises(ImageError, match="non-numeric user"):
        who("app", runAsNonRoot=True)
    assert who("1000", runAsNonRoot=True)[0] == 1000
    assert who("", {"runAsNonRoot": True}, runAsUser=5)[0] == 5
