"""The server as a whole: start, stop, files, and the tasks it runs."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import gc
import logging
import os
import secrets
import signal
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Self
from urllib.parse import urlsplit

import orjson
import yaml
from aiohttp import web

from taskctl.clock import Clock, SystemClock
from taskctl.embedded.files import update_private, write_private
from taskctl.embedded.listening import bind, stored_port
from taskctl.embedded.server.access.certificates import Certificates, ensure_certificates
from taskctl.embedded.server.api.router import Api
from taskctl.embedded.server.core import Core
from taskctl.embedded.server.engine import Engine, Secrets
from taskctl.embedded.server.http.connections import (
    ConnectionLimits,
    Gate,
    GatedServer,
    raise_file_limit,
)
from taskctl.embedded.server.http.log import request_logger
from taskctl.embedded.server.storage.eventlog import LogLimits
from taskctl.embedded.server.storage.persistence import Database
from taskctl.errors import ConfigError

log = logging.getLogger(__name__)

_GC_ALLOCATIONS: Final = 20_000
_RENEWAL_INTERVAL_S: Final = 3600.0
_SHUTDOWN_TIMEOUT_S: Final = 2.0
_CONTEXT: Final = "local"


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How to run the server.

    Attributes:
        data_dir: where everything is kept; made if missing. None keeps all in memory, for tests.
        host: address to listen on.
        port: 0 takes the port of the last run, which must be free: clients know it. Where there
            was none, a free one is chosen.
        listener: a bound socket to use instead, which another process keeps over restarts.
        bookmark_interval_s: seconds between bookmarks on a watch; clients take a watch without
            any for dead after about 70.
        log_limits: how much history watches may resume from.
        connection_limits: None: what the process's limit of open files allows.
    """

    data_dir: Path | None = None
    host: str = "127.0.0.1"
    port: int = 0
    listener: socket.socket | None = None
    bookmark_interval_s: float = 30.0
    log_limits: LogLimits = field(default_factory=LogLimits)
    connection_limits: ConnectionLimits | None = None


