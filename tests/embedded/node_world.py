"""An API server and a node in this process, and what tests ask of them."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from taskctl.embedded.node.api import ApiClient, core_path
from taskctl.embedded.node.main import Node
from taskctl.embedded.node.options import NodeOptions
from taskctl.embedded.server.main import EmbeddedServer, ServerOptions
from taskctl.errors import NotFound
from taskctl.kube.interface import PatchType

Json = dict[str, Any]
T = TypeVar("T")
TIMEOUT_S = 20.0


class NodeWorld:
    """One data directory with a server and, usually, a node."""

    def __init__(self, data_dir: Path, **options: Any) -> None:
        self.options = NodeOptions(data_dir, **options)
        self.data_dir = data_dir
        self.api = ApiClient(self.options.paths)
        self._server: EmbeddedServer | None = None
        self._node: Node | None = None
        self._task: asyncio.Task[None] | None = None

    # --- processes

    async def start_server(self) -> None:
        self._server = EmbeddedServer(ServerOptions(self.data_dir))
        await self._server.start()

    async def stop_server(self) -> None:
        if self._server is not None:
            await self._server.stop()
            self._server = None

    def start_node(self) -> None:
        self._node = Node(self.options)
        self._task = asyncio.create_task(self._node.run(), name="node under test")

    async def stop_node(self) -> None:
        """As SIGTERM does."""
        if self._node is not None and self._task is not None:
            self._node.stop()
            await asyncio.wait_for(self._task, TIMEOUT_S)
            self._node = self._task = None

    async def drop_node(self) -> None:
        """As kill -9 does: the containers stay."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._node = self._task = None

    # --- objects

    async def pod(self, name: str, *command: str, **spec: Any) -> Json:
        """Create a pod with one container, ``main``; ``main`` in ``spec`` adds fields to it."""
        main = {"name": "main", "image": "img:1", "command": list(command), **spec.pop("main", {})}
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": spec.pop("labels", {})},
            "spec": {"terminationGracePeriodSeconds": 3, "containers": [main], **spec},
        }
        return await self.api.create(core_path("pods", "default"), body)

    async def add(self, pod: str, name: str, *command: str, **more: Any) -> None:
        """Append an ephemeral container."""
        entry = {"name": name, "image": "img:1", "command": list(command), **more}
        path = core_path("pods", "default", pod, "ephemeralcontainers")
        await self.api.patch(path, {"spec": {"ephemeralContainers": [entry]}}, PatchType.STRATEGIC)

    async def create(self, plural: str, name: str, **parts: Any) -> Json:
        kinds = {"persistentvolumeclaims": "PersistentVolumeClaim", "configmaps": "ConfigMap"}
        kind = kinds.get(plural, plural.removesuffix("s").capitalize())
        body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **parts}
        return await self.api.create(core_path(plural, "default"), body)

    async def get(self, plural: str, name: str) -> Json:
        return await self.api.get(core_path(plural, "default", name))

    async def delete(self, plural: str, name: str, grace_s: int | None = None) -> None:
        found = await self.get(plural, name)
        path = core_path(plural, "default", name)
        await self.api.delete(path, found["metadata"]["uid"], grace_s)

    async def logs(self, pod: str, container: str = "main", **query: str) -> str:
        """Read a log through the API server."""
        url = f"{self._url()}{core_path('pods', 'default', pod, 'log')}"
        headers = {"Authorization": f"Bearer {self.options.paths.token_file.read_text().strip()}"}
        params = {"container": container, **query}
        tls = ssl.create_default_context(cafile=self.options.paths.authority_file)
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session,
            session.get(url, params=params, headers=headers) as response,
        ):
            return await response.text()

    async def events(self, reason: str) -> list[Json]:
        page = await self.api.get(core_path("events", "default"))
        return [event for event in page["items"] if event["reason"] == reason]

    def volume(self, pod: Json, name: str) -> Path:
        return self.options.paths.volume(pod["metadata"]["uid"], name)

    # --- waiting

    async def until(
        self, read: Callable[[], Awaitable[T]], accept: Callable[[T], bool], what: str
    ) -> T:
        deadline = asyncio.get_running_loop().time() + TIMEOUT_S
        while True:
            value = await read()
            if accept(value):
                return value
            if self._task is not None and self._task.done():
                self._task.result()
            assert asyncio.get_running_loop().time() < deadline, f"not {what}: {value}"
            await asyncio.sleep(0.02)

    async def phase(self, name: str, phase: str) -> Json:
        return await self.until(
            lambda: self.get("pods", name), lambda p: p["status"].get("phase") == phase, phase
        )

    async def ready(self, name: str) -> Json:
        def is_ready(pod: Json) -> bool:
            conditions = pod["status"].get("conditions", ())
            return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

        return await self.until(lambda: self.get("pods", name), is_ready, "ready")

    async def state(self, pod: str, container: str, kind: str) -> Json:
        """Wait until a container is waiting, running or terminated; returns its status."""

        async def read() -> Json:
            status = (await self.get("pods", pod))["status"]
            return container_status(status, container)

        return await self.until(read, lambda s: kind in s.get("state", {}), kind)

    async def gone(self, plural: str, name: str) -> None:
        async def read() -> bool:
            try:
                await self.get(plural, name)
            except NotFound:
                return True
            return False

        await self.until(read, bool, f"gone: {name}")

    async def file(self, path: Path, content: str = "") -> str:
        """Wait until a file has this content; returns all of it."""

        async def read() -> str | None:
            return path.read_text() if path.exists() else None

        found = await self.until(read, lambda t: t is not None and content in t, f"in {path}")
        return found or ""

    def _url(self) -> str:
        assert self._server is not None
        return self._server.url


def container_status(status: Mapping[str, Any], name: str) -> Json:
    for key in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        for entry in status.get(key, ()):
            if entry["name"] == name:
                return dict(entry)
    return {}


@asynccontextmanager
async def node_world(**options: Any) -> AsyncIterator[NodeWorld]:
    """Run a server and a node on a new directory; both and the directory go at the end."""
    directory = Path(tempfile.mkdtemp(prefix="node-test-"))
    world = NodeWorld(directory / "data", **options)
    try:
        await world.start_server()
        world.start_node()
        async with world.api:
            yield world
    finally:
        if world._task is None:  # containers may be left: a node must end them
            world.start_node()
            await asyncio.sleep(0.3)
        await world.stop_node()
        await world.stop_server()
        shutil.rmtree(directory)
