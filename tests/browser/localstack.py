"""`taskctl local` and `taskctl ui` as a user starts them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEMO = Path(__file__).resolve().parents[2] / "demo"
_URL = re.compile(r"http://127\.0\.0\.1:\d+/#\S+")
_WAIT_S = 90.0


@dataclass(frozen=True)
class Local:
    """A local stack.

    Attributes:
        directory: its data directory.
        url: of its page, as it was printed.
    """

    directory: Path
    url: str

    def taskctl(self, *arguments: str, text: str = "", check: bool = True) -> str:
        """Run a verb; return what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "taskctl", *arguments],
            input=text,
            capture_output=True,
            text=True,
            env=self.env,
            timeout=_WAIT_S,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def submit(self, *objects: dict[str, Any]) -> None:
        """Create objects."""
        self.taskctl("submit", "-f", "-", text="\n---\n".join(json.dumps(one) for one in objects))

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.directory / "kubeconfig")}

    @contextlib.contextmanager
    def ui(self, *options: str) -> Iterator[str]:
        """Run `taskctl ui`; yields the address that it prints."""
        command = [sys.executable, "-m", "taskctl", "ui", *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=self.env) as process:
            try:
                assert process.stdout is not None
                found = _URL.search(process.stdout.readline())
                assert found is not None
                yield found[0]
            finally:
                process.send_signal(signal.SIGTERM)
                assert process.wait(20) == 0


@contextlib.contextmanager
def running_local() -> Iterator[Local]:
    """Run `taskctl local` until the block ends."""
    directory = Path(tempfile.mkdtemp(prefix="taskctl-page-"))
    data = directory / "data"
    command = [sys.executable, "-m", "taskctl", "local", "--no-cluster", "--data-dir", str(data)]
    command += ["--image", f"counter:latest={DEMO / 'counter' / 'image'}"]
    log = directory / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + _WAIT_S
        while not (found := _URL.search(log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        local = Local(data, found[0])
        spec = {"replicas": 2, "slotsPerWorker": 4, "workspace": {}}
        cluster = {"apiVersion": "taskctl.dev/v1alpha1", "kind": "TaskCluster"}
        local.submit({**cluster, "metadata": {"name": "c"}, "spec": spec})
        yield local
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def raw_task(name: str, *command: str, **spec: Any) -> dict[str, Any]:
    """Return a Task on TaskCluster `c`."""
    base = {"clusterName": "c", "image": "busybox", "command": list(command)}
    return {
        "apiVersion": "taskctl.dev/v1alpha1",
        "kind": "Task",
        "metadata": {"name": name},
        "spec": {**base, **spec},
    }
