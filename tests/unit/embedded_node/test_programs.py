"""Which directories of the node's own programs a container's private /tmp would hide."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from taskctl.embedded.node.mounts import Bind
from taskctl.embedded.node.programs import own_directories, program_binds


@pytest.mark.parametrize(
    ("directories", "shown"),
    [
        (["/usr", "/opt/venv"], []),
        (["/usr", "/tmp/clone/.venv"], ["/tmp/clone/.venv"]),
        (["/tmp/clone/.venv", "/tmp/clone"], ["/tmp/clone"]),
        (["/tmp/a", "/tmp/ab"], ["/tmp/a", "/tmp/ab"]),
        (["/tmp"], []),
    ],
)
def test_what_lies_below_tmp_is_shown_read_only(directories: list[str], shown: list[str]) -> None:
    binds = program_binds(Path(directory) for directory in directories)
    assert binds == tuple(Bind(Path(p), PurePosixPath(p), read_only=True) for p in shown)


def test_the_own_directories_hold_this_package() -> None:
    assert any((directory / "taskctl" / "wire.py").exists() for directory in own_directories())
