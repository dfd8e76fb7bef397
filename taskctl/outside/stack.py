"""``taskctl.local()``: the local stack for as long as a ``with`` block lasts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final, Self

from taskctl.constants import API_VERSION
from taskctl.embedded.host import require_linux
from taskctl.errors import AlreadyExists, ConfigError
from taskctl.outside.client import Client
from taskctl.outside.sync import SyncClient
from taskctl.policy.defaultcluster import DEFAULT_CLUSTER

START_TIMEOUT_S: Final = 90.0
# The sum of the graces that the stack gives its components, and some.
STOP_TIMEOUT_S: Final = 90.0
_POLL_S: Final = 0.05
_LOG_LINES: Final = 8
_TAIL_BYTES: Final = 8192
# What the stack gets when this process is killed, perhaps several times; see taskctl.cli.lifeline.
_SUPERVISOR: Final = "TASKCTL_SUPERVISOR"


class LocalStack:
    """API server, controller and node on this machine. ``with taskctl.local() as stack:``.

    Works in ``async with``, too. At the end it stops what it started and nothing else, however the
    block ends; when this process is killed, the kernel stops the stack.

    Args:
        data_dir: where the stack keeps everything, which stays there; None: a temporary directory.
        cluster: name of a TaskCluster that is made unless it is there; None: none.
        workers: of that TaskCluster.
        slots: of each worker.
        images: image name to a directory that stands for its files.

    Attributes:
        data_dir: absolute; while the block lasts.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        cluster: str | None = DEFAULT_CLUSTER,
        workers: int = 1,
        slots: int = 4,
        images: Mapping[str, str | os.PathLike[str]] | None = None,
    ) -> None:
        self._given = None if data_dir is None else Path(data_dir).absolute()
        self._cluster = cluster
        self._workers = workers
        self._slots = slots
        self._images = {name: Path(path).absolute() for name, path in (images or {}).items()}
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None
        self._temporary = ""
        self.data_dir = self._given or Path()

    @property
    def kubeconfig(self) -> Path:
        """For kubectl, the ``taskctl`` command and clients."""
        return self.data_dir / "kubeconfig"

    def client(self, **settings: Any) -> SyncClient:
        """Return a client of this stack, to be opened; the arguments are those of SyncClient."""
        return SyncClient(**{"kubeconfig": self.kubeconfig, "cluster": self._cluster, **settings})

    def async_client(self, **settings: Any) -> Client:
        """Return an async client of this stack, to be opened; the arguments are those of Client."""
        return Client(**{"kubeconfig": self.kubeconfig, "cluster": self._cluster, **settings})

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        # Not in another thread: the kernel ties the stack's life to the thread that starts it.
        self._launch()
        try:
            await asyncio.to_thread(self._wait_ready)
        except BaseException:
            await asyncio.to_thread(self.stop)
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await asyncio.to_thread(self.stop)

    def start(self) -> None:
        """Start the stack and wait until it is ready; ``with`` does it.

        Raises:
            ConfigError: it does not start, another one runs on the data directory, or this is
                not Linux.
        """
        self._launch()
        try:
            self._wait_ready()
        except BaseException:
            self.stop()
            raise

    def _launch(self) -> None:
        if self._process is not None:
            raise ConfigError("this local stack runs already")
        require_linux()
        if self._given is None:
            self._temporary = tempfile.mkdtemp(prefix="taskctl-")
            self.data_dir = Path(self._temporary)
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = [sys.executable, "-m", "taskctl", "local", "--data-dir", str(self.data_dir)]
        command.append("--no-cluster")  # _make_cluster makes what was asked for
        for name, path in self._images.items():
            command += ["--image", f"{name}={path}"]
        environment = dict(os.environ)
        if threading.current_thread() is threading.main_thread():
            # The kernel sends it when the thread ends that started the process.
            environment[_SUPERVISOR] = f"{os.getpid()} {int(signal.SIGHUP)}"
        # A file of this launch alone: another stack may run on the data directory and say things.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (stop() closes it)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the program, which stops the stack
        )

    def _wait_ready(self) -> None:
        assert self._process is not None
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not self._is_ready():
            if self._process.poll() is not None:
                raise ConfigError("\n  ".join(["the local stack did not start:", *self._tail()]))
            if time.monotonic() > deadline_s:
                raise ConfigError(
                    f"the local stack is not ready after {START_TIMEOUT_S:.0f} s; see "
                    f"{self.data_dir / 'logs'}"
                )
            time.sleep(_POLL_S)
        if self._cluster is not None:
            self._make_cluster(self._cluster)

    def _is_ready(self) -> bool:
        """Whether this very stack is up; the file may be of one that runs there already."""
        import json

        assert self._process is not None
        try:
            said = json.loads((self.data_dir / "ready").read_text())
        except (OSError, ValueError):
            return False
        return bool(said.get("pid") == self._process.pid)

    def _tail(self) -> list[str]:
        assert self._output is not None
        # The stack writes at the place where this process would read: both share one offset.
        size = os.fstat(self._output.fileno()).st_size
        start = max(0, size - _TAIL_BYTES)
        text = os.pread(self._output.fileno(), size - start, start).decode(errors="replace")
        return text.splitlines()[-_LOG_LINES:]

    def _make_cluster(self, name: str) -> None:
        manifest = {
            "apiVersion": API_VERSION,
            "kind": "TaskCluster",
            "metadata": {"name": name},
            "spec": {
                "replicas": self._workers,
                "slotsPerWorker": self._slots,
                "workspace": {"enable": True},
            },
        }
        with self.client() as client, contextlib.suppress(AlreadyExists):
            client.create(manifest)

    def stop(self) -> None:
        """Stop the stack and wait for its end; ``with`` does it. Harmless when it has ended."""
        process, self._process = self._process, None
        try:
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(STOP_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        finally:
            if self._output is not None:
                self._output.close()
                self._output = None
            temporary, self._temporary = self._temporary, ""
            if temporary:
                shutil.rmtree(temporary, ignore_errors=True)


def local(
    data_dir: str | os.PathLike[str] | None = None,
    *,
    cluster: str | None = DEFAULT_CLUSTER,
    workers: int = 1,
    slots: int = 4,
    images: Mapping[str, str | os.PathLike[str]] | None = None,
) -> LocalStack:
    """Return the local stack for a ``with`` block; see :class:`LocalStack`."""
    return LocalStack(data_dir, cluster=cluster, workers=workers, slots=slots, images=images)