class EmbeddedServer:
    """A running API server; also an async context manager.

    Attributes:
        url: base URL, once started.
        token: the administrator's bearer token.
        certificates: of TLS, once started.
        engine: the server below HTTP, once started.
    """

    def __init__(self, options: ServerOptions, *, clock: Clock | None = None) -> None:
        self._options = options
        self._clock = clock or SystemClock()
        self._lock: IO[str] | None = None
        self._database: Database | None = None
        self._runner: web.ServerRunner | None = None
        self._gate: Gate | None = None
        self._tls: ssl.SSLContext | None = None
        self.url = ""
        self.token = ""
        self.certificates: Certificates
        self.engine: Engine

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Load what is stored and listen.

        Raises:
            ConfigError: the data directory cannot be used, or the port is taken.
        """
        try:
            await self._start()
        except OSError as error:
            where = self._options.data_dir
            raise ConfigError(f"the data directory {where} cannot be used: {error}") from error

    async def _start(self) -> None:
        directory = self._options.data_dir
        if directory is not None:
            prepare_directory(directory)
            self._lock = _lock(directory / "server.lock")
            self._database = Database(directory / "db.sqlite")
        listener, self.url = self._bind()
        self.certificates = self._ensure_certificates()
        self.token = _secret(directory, "token")
        signing_key = _secret(directory, "service-account.key").encode()
        self.engine = Engine(
            self._clock,
            Secrets(self.token, signing_key, self.certificates.authority_pem),
            database=self._database,
            directory=directory,
            log_limits=self._options.log_limits,
            bookmark_interval_s=self._options.bookmark_interval_s,
        )
        self.engine.start()
        await self._listen(self.engine.api, listener)
        if directory is not None:
            self._write_files(directory)
        log.info("serving %s", self.url)

    async def stop(self) -> None:
        """End watches, finish requests, close the database."""
        if hasattr(self, "engine"):
            self.engine.core.hub.end()
        if self._gate is not None:
            self._gate.shut()
        if self._runner is not None:
            await self._runner.cleanup()
        if hasattr(self, "engine"):
            await self.engine.stop()
        if self._database is not None:
            self._database.close()
        if self._lock is not None:
            self._lock.close()

    @property
    def core(self) -> Core:
        """The parts below HTTP, for tests that look inside."""
        return self.engine.core

    def _bind(self) -> tuple[socket.socket, str]:
        """Return the socket to listen on, and its URL for clients on this machine."""
        options = self._options
        listener = options.listener
        if listener is None:
            port = options.port or stored_port(options.data_dir)
            listener = bind(options.host, port, chosen=bool(options.port))
        host, port = listener.getsockname()[:2]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        return listener, f"https://{f'[{host}]' if ':' in host else host}:{port}"

    def _ensure_certificates(self) -> Certificates:
        host = urlsplit(self.url).hostname or ""
        extra = [] if self._options.listener is not None else [self._options.host]
        hosts = [name for name in (host, *extra) if name not in ("0.0.0.0", "::", "")]
        # The time of the machine, not a test's: that is what clients compare with.
        now = SystemClock().now()
        return ensure_certificates(self._options.data_dir, hosts, now)

    async def _listen(self, api: Api, listener: socket.socket) -> None:
        limits = self._options.connection_limits or ConnectionLimits.within(raise_file_limit())
        server = GatedServer(
            api.handle,
            access_log=None,
            logger=request_logger(),
            handler_cancellation=True,
            keepalive_timeout=limits.idle_s,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_TIMEOUT_S)
        await self._runner.setup()
        self._tls = self.certificates.server_context()
        self._gate = Gate(listener, server, self._tls, limits)
        api.admitted = self._gate.admit
        self.engine.start_task("certificates", self._renew)
        self._gate.open()

    async def _renew(self) -> None:
        """Replace the certificate in time, also where the server runs for years."""
        while True:
            await asyncio.sleep(_RENEWAL_INTERVAL_S)
            if self._options.data_dir is None or self._tls is None:
                continue
            try:
                found = await asyncio.to_thread(self._ensure_certificates)
            except OSError as error:
                log.warning("the certificates cannot be renewed yet: %s", error)
                continue
            if found != self.certificates:
                self.certificates = found
                found.load_into(self._tls)
                log.info("the server's certificate was replaced")

    def _write_files(self, directory: Path) -> None:
        """Tell clients where the server is; a file that says so already is not touched."""
        port = urlsplit(self.url).port
        content = orjson.dumps({"url": self.url, "port": port}) + b"\n"
        update_private(directory / "server.json", content)
        text = kubeconfig(self.url, self.token, self.certificates.authority_pem)
        update_private(directory / "kubeconfig", text.encode())


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


def kubeconfig(url: str, token: str, authority_pem: bytes) -> str:
    """Return a kubeconfig with one context, ``local``, for a server."""
    cluster = {
        "server": url,
        "certificate-authority-data": base64.b64encode(authority_pem).decode("ascii"),
    }
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": _CONTEXT, "cluster": cluster}],
        "users": [{"name": _CONTEXT, "user": {"token": token}}],
        "contexts": [
            {
                "name": _CONTEXT,
                "context": {"cluster": _CONTEXT, "user": _CONTEXT, "namespace": "default"},
            }
        ],
        "current-context": _CONTEXT,
    }
    return yaml.safe_dump(content, sort_keys=False)


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
    write_private(path, made.encode() + b"\n")
    return made


def tune_collector() -> None:
    """Have Python's collector look at new objects only.

    What was loaded lives on: the collector need not walk it again and again. Records made later
    are few per cycle and hold no cycles, so young collections suffice.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_ALLOCATIONS, 20, 100)


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
        tune_collector()
        failed = asyncio.create_task(server.engine.wait(), name="server-watchdog")
        stopped = asyncio.create_task(stopping.wait(), name="server-stop")
        await asyncio.wait((failed, stopped), return_when=asyncio.FIRST_COMPLETED)
        for task in (failed, stopped):
            task.cancel()
        if failed.done() and not failed.cancelled():
            failed.result()
