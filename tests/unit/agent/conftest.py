"""A worker in a temporary directory: the real agent and socket, a fake API server and time."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from taskctl.agent import runtime_dir
from taskctl.agent.main import Agent
from taskctl.agent.settings import AgentSettings, PodIdentity
from taskctl.api.resources import TASKS
from taskctl.kube.resources import PODS
from taskctl.kube.timing import Timing
from taskctl.wire import Message
from tests.unit.agent.fakes import FakeApi, FakeTime, Peer, eventually

POD = PodIdentity(name="w-1", namespace="ns", uid="pod-uid-1")


def container_name(uid: str, attempt: int) -> str:
    return f"t-{hashlib.sha256(uid.encode()).hexdigest()[:10]}-{attempt}"


class World:
    """What a test plays with."""

    def __init__(self, root: Path, *, workspace: bool = True, timing: Timing | None = None) -> None:
        self.api = FakeApi()
        self.time = FakeTime()
        self._timing = timing or self.time.timing
        for name in ("runtime", "state", "workspace"):
            (root / name).mkdir()
        self.settings = AgentSettings(
            pod=POD,
            cluster="c",
            workspace=root / "workspace" if workspace else None,
            runtime_dir=root / "runtime",
            state_dir=root / "state",
            inline_outputs=True,
        )
        self.agent: Agent | None = None
        self._running: asyncio.Task[None] | None = None
        self._peers: list[Peer] = []
        self.api.put(PODS, {"metadata": {"name": POD.name, "uid": POD.uid}, "spec": {}})

    # --- the agent ----------------------------------------------------------------------
    async def start(self) -> None:
        self.agent = Agent(self.settings, self.api, self._timing)
        self._running = asyncio.create_task(self.agent.run(), name="agent under test")
        ready = self.settings.runtime_dir / "ready"
        running = self._running
        await eventually(lambda: ready.exists() or running.done(), "ready")
        if running.done():
            await running

    async def kill(self) -> None:
        """End the agent as SIGKILL would: nothing is said to anybody."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
            self._running = None

    async def restart(self) -> None:
        await self.kill()
        await self.start_again()

    async def start_again(self) -> None:
        """Start the agent after a kill."""
        (self.settings.runtime_dir / "ready").unlink(missing_ok=True)
        await self.start()

    async def ended(self) -> None:
        assert self._running is not None
        await asyncio.wait_for(asyncio.shield(self._running), 40)

    async def close(self) -> None:
        for peer in self._peers:
            await peer.close()
        await self.kill()

    # --- the cluster --------------------------------------------------------------------
    def task(self, name: str = "job", *, metadata: Any = None, **spec: Any) -> dict[str, Any]:
        body = {"clusterName": "c", "image": "busybox", "command": ["sh", "-c"], "args": ["true"]}
        return self.api.put(
            TASKS, {"metadata": {"name": name, **(metadata or {})}, "spec": body | spec}
        )

    def place(
        self, task: dict[str, Any], attempt: int = 1, *, nonce: str = "n0", read_only: bool = False
    ) -> str:
        """Add a container to the pod, as the controller does; returns its name."""
        metadata = task["metadata"]
        name = container_name(metadata["uid"], attempt)
        env = {
            "TASKCTL_CONTAINER": name,
            "TASKCTL_TASK": metadata["name"],
            "TASKCTL_TASK_UID": metadata["uid"],
            "TASKCTL_ATTEMPT": str(attempt),
            "TASKCTL_NONCE": nonce,
            "TASKCTL_PLACED": "2026-01-02T03:04:04.000000Z",
        }
        entry = {
            "name": name,
            "command": ["/taskctl/bin/taskctl-init"],
            "env": [{"name": key, "value": value} for key, value in env.items()],
            "volumeMounts": [
                {"name": "workspace", "mountPath": "/workspace", "readOnly": read_only}
            ],
        }
        pod = self.api.see(PODS, POD.name)
        entries = [*pod["spec"].get("ephemeralContainers", []), entry]
        self.api.change(PODS, POD.name, spec={"ephemeralContainers": entries})
        return name

    def status(self, name: str = "job") -> dict[str, Any]:
        return dict(self.api.see(TASKS, name)["status"])

    # --- the containers -----------------------------------------------------------------
    async def connect(self) -> Peer:
        peer = await Peer.connect(self.settings.runtime_dir / "agent.sock")
        self._peers.append(peer)
        return peer

    async def init(self, container: str, *, nonce: str = "n0") -> tuple[Peer, str]:
        """Connect as taskctl-init; returns the connection and the token."""
        peer = await self.connect()
        answer = await peer.good("hello", v=1, container=container, nonce=nonce)
        return peer, answer["token"]

    async def back(self, container: str, token: str, **fields: Any) -> Peer:
        """Connect as taskctl-init once more."""
        peer = await self.connect()
        await peer.good("hello", v=1, container=container, token=token, **fields)
        return peer

    async def running(
        self, name: str = "job", *, metadata: Any = None, **spec: Any
    ) -> tuple[Peer, str, Message]:
        """Make a task run; returns its taskctl-init, the token, and what it was told."""
        task = self.task(name, metadata=metadata, **spec)
        peer, token = await self.init(self.place(task))
        told = await peer.good("next")
        assert told["action"] == "run", told
        return peer, token, told

    async def attached(self, told: Message) -> Peer:
        """Connect as the user's process of a run."""
        peer = await self.connect()
        await peer.good("attach", v=1, token=told["env"]["TASKCTL_TOKEN"])
        return peer


def exit_of(told: Message, code: int = 0, **fields: Any) -> dict[str, Any]:
    """Return the fields of an ``exited`` request."""
    return {
        "uid": told["uid"],
        "attempt": told["attempt"],
        "code": code,
        "signal": 0,
        "reason": "",
        "message": "",
        "started_us": 1_767_323_045_000_000,
        "exited_us": 1_767_323_046_500_000,
        "user_us": 1_500_000,
        "system_us": 250_000,
        "max_rss_kb": 2048,
        "tail": b"last words\n",
    } | fields


@pytest.fixture
def no_fill(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the runtime volume empty: compiling the SDK takes longer than a test."""
    monkeypatch.setattr(runtime_dir, "fill", lambda directory: None)


@pytest.fixture
async def world(tmp_path: Path, no_fill: None) -> AsyncIterator[World]:
    world = World(tmp_path)
    await world.start()
    try:
        yield world
    finally:
        await world.close()


@pytest.fixture
async def bare(tmp_path: Path, no_fill: None) -> AsyncIterator[World]:
    """Return a worker without a workspace."""
    world = World(tmp_path, workspace=False)
    await world.start()
    try:
        yield world
    finally:
        await world.close()
