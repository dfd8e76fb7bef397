"""What of the host a container's private /tmp and /run would hide, and is shown all the same."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from taskctl.embedded.node import programs
from taskctl.embedded.node.mounts import Bind
from taskctl.embedded.node.programs import own_directories, program_binds, system_paths


@pytest.mark.parametrize(
    ("directories", "shown"),
    [
        (["/usr", "/opt/venv"], []),
        (["/usr", "/tmp/clone/.venv"], ["/tmp/clone/.venv"]),
        (["/tmp/clone/.venv", "/tmp/clone"], ["/tmp/clone"]),
        (["/tmp/a", "/tmp/ab"], ["/tmp/a", "/tmp/ab"]),
        (["/tmp"], []),
        (["/run/systemd/resolve/stub-resolv.conf"], ["/run/systemd/resolve/stub-resolv.conf"]),
        (["/run/current-system", "/tmp/venv"], ["/run/current-system", "/tmp/venv"]),
    ],
)
def test_what_lies_below_tmp_or_run_is_shown(directories: list[str], shown: list[str]) -> None:
    binds = program_binds(Path(directory) for directory in directories)
    assert binds == tuple(Bind(Path(p), PurePosixPath(p), read_only=True) for p in shown)


def test_the_own_directories_hold_this_package() -> None:
    assert any((directory / "taskctl" / "wire.py").exists() for directory in own_directories())


def test_what_lies_behind_a_link_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tmp_path / "stub-resolv.conf"
    real.touch()
    link, broken, plain = tmp_path / "resolv.conf", tmp_path / "hosts", tmp_path / "localtime"
    link.symlink_to(real)
    broken.symlink_to(tmp_path / "nothing")
    plain.touch()
    monkeypatch.setattr(programs, "_LINKED", [str(link), str(broken), str(plain)])
    monkeypatch.setattr(programs, "_SYSTEM", [str(tmp_path), "/no/such/path"])
    assert system_paths() == (real, tmp_path)
