"""A Kubernetes API in the process of a test, with the kinds of taskctl."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from types import TracebackType
from typing import Final, Self

from taskctl.api import crds
from taskctl.clientsettings import CLIENT_SETTINGS
from taskctl.clock import Clock, SystemClock
from taskctl.embedded.server.engine import Engine, Secrets
from taskctl.embedded.server.refusals import errors
from taskctl.errors import ApiError, ConfigError, NotFound
from taskctl.kube.client import KubeClient
from taskctl.kube.config import ClientSettings, Connection
from taskctl.kube.credentials import StaticHeader
from taskctl.kube.interface import KubeObject
from taskctl.kube.requests import Request
from taskctl.kube.resources import CRDS, Resource
from taskctl.kube.timing import Timing
from taskctl.testing.transport import Fault, InProcessTransport, Network

# Kubernetes publishes its certificate in each namespace; here there is no TLS to check.
_NO_AUTHORITY: Final = b"no TLS: this API server is part of a test's process\n"
_TURNS: Final = 10_000


class FakeCluster:
    """The API server of the local stack in this process: no socket, no file, no container.

    Clients get their answers from the server's own code, so versions, conflicts, patches, watches,
    selectors, validation and error messages are those of the local stack. The conformance suite,
    which also runs on Kubernetes, verifies that. Nothing runs here but the server and its own
    controllers (namespaces, garbage collection, expiry): a test plays the kubelet and, unless it
    starts one, taskctl's controller.

    Must be made and used in one event loop; an async context manager. Waiting (pauses, bookmarks,
    the end of a watch) takes its time from that loop, time stamps come from ``clock``.

    Args:
        clock: source of time; None for the machine's.
        definitions: CustomResourceDefinitions of your own to begin with.
        taskctl_kinds: whether Task, TaskObject and TaskCluster are defined.

    Attributes:
        engine: the server, for tests that look inside; internal.
        authorization: the HTTP header of its administrator.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        definitions: Sequence[KubeObject] = (),
        taskctl_kinds: bool = True,
    ) -> None:
        self.clock = clock or SystemClock()
        self._definitions = [*(_taskctl_kinds() if taskctl_kinds else ()), *definitions]
        self._network = Network()
        token = secrets.token_urlsafe(16)
        self.authorization = f"Bearer {token}"
        self._connection = Connection(
            server="in-process:",
            source="FakeCluster",
            credentials=StaticHeader(self.authorization),
        )
        signing_key = secrets.token_bytes(32)
        self.engine = Engine(self.clock, Secrets(token, signing_key, _NO_AUTHORITY))

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
        """Start the server and define the kinds.

        Raises:
            ApiError: a definition is not accepted.
        """
        self.engine.start()
        try:
            await self._define()
        except BaseException:
            await self.stop()
            raise
        self._network.requests.clear()

    async def _define(self) -> None:
        client = self.client()
        for definition in self._definitions:
            await client.create(CRDS, definition)
        for _ in range(_TURNS):
            if all([await _is_served(client, one) for one in self._definitions]):
                return
            await asyncio.sleep(0)
        raise ConfigError("the definitions are not served; see their conditions")

    async def stop(self) -> None:
        """End watches and the server's controllers."""
        await self.engine.stop()

    def client(self, settings: ClientSettings | None = None) -> KubeClient:
        """Return a client of this cluster, the class that taskctl's own programs use.

        Args:
            settings: None takes this cluster's clock, and no limit of requests a second.
        """
        if settings is None:
            settings = replace(CLIENT_SETTINGS, qps=0.0, timing=Timing(clock=self.clock))
        carrier = InProcessTransport(self.engine.api, self._network, self._connection, settings)
        return KubeClient(self._connection, settings, carrier)

    def objects(self, res: Resource, namespace: str | None = None) -> list[KubeObject]:
        """Return the objects of a kind as they are stored, by namespace and name.

        Args:
            res: the kind.
            namespace: None for all namespaces.

        Raises:
            NotFound: no such kind is served.
        """
        kind = self.engine.core.registry.by_plural(res.group, res.version, res.plural)
        if kind is None:
            raise NotFound(f"no kind {res.plural} is served; give its definition", status=404)
        resource = errors.Resource(res.group, res.plural)
        form = {"apiVersion": res.api_version, "kind": res.kind}
        return [one.load() | form for one in self.engine.core.store.records(resource, namespace)]

    # --- what goes wrong ----------------------------------------------------------------

    @property
    def requests(self) -> deque[Request]:
        """What clients have sent, oldest first: the last 10,000 requests."""
        return self._network.requests

    def count(self, verb: str = "", resource: str = "") -> int:
        """Return how many requests of a verb and resource were sent; empty counts all."""
        return sum(
            1
            for one in self._network.requests
            if verb in ("", one.verb.value) and resource in ("", one.resource)
        )

    def fail(
        self,
        verb: str,
        resource: str,
        error: ApiError,
        *,
        times: int = 1,
        after: bool = False,
    ) -> Fault:
        """Have the next matching requests fail.

        A client repeats a request where that is safe, and each repetition counts.

        Args:
            verb: ``get``, ``list``, ``watch``, ``create``, ``update``, ``patch`` or ``delete``;
                empty for any.
            resource: plural, with a subresource where there is one: ``tasks/status``; empty for
                any.
            error: what the client gets.
            times: how many requests fail.
            after: the request takes effect, and its answer is lost.

        Returns:
            The fault; its ``times`` says how many requests will still fail.
        """
        fault = Fault(verb, resource, error, times, after)
        self._network.faults.append(fault)
        return fault

    def delay(self, verb: str, resource: str, delay_s: float, *, times: int = 1) -> Fault:
        """Have the next matching requests take longer, by the event loop's clock."""
        fault = Fault(verb, resource, None, times, False, delay_s)
        self._network.faults.append(fault)
        return fault

    def go_down(self) -> None:
        """Have every request fail and every watch break, until :meth:`come_up`."""
        self._network.down = True
        self._network.cut("")

    def come_up(self) -> None:
        """Answer requests again."""
        self._network.down = False

    def break_watches(self, resource: str = "") -> int:
        """Break the open watches of a resource, or all; return how many there were."""
        return self._network.cut(resource)

    def forget_history(self) -> None:
        """Forget all versions but the present ones: who resumes an older watch gets 410 Gone."""
        self.engine.core.store.compact()


@cache
def _taskctl_kinds() -> tuple[KubeObject, ...]:
    """Return the definitions of taskctl's kinds, which take 0.2 s to make."""
    return tuple(crds.load_all())


async def _is_served(client: KubeClient, definition: KubeObject) -> bool:
    spec = definition["spec"]
    served = [version["name"] for version in spec["versions"] if version["served"]]
    path = f"/apis/{spec['group']}/{served[0]}/{spec['names']['plural']}?limit=1"
    try:
        await client.request("GET", path)
    except NotFound:
        return False
    return True
