"""What hostile task code may try, against a whole `taskctl local` with its supervisor.

Every attack is bounded in time and number, and stays on the loopback address.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from taskctl.kube.client import KubeClient
from taskctl.kube.config import ClientSettings
from tests.embedded.world import World, eventually

START_S = 60.0
STOP_S = 60.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.attack)


@dataclass
class Local:
    """One ``taskctl local``.

    Attributes:
        data_dir: of the stack.
        files: limit of open files of all its processes; None leaves it.
    """

    data_dir: Path
    files: int | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start it and wait until it is ready."""

        def limit() -> None:
            if self.files is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (self.files, self.files))

        self.output.parent.mkdir(parents=True, exist_ok=True)
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "taskctl",
                    "local",
                    "--no-cluster",
                    "--data-dir",
                    str(self.data_dir),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=limit,
            )
        deadline = time.monotonic() + START_S
        while not (self.data_dir / "ready").exists():
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """As Ctrl-C."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    @property
    def output(self) -> Path:
        """What the supervisor says, which is not on the stack's own disk."""
        return self.data_dir.parent / f"{self.data_dir.name}.output"

    @property
    def port(self) -> int:
        return int(json.loads((self.data_dir / "server.json").read_text())["port"])

    @property
    def secrets(self) -> list[str]:
        """Texts that no task may ever see."""
        names = ("token", "node-token", "service-account.key")
        return [(self.data_dir / name).read_text().strip() for name in names]

    def pid(self, component: str) -> int:
        """Return the process id of a component, waiting for one that is being started again."""
        assert self.process is not None
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for path in Path("/proc").glob("[0-9]*"):
                with suppress(OSError, IndexError):
                    parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                    words = (path / "cmdline").read_bytes().split(b"\0")
                    if parent == self.process.pid and words[3] == component.encode():
                        return int(path.name)
            time.sleep(0.05)
        raise AssertionError(f"there is no {component}")

    def kill(self, component: str) -> None:
        os.kill(self.pid(component), signal.SIGKILL)

    def settings(self) -> ClientSettings:
        return ClientSettings(kubeconfig=str(self.data_dir / "kubeconfig"))

    @asynccontextmanager
    async def world(self, name: str = "attack") -> AsyncIterator[World]:
        """Yield a namespace with a client of its own connections."""
        async with await KubeClient.connect(self.settings()) as client:
            yield await World.create(client, name, self.data_dir)

    async def answers(self, *, timeout_s: float = 30.0) -> None:
        """Wait until the server answers on a new connection."""

        async def ask() -> bool:
            async with await KubeClient.connect(self.settings()) as client:
                await client.request("GET", "/api", timeout_s=timeout_s)
                return True

        await eventually(ask, bool, timeout_s=timeout_s, what="answering")


StartLocal = Callable[..., Local]


@pytest.fixture
def start_local() -> Iterator[StartLocal]:
    """Return what starts a stack; all are stopped at the end."""
    started: list[Local] = []
    with tempfile.TemporaryDirectory(prefix="taskctl-attack-") as directory:

        def start(data_dir: Path | None = None, *, files: int | None = None) -> Local:
            local = Local(data_dir or Path(directory) / f"data-{len(started)}", files)
            started.append(local)
            local.start()
            return local

        try:
            yield start
        finally:
            for local in started:
                local.stop()
