"""The local stack as separate processes that a test may kill one by one.

``taskctl local`` supervises the same three processes; here the test is the supervisor.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from taskctl.api import crds
from taskctl.clientsettings import CLIENT_SETTINGS
from taskctl.clock import SystemClock
from taskctl.errors import AlreadyExists, ApiError, ConfigError
from taskctl.kube.client import KubeClient
from taskctl.kube.config import ClientSettings
from taskctl.kube.resources import CRDS

KUBECONFIG_WAIT_S: Final = 20.0


class Component(StrEnum):
    """A process of the local stack; the value is its ``taskctl`` command."""

    SERVER = "server"
    CONTROLLER = "controller"
    NODE = "node"


class LocalStack:
    """API server, controller and node in one data directory, each its own process.

    Args:
        data_dir: where all state lives; made if absent. A stack started again on the same
            directory continues where the last one was.
        image_roots: image reference to the directory that stands for its files.
        image_environments: image reference to a Python environment whose programs come first.
        notify_allow: where notifications of Tasks may go.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        image_roots: Mapping[str, Path] | None = None,
        image_environments: Mapping[str, Path] | None = None,
        notify_allow: Sequence[str] = (),
    ) -> None:
        self.data_dir = data_dir
        self._notify_allow = tuple(notify_allow)
        self._images = {name: str(path) for name, path in (image_roots or {}).items()}
        for name, path in (image_environments or {}).items():
            self._images[name] = f"venv:{path}"
        self._processes: dict[Component, subprocess.Popen[bytes]] = {}
        self._clock = SystemClock()

    @property
    def kubeconfig(self) -> Path:
        """Where the server writes the kubeconfig."""
        return self.data_dir / "kubeconfig"

    def client_settings(self) -> ClientSettings:
        """Return settings for a :class:`KubeClient` of this stack."""
        return replace(CLIENT_SETTINGS, kubeconfig=str(self.kubeconfig))

    def start(self, *components: Component) -> None:
        """Start the named components, or all of them. One that runs already is left alone."""
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        logs = self.data_dir / "logs"
        logs.mkdir(mode=0o700, exist_ok=True)
        for component in components or tuple(Component):
            if self.is_running(component):
                continue
            with (logs / f"{component}.log").open("ab") as log:
                self._processes[component] = subprocess.Popen(
                    self._command(component),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            if component is Component.SERVER:
                self._wait_for_kubeconfig()

    def _wait_for_kubeconfig(self) -> None:
        """The others cannot start before the very first server has written it."""
        deadline = self._clock.monotonic_s() + KUBECONFIG_WAIT_S
        while not self.kubeconfig.exists() and self._clock.monotonic_s() < deadline:
            self._check_alive()
            time.sleep(0.02)

    def _command(self, component: Component) -> list[str]:
        command = [sys.executable, "-m", "taskctl", component.value]
        command += ["--data-dir", str(self.data_dir)]
        if component is Component.CONTROLLER:
            command += ["--health-port", "0", "--run-clusters", "any"]
            for host in self._notify_allow:
                command += ["--notify-allow", host]
        if component is Component.NODE:
            for image, source in self._images.items():
                command += ["--image", f"{image}={source}"]
        return command

    def pid(self, component: Component) -> int:
        """Return the component's process id.

        Raises:
            KeyError: it has not been started.
        """
        return self._processes[component].pid

    def is_running(self, component: Component) -> bool:
        """Return whether the component's process is alive."""
        process = self._processes.get(component)
        return process is not None and process.poll() is None

    def kill(self, component: Component) -> None:
        """End the component with SIGKILL and wait until it is gone."""
        process = self._processes.pop(component)
        process.kill()
        process.wait()

    def metrics_url(self) -> str:
        """Return where the controller that was started last serves its metrics.

        Raises:
            LookupError: its log does not say so yet.
        """
        log = (self.data_dir / "logs" / f"{Component.CONTROLLER}.log").read_text()
        found = re.findall(r"metrics on (http://\S+)", log)
        if not found:
            raise LookupError("the controller's log does not say where it serves its metrics")
        return f"{found[-1]}/metrics"

    def agent_pids(self) -> list[int]:
        """Return the pids of the agents of this stack's workers: children of its shims."""
        shims = {pid for pid in _pids() if os.fsencode(self.data_dir) in _cmdline(pid)}
        return [pid for pid in _pids() if _parent(pid) in shims and _is_agent(pid)]

    async def wait_ready(self, *, timeout_s: float = 60.0) -> None:
        """Wait until the server answers, then make sure that the CRDs are there.

        Raises:
            ConfigError: a component ended, or the time is up; names the log to read.
        """
        deadline = self._clock.monotonic_s() + timeout_s
        while True:
            self._check_alive()
            with contextlib.suppress(ApiError, ConfigError):
                async with await KubeClient.connect(self.client_settings()) as client:
                    await _ensure_crds(client)
                return
            if self._clock.monotonic_s() > deadline:
                raise ConfigError(
                    f"the local stack is not ready after {timeout_s:.0f} s; "
                    f"see {self.data_dir / 'logs'}"
                )
            await asyncio.sleep(0.05)

    def _check_alive(self) -> None:
        for component, process in self._processes.items():
            if process.poll() is not None:
                log = self.data_dir / "logs" / f"{component}.log"
                raise ConfigError(f"{component} ended with {process.returncode}; see {log}")

    def stop(self, *, grace_s: float = 20.0) -> None:
        """Stop everything: the node first (it stops all containers), the server last."""
        for component in (Component.NODE, Component.CONTROLLER, Component.SERVER):
            process = self._processes.pop(component, None)
            if process is None or process.poll() is not None:
                continue
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=grace_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def logs(self, *, tail_bytes: int = 4000) -> str:
        """Return the ends of the components' logs, for a failing test's report."""
        parts = []
        for path in sorted((self.data_dir / "logs").glob("*.log")):
            data = path.read_bytes()
            parts.append(f"--- {path.name}\n{data[-tail_bytes:].decode(errors='replace')}")
        return "\n".join(parts)


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _cmdline(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return 0


def _is_agent(pid: int) -> bool:
    words = _cmdline(pid).split(b"\0")
    return any(word.endswith(b"/taskctl") for word in words) and b"agent" in words


async def _ensure_crds(client: KubeClient) -> None:
    for crd in crds.load_all():
        with contextlib.suppress(AlreadyExists):
            await client.create(CRDS, crd)
