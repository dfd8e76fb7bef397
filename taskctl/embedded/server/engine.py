"""The server without sockets and files: its objects, its controllers, and who answers requests.

:mod:`taskctl.embedded.server.main` puts it behind a socket; ``taskctl.testing`` calls it in the
process of a test.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson

from taskctl.clock import Clock
from taskctl.embedded.server.access.auth import Authenticator
from taskctl.embedded.server.api.router import Api
from taskctl.embedded.server.api.special import Special
from taskctl.embedded.server.controllers.claims import ClaimProtection
from taskctl.embedded.server.controllers.definitions import CrdController
from taskctl.embedded.server.controllers.expiry import EventExpiry
from taskctl.embedded.server.controllers.gc import GarbageCollector
from taskctl.embedded.server.controllers.namespaces import NamespaceController
from taskctl.embedded.server.core import Core, open_collection
from taskctl.embedded.server.definitions.strategy import CRDS
from taskctl.embedded.server.kinds.registry import Registry
from taskctl.embedded.server.refusals.errors import Resource
from taskctl.embedded.server.relay.logs import LogProxy
from taskctl.embedded.server.relay.nodelink import NodeLink
from taskctl.embedded.server.relay.remote import RemoteRelay
from taskctl.embedded.server.storage.eventlog import LogLimits
from taskctl.embedded.server.storage.hub import Hub
from taskctl.embedded.server.storage.persistence import Database
from taskctl.embedded.server.storage.store import Store
from taskctl.embedded.server.storage.upkeep import Upkeep

log = logging.getLogger(__name__)

_HISTORY_INTERVAL_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Secrets:
    """What only this server knows.

    Attributes:
        token: the administrator's bearer token.
        signing_key: signs the tokens of service accounts.
        authority_pem: the certificate that clients check the server by; public, and published in
            every namespace.
    """

    token: str = field(repr=False)
    signing_key: bytes = field(repr=False)
    authority_pem: bytes = b""


class Engine:
    """Answers requests and runs the server's controllers; made and used in one event loop.

    Args:
        clock: source of time.
        secrets: what only this server knows.
        database: keeps the objects; None keeps them in memory only.
        directory: where the node says how it is reached; None if there is no node.
        log_limits: how much history watches may resume from.
        bookmark_interval_s: seconds between bookmarks on a watch.

    Attributes:
        core: objects, kinds, watchers, time.
        api: answers requests.
    """

    def __init__(
        self,
        clock: Clock,
        secrets: Secrets,
        *,
        database: Database | None = None,
        directory: Path | None = None,
        log_limits: LogLimits | None = None,
        bookmark_interval_s: float = 30.0,
    ) -> None:
        self._database = database
        self._secrets = secrets
        self._tasks: list[asyncio.Task[None]] = []
        store = Store(clock, journal=database, limits=log_limits or LogLimits())
        self.core = Core(store, Registry(), Hub(), clock)
        authenticator = Authenticator(self.core, secrets.token, secrets.signing_key)
        link = NodeLink(store, directory)
        special = Special(self.core, authenticator, LogProxy(link), RemoteRelay(link))
        self.api = Api(self.core, authenticator, special, bookmark_interval_s)

    def start(self) -> None:
        """Load what is stored, and start the controllers."""
        core = self.core
        for kind in core.registry.all():
            open_collection(core, kind)
        definitions = CrdController(core)
        _restore(core, self._database, definitions)
        authority = self._secrets.authority_pem.decode("ascii")
        namespaces, collector = NamespaceController(core, authority), GarbageCollector(core)
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
        self.start_task("definitions", definitions.run)
        self.start_task("namespaces", namespaces.run)
        self.start_task("garbage-collector", collector.run)
        self.start_task("claim-protection", claims.run)
        self.start_task("event-expiry", expiry.run)
        self.start_task("history", self._expire_history)
        if self._database is not None:
            self.start_task("database", Upkeep(self._database).run)

    def start_task(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run something until the server stops."""

        async def body() -> None:
            await run()

        self._tasks.append(asyncio.create_task(body(), name=f"server-{name}"))

    async def stop(self) -> None:
        """End watches and the server's own tasks."""
        self.core.hub.end()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def wait(self) -> None:
        """Return when one of the server's own tasks has failed.

        Raises:
            Exception: what it failed with.
        """
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def _expire_history(self) -> None:
        while True:
            await asyncio.sleep(_HISTORY_INTERVAL_S)
            self.core.store.expire_history()


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
        log.warning("the database holds %s, which nothing defines", resource.qualified)
    core.store.restore(rows, floors)
