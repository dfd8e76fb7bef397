"""What a new user does: the wheel into an empty environment, the local stack, what it prints.

The packages that taskctl needs come from the package index. Where it cannot be reached the test is
skipped, unless TASKCTL_REQUIRE_INDEX=1.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.wheels.project import PROJECT, ROOT

pytestmark = [
    pytest.mark.timeout(1500),
    pytest.mark.skipif(sys.platform != "linux", reason="the local stack needs Linux"),
]

INSTALL_TIMEOUT_S = 700
# For a busy machine; nothing here is about speed.
STEP_TIMEOUT_S = 180
POLL_S = 0.1
COMPILERS = ("cc", "gcc", "clang", "c99", "zig", "tcc")
# What a task and the printed commands call. Nothing else is on PATH.
TOOLS = ("sh", "echo", "env", "cat")


@dataclass
class NewUser:
    """An environment, a home and a working directory with nothing in them."""

    folder: Path

    @property
    def bin(self) -> Path:
        """Where the environment's programs are."""
        return self.folder / "environment" / "bin"

    @property
    def home(self) -> Path:
        """``$HOME``."""
        return self.folder / "home"

    @property
    def environ(self) -> dict[str, str]:
        """All of it."""
        return {"HOME": str(self.home), "PATH": f"{self.bin}:{self.folder / 'tools'}"}

    def make(self) -> None:
        """Make all of it."""
        venv.create(self.folder / "environment", with_pip=False)
        for name in ("home", "work", "tools"):
            (self.folder / name).mkdir()
        for tool in TOOLS:
            (self.folder / "tools" / tool).symlink_to(str(shutil.which(tool)))

    def pip(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run this environment's pip for the new one, with its cache."""
        # What pip is to know of this machine: where the index is, whom to trust.
        settings = {
            name: value
            for name, value in os.environ.items()
            if name.startswith("PIP_") or name.lower().endswith("_proxy")
        }
        cache = subprocess.run(
            [sys.executable, "-m", "pip", "cache", "dir"],
            capture_output=True,
            text=True,
            check=True,
        )
        # --no-compile: most of it is never loaded.
        command = [sys.executable, "-m", "pip", "--python", str(self.bin / "python"), *arguments]
        return subprocess.run(
            command,
            env=settings | self.environ | {"PIP_CACHE_DIR": cache.stdout.strip()},
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Type a line in a shell."""
        return subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.folder / "work",
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=STEP_TIMEOUT_S,
            check=False,
        )


@pytest.fixture(scope="module")
def user(wheel: Path) -> Iterator[NewUser]:
    """Install the wheel into an environment of its own.

    Below /var/tmp, as a container on the local stack has a /tmp of its own.
    """
    with tempfile.TemporaryDirectory(prefix="taskctl-new-user-", dir="/var/tmp") as folder:
        user = NewUser(Path(folder))
        user.make()
        done = user.pip(
            "install", "--quiet", "--no-compile", "--only-binary=:all:",
            "--constraint", str(ROOT / "scripts" / "constraints.txt"),
            f"taskctl[local] @ {wheel.as_uri()}",
        )  # fmt: skip
        if done.returncode != 0 and os.environ.get("TASKCTL_REQUIRE_INDEX") != "1":
            pytest.skip(f"the package index does not give what is needed: {done.stderr[-300:]}")
        assert done.returncode == 0, done.stderr
        yield user


@dataclass
class Foreground:
    """A command that runs until Ctrl-C."""

    process: subprocess.Popen[bytes]
    log: Path

    def said(self) -> str:
        """Return what it has printed."""
        return self.log.read_text()

    def wait_for(self, pattern: str) -> str:
        """Wait until it has printed something; returns the group, or all."""
        deadline_s = time.monotonic() + STEP_TIMEOUT_S
        while (found := re.search(pattern, self.said())) is None:
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline_s, self.said()
            time.sleep(POLL_S)
        return found[found.lastindex or 0]

    def stop(self) -> int:
        """Type Ctrl-C; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(STEP_TIMEOUT_S)


@contextmanager
def foreground(user: NewUser, *command: str) -> Iterator[Foreground]:
    """Run a command until the block ends."""
    log = user.folder / f"terminal-{time.monotonic_ns()}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=user.folder / "work",
            env=user.environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    running = Foreground(process, log)
    try:
        yield running
    finally:
        running.stop()


def test_no_compiler_is_needed(user: NewUser) -> None:
    assert [name for name in COMPILERS if shutil.which(name, path=user.environ["PATH"])] == []
    version = user.run("taskctl --version")
    assert version.stdout == f"taskctl {PROJECT['version']}\n", version.stderr
    checked = user.pip("check")
    assert checked.returncode == 0, checked.stdout


def test_what_the_local_stack_prints_works_as_it_stands(user: NewUser) -> None:
    with foreground(user, str(user.bin / "taskctl"), "local") as stack:
        stack.wait_for(r"Ctrl-C stops it\.")
        _, _, rest = stack.said().partition("In another shell:\n")
        submit, tree, page = (line.strip() for line in rest.splitlines() if line.startswith("  "))
        done = user.run(submit)
        assert done.returncode == 0, done.stdout + done.stderr
        name = done.stdout.split()[0]
        assert user.run(f"taskctl logs {name}").stdout == "hello\n"
        seen = user.run(tree)
        assert seen.returncode == 0, seen.stderr
        assert f"{name} Succeeded" in seen.stdout
        with foreground(user, *shlex.split(page)) as served:
            for running in (stack, served):
                answers(running.wait_for(r"page.* (http://\S+)"))
        assert stack.process.poll() is None, "the page's end is not the stack's"
        assert stack.stop() in (0, 130), stack.said()
    assert left_running(user) == []
    kept = {path.relative_to(user.home) for path in user.home.rglob("*") if not path.is_dir()}
    assert all(path.is_relative_to(".local/state/taskctl") for path in kept), kept


def answers(address: str) -> None:
    with urllib.request.urlopen(address, timeout=STEP_TIMEOUT_S) as answer:
        assert answer.status == 200
        assert b"<!doctype html>" in answer.read().lower()


def left_running(user: NewUser) -> list[bytes]:
    """Return the command lines of processes that run programs of the environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            found.append((process / "cmdline").read_bytes())
    return [command for command in found if os.fsencode(user.folder) in command]
