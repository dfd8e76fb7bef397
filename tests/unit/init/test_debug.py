"""``taskctl-init debug-hold`` and ``debug-end``: the first process of a container for debugging."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest


def test_it_holds_until_it_is_ended_by_its_name(binary: Path) -> None:
    held = {
        name: subprocess.Popen([binary, "debug-hold", name, "300"]) for name in ("one", "one-two")
    }
    try:
        # Until it has begun, it is found by nobody: the kernel tells its words from the start.
        assert subprocess.run([binary, "debug-end", "one"], check=True).returncode == 0
        assert held["one"].wait(60) in (0, -15)
        assert held["one-two"].poll() is None
    finally:
        for process in held.values():
            process.kill()
            process.wait()


def test_it_ends_by_itself(binary: Path) -> None:
    assert subprocess.run([binary, "debug-hold", "x", "1"], timeout=60, check=False).returncode == 0


@pytest.mark.parametrize(
    "words",
    [("debug-hold",), ("debug-hold", "x"), ("debug-hold", "x", "0"), ("debug-hold", "x", "1s"),
     ("debug-hold", "x", "1", "2"), ("debug-end",), ("debug-end", "a", "b")],
)  # fmt: skip
def test_wrong_usage(binary: Path, words: tuple[str, ...]) -> None:
    done = subprocess.run([binary, *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "wants" in done.stderr
