"""The server as a whole: start, stop, files, and the tasks it runs."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import logging
import os
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

import orjson
import yaml
from aiohttp import web

from taskctl.clock import Clock, SystemClock
from taskctl.embedded.server.api import Api
from taskctl.embedded.server.auth import Authenticator
from taskctl.embedded.server.claims import ClaimProtection
from taskctl.embedded.server.core import Core, open_collection
from taskctl.embedded.server.crd_lifecycle import CrdController
from taskctl.embedded.server.crd_strategy import CRDS
from taskctl.embedded.server.errors import Resource
from taskctl.embedded.server.eventlog import LogLimits
from taskctl.embedded.server.expiry import EventExpiry
from taskctl.embedded.server.gc import GarbageCollector
from taskctl.embedded.server.hub import Hub
from taskctl.embedded.server.kinds import Registry
from taskctl.embedded.server.logs import LogProxy
from taskctl.embedded.server.namespaces import NamespaceController
from taskctl.embedded.server.persistence import Database
from taskctl.embedded.server.special import Special
from taskctl.embedded.server.store import Store
from taskctl.errors import ConfigError

logger = logging.getLogger(__name__)

_CHECKPOINT_INTERVAL_S: Final = 10.0
_HISTORY_INTERVAL_S: Final = 10.0
_GC_ALLOCATIONS: Final = 20_000
_SHUTDOWN_TIMEOUT_S: Final = 2.0
_CONTEXT: Final = "local"


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How to run the server.

    Attributes:
        data_dir: where everything is kept; made if missing. None keeps all in memory, for tests.
        host: address to listen on. There is no TLS: anything but loopback exposes the token.
        port: 0 takes the port of the last run if it is free, else any free one.
        bookmark_interval_s: seconds between bookmarks on a watch; clients take a watch without
            any for dead after about 70.
        log_limits: how much history watches may resume from.
    """

    data_dir: Path | None = None
    host: str = "127.0.0.1"
    port: int = 0
    bookmark_interval_s: float = 30.0
    log_limits: LogLimits = field(default_factory=LogLimits)


class EmbeddedServer:
    """A running API server; also an async context manager.

    Attributes:
        url: base URL, once started.
        token: the administrator's bearer token.
        core: the parts below HTTP, for tests that look inside.
    """

    def __init__(self, options: ServerOptions, *, clock: Clock | None = None) -> None:
        self._options = options
        self._clock = clock or SystemClock()
        self._lock: IO[str] | None = None
        self._database: Database | None = None
        self._runner: web.ServerRunner | None = None
        self._logs: LogProxy | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.url = ""
        self.token = ""
        self.core: Core

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Load what is stored and listen.

        Raises:
            ConfigError: the data directory cannot be used, or the port is taken.
        """
        directory = self._options.data_dir
        if directory is not None:
            prepare_directory(directory)
            self._lock = _lock(directory / "server.lock")
            self._database = Database(directory / "db.sqlite")
        store = Store(self._clock, journal=self._database, limits=self._options.log_limits)
        self.core = Core(store, Registry(), Hub(), self._clock)
        self._load_and_control()
        self.token = _secret(directory, "token")
        signing_key = _secret(directory, "service-account.key").encode()
        authenticator = Authenticator(self.core, self.token, signing_key)
        self._logs = LogProxy(store, directory / "node-token" if directory else None)
        special = Special(self.core, authenticator, self._logs)
        api = Api(self.core, authenticator, special, self._options.bookmark_interval_s)
        await self._listen(api)
        if directory is not None:
            self._write_files(directory)
        logger.info("serving %s", self.url)

    async def stop(self) -> None:
        """End watches, finish requests, close the database."""
        if hasattr(self, "core"):
            self.core.hub.end()
        if self._runner is not None:
            await self._runner.cleanup()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._logs is not None:
            await self._logs.close()
        if self._database is not None:
            self._database.close()
        if self._lock is not None:
            self._lock.close()

    async def wait(self) -> None:
        """Return when one of the server's own tasks has failed.

        Raises:
            Exception: what it failed with.
        """
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    def _load_and_control(self) -> None:
        core = self.core
        for kind in core.registry.all():
            open_collection(core, kind)
        definitions = CrdController(core)
        _restore(core, self._database, definitions)
        namespaces, collector = NamespaceController(core), GarbageCollector(core)
        claims, expiry = ClaimProtection(core), EventExpiry(core)
        for listener in (
            core.hub.publish,
            definitions.notice,
            namespaces.notice,
            collector.notice,
            claims.notice,
            expiry.notice,
        ):
            core.store.listen(listener)
        definitions.resume()
        namespaces.bootstrap()
        collector.scan()
        claims.scan()
        expiry.scan()
        self._start_task("definitions", definitions.run)
        self._start_task("namespaces", namespaces.run)
        self._start_task("garbage-collector", collector.run)
        self._start_task("claim-protection", claims.run)
        self._start_task("event-expiry", expiry.run)
        self._start_task("history", self._expire_history)
        if self._database is not None:
            self._start_task("checkpoints", self._checkpoint)

    def _start_task(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        async def body() -> None:
            await run()

        self._tasks.append(asyncio.create_task(body(), name=f"server-{name}"))

    async def _expire_history(self) -> None:
        while True:
            await asyncio.sleep(_HISTORY_INTERVAL_S)
            self.core.store.expire_history()

    async def _checkpoint(self) -> None:
        while True:
            await asyncio.sleep(_CHECKPOINT_INTERVAL_S)
            if self._database is not None:
                await asyncio.to_thread(self._database.checkpoint)

    async def _listen(self, api: Api) -> None:
        server = web.Server(api.handle, access_log=None, handler_cancellation=True)
        self._runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_TIMEOUT_S)
        await self._runner.setup()
        listener = _bind(self._options, _last_port(self._options.data_dir))
        await web.SockSite(self._runner, listener, backlog=1024).start()
        host, port = listener.getsockname()[:2]
        self.url = f"http://{host}:{port}"

    def _write_files(self, directory: Path) -> None:
        port = int(self.url.rpartition(":")[2])
        _write(directory / "server.json", orjson.dumps({"url": self.url, "port": port}) + b"\n")
        _write(directory / "kubeconfig", kubeconfig(self.url, self.token).encode())


def prepare_directory(directory: Path) -> None:
    """Make a data directory that only its owner can enter.

    Raises:
        ConfigError: it cannot be made or used.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
    except OSError as error:
        raise ConfigError(
            f"the data directory {directory} cannot be used: {error.strerror}. Choose another one"
        ) from error


