from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from taskctl.embedded.node.mounts import (
    Bind,
    Mask,
    MountError,
    VolumeSource,
    to_host_path,
    volume_binds,
    with_masks,
)
from taskctl.embedded.node.privileges import Privileges
from taskctl.embedded.node.shimspec import Isolation, ShimSpec
from tests.unit.embedded_node.builders import container

VOLUMES = {"a": VolumeSource(Path("/host/a")), "s": VolumeSource(Path("/host/s"), read_only=True)}


def bind(source: str, target: str, *, read_only: bool = False) -> Bind:
    return Bind(Path(source), PurePosixPath(target), read_only)


def test_parents_are_mounted_before_children() -> None:
    mounts = [
        {"name": "a", "mountPath": "/v/deep/er"},
        {"name": "s", "mountPath": "/v"},
        {"name": "a", "mountPath": "/v/deep", "readOnly": True},
    ]
    found = volume_binds(container("c", volumeMounts=mounts), VOLUMES, {})
    assert found == (
        bind("/host/s", "/v", read_only=True),
        bind("/host/a", "/v/deep", read_only=True),
        bind("/host/a", "/v/deep/er"),
    )


def test_sub_paths() -> None:
    mounts = [
        {"name": "a", "mountPath": "/x", "subPath": "one/two"},
        {"name": "a", "mountPath": "/y", "subPathExpr": "$(POD)"},
    ]
    found = volume_binds(container("c", volumeMounts=mounts), VOLUMES, {"POD": "p-0"})
    assert found == (
        replace(bind("/host/a/one/two", "/x"), volume=Path("/host/a")),
        replace(bind("/host/a/p-0", "/y"), volume=Path("/host/a")),
    )
    spec = ShimSpec(["x"], {}, "", Isolation.FULL, found).encode()
    assert b"below\0rw\0/host/a\0one/two\0/x\0" in spec


@pytest.mark.parametrize(
    "mount",
    [
        {"name": "none", "mountPath": "/x"},
        {"name": "a", "mountPath": "relative"},
        {"name": "a", "mountPath": "/x/../y"},
        {"name": "a", "mountPath": "/x", "subPath": "../b"},
        {"name": "a", "mountPath": "/x", "subPath": "/b"},
    ],
)
def test_bad_mounts_are_refused(mount: dict[str, str]) -> None:
    with pytest.raises(MountError):
        volume_binds(container("c", volumeMounts=[mount]), VOLUMES, {})


def test_hidden_paths_stay_hidden_behind_mounts() -> None:
    hidden = Path("/home/me/project/.data")
    around = bind("/home/me", "/workspace")
    inside = bind("/home/me/project/.data/volumes/ws", "/ws")
    same = bind("/home/me/project/.data", "/data")
    assert with_masks([around, inside, same], [hidden]) == (
        Mask(PurePosixPath("/home/me/project/.data")),
        around,
        Mask(PurePosixPath("/workspace/project/.data")),
        inside,
        same,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/ws", "/host/ws"),
        ("/ws/file", "/host/ws/file"),
        ("/wsx", "/wsx"),
        ("--out=/ws/file", "--out=/ws/file"),
        ("/ws/in/x", "/host/in/x"),
        ("plain", "plain"),
    ],
)
def test_paths_without_mount_namespaces(text: str, expected: str) -> None:
    binds = [bind("/host/ws", "/ws"), bind("/host/in", "/ws/in")]
    assert to_host_path(text, binds) == expected


def test_spec_file() -> None:
    spec = ShimSpec(
        ["sh", "-c", "x y"],
        {"A": "1=2"},
        "/w",
        Isolation.FULL,
        [Mask(PurePosixPath("/h")), bind("/s", "/t", read_only=True)],
        image_root=Path("/img"),
        read_only_root=True,
        privileges=Privileges(True, frozenset({13, 0}), all_calls=True),
    )
    tokens = spec.encode().decode().split("\0")
    assert tokens[:2] == ["isolate", "mpf"]
    text = " ".join(tokens)
    expected = (
        "arg sh arg -c arg x y env A=1=2 cwd /w image /img mask /h bind ro /s /t root ro "
        "privileged yes cap 0 cap 13 calls all "
    )
    assert text.endswith(expected)


def test_nul_cannot_get_into_the_spec_file() -> None:
    with pytest.raises(ValueError, match="NUL"):
        ShimSpec(["a\0b"], {}, "", Isolation.NONE).encode()