def kubeconfig(url: str, token: str) -> str:
    """Return a kubeconfig with one context, ``local``, for a server.

    The token stands in the URL, as the password of HTTP Basic authentication, and not in the
    user's entry: client-go reads that only where the server speaks TLS (k8s.io/client-go
    ``tools/clientcmd/client_config.go``, IsConfigTransportTLS).
    """
    scheme, _, address = url.partition("://")
    server = f"{scheme}://{_CONTEXT}:{token}@{address}"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": _CONTEXT, "cluster": {"server": server}}],
        "users": [{"name": _CONTEXT, "user": {}}],
        "contexts": [
            {
                "name": _CONTEXT,
                "context": {"cluster": _CONTEXT, "user": _CONTEXT, "namespace": "default"},
            }
        ],
        "current-context": _CONTEXT,
    }
    return yaml.safe_dump(content, sort_keys=False)


def _restore(core: Core, database: Database | None, definitions: CrdController) -> None:
    if database is None:
        return
    for raw in database.objects_of(CRDS):
        definitions.register(orjson.loads(raw))
    known = set(core.store.resources())
    rows: list[tuple[Resource, bytes]] = []
    forgotten: set[Resource] = set()
    floors = database.last_deletions()
    for resource, raw in database.objects():
        if resource in known:
            rows.append((resource, raw))
        else:
            # Kept on disk for a version that knows the kind; its revisions still count.
            forgotten.add(resource)
            revision = int(orjson.loads(raw)["metadata"]["resourceVersion"])
            floors[resource] = max(floors.get(resource, 0), revision)
    for resource in sorted(forgotten):
        logger.warning("the database holds %s, which nothing defines", resource.qualified)
    core.store.restore(rows, floors)


def _lock(path: Path) -> IO[str]:
    """Hold the data directory for this process; the system lets go when the process ends."""
    file = open(path, "w")  # noqa: SIM115 - held until stop()
    os.chmod(path, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ConfigError(
            f"another server is using {path.parent}. Stop it, or choose another data directory"
        ) from None
    return file


def _secret(directory: Path | None, name: str) -> str:
    """Return the secret kept in a file, making it the first time."""
    if directory is None:
        return secrets.token_urlsafe(32)
    path = directory / name
    try:
        found = path.read_text().strip()
        if found:
            return found
    except FileNotFoundError:
        pass
    made = secrets.token_urlsafe(32)
    _write(path, made.encode() + b"\n")
    return made


def _write(path: Path, content: bytes) -> None:
    """Replace a file in one step; readable by its owner only."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)


def _last_port(directory: Path | None) -> int:
    if directory is None:
        return 0
    try:
        return int(orjson.loads((directory / "server.json").read_bytes())["port"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return 0


def _bind(options: ServerOptions, last_port: int) -> socket.socket:
    candidates = [options.port] if options.port else [last_port, 0] if last_port else [0]
    for port in candidates:
        listener = socket.socket(socket.AF_INET6 if ":" in options.host else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((options.host, port))
        except OSError as error:
            listener.close()
            if port == candidates[-1]:
                raise ConfigError(
                    f"cannot listen on {options.host}:{port}: {error.strerror}. Choose another "
                    "port, or stop the program that uses it"
                ) from error
        else:
            return listener
    raise ConfigError(f"cannot listen on {options.host}")


async def run_server(options: ServerOptions) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigError: the data directory cannot be used, or the port is taken.
    """
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with EmbeddedServer(options) as server:
        # What was loaded lives on: the collector need not walk it again and again. Records
        # made later are few per cycle and hold no cycles, so young collections suffice.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GC_ALLOCATIONS, 20, 100)
        failed = asyncio.create_task(server.wait(), name="server-watchdog")
        stopped = asyncio.create_task(stopping.wait(), name="server-stop")
        await asyncio.wait((failed, stopped), return_when=asyncio.FIRST_COMPLETED)
        for task in (failed, stopped):
            task.cancel()
        if failed.done() and not failed.cancelled():
            failed.result()
