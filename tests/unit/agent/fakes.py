"""Stand-ins: an API server in memory, time in the test's hands, and a taskctl-init."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import itertools
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from taskctl.api.resources import TASKS
from taskctl.embedded.server.patch.formats import merge_patch
from taskctl.errors import AlreadyExists, ApiError, Conflict, NotFound, Unavailable
from taskctl.kube.interface import (
    DeleteOptions,
    EventType,
    KubeObject,
    ListOptions,
    ListPage,
    PatchOptions,
    PatchType,
    WatchEvent,
    WatchOptions,
)
from taskctl.kube.resources import Resource
from taskctl.kube.timing import Timing
from taskctl.wire import Decoder, Message, encode

ALL = ListOptions()
FROM_NOW = WatchOptions()


class FakeClock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self._now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        self._monotonic_s = 1000.0

    def now(self) -> datetime:
        return self._now

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._monotonic_s += seconds


class FakeTime:
    """Clock and sleep; sleepers wake when :meth:`advance` reaches their time."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self.timing = Timing(clock=self.clock, sleep=self.sleep, random=lambda: 0.5)

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.clock.monotonic_s() + seconds, future))
        await future

    @property
    def sleeping(self) -> int:
        """How many wait for their time."""
        return len(self._sleepers)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        due = [item for item in self._sleepers if item[0] <= self.clock.monotonic_s()]
        for item in due:
            self._sleepers.remove(item)
            if not item[1].done():
                item[1].set_result(None)


@dataclass
class Fault:
    """What goes wrong with matching calls.

    Attributes:
        verb: ``get``, ``create``, ``patch_status`` or ``watch``.
        plural: of the resource; empty: any.
        error: what is raised.
        times: how often; each match counts down.
        after: the server does it, and the answer is lost.
    """

    verb: str
    error: ApiError
    plural: str = ""
    times: int = 1
    after: bool = False


@dataclass
class FakeApi:
    """Objects in memory with resourceVersions, merge patches, and watches.

    Attributes:
        down: every call raises Unavailable.
        calls: what was asked, as ``(verb, plural, name)``.
        hooks: called before each call with the same three; may change the world.
    """

    down: bool = False
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    hooks: list[Callable[[str, str, str], None]] = field(default_factory=list)
    _objects: dict[tuple[str, str, str], KubeObject] = field(default_factory=dict)
    _versions: Any = field(default_factory=lambda: itertools.count(1))
    _version: int = 0
    _uids: Any = field(default_factory=lambda: itertools.count(1))
    _watches: list[tuple[str, str, asyncio.Queue[WatchEvent]]] = field(default_factory=list)

    # --- for tests ------------------------------------------------------------------
    def put(self, res: Resource, obj: KubeObject) -> KubeObject:
        """Store an object as it is, with a new version; events follow."""
        stored = copy.deepcopy(obj)
        metadata = stored["metadata"]
        metadata.setdefault("uid", f"uid-{next(self._uids)}")
        metadata.setdefault("namespace", "ns")
        metadata.setdefault("generation", 1)
        metadata.setdefault("creationTimestamp", "2026-01-02T03:04:00Z")
        if res is TASKS:
            stored.setdefault("status", {"state": "Pending"})
        self._version = next(self._versions)
        metadata["resourceVersion"] = str(self._version)
        key = (res.plural, metadata["namespace"], metadata["name"])
        before = self._objects.get(key)
        self._objects[key] = stored
        self._tell(res.plural, before, stored)
        return copy.deepcopy(stored)

    def see(self, res: Resource, name: str, namespace: str = "ns") -> KubeObject:
        return copy.deepcopy(self._objects[(res.plural, namespace, name)])

    def names(self, res: Resource) -> list[str]:
        return sorted(name for plural, _, name in self._objects if plural == res.plural)

    def change(self, res: Resource, name: str, **parts: Any) -> KubeObject:
        """Merge-patch an object as somebody else would."""
        return self.put(res, merge_patch(self.see(res, name), parts))

    def remove(self, res: Resource, name: str) -> None:
        before = self._objects.pop((res.plural, "ns", name))
        self._version = next(self._versions)
        gone = copy.deepcopy(before)
        gone["metadata"]["resourceVersion"] = str(self._version)
        self._tell(res.plural, before, None, gone)

    def count(self, verb: str, plural: str = "") -> int:
        return sum(1 for call in self.calls if call[0] == verb and plural in ("", call[1]))

    def cut_watches(self) -> None:
        """End all watch streams without a word."""
        self._watches.clear()

    # --- the client's side ------------------------------------------------------------
    async def get(self, res: Resource, name: str, namespace: str | None = None) -> KubeObject:
        fault = await self._enter("get", res.plural, name)
        found = self._objects.get((res.plural, namespace or "", name))
        self._leave(fault)
        if found is None:
            raise NotFound(f"{res.plural} {name!r} not found", status=404)
        return copy.deepcopy(found)

    async def list(
        self, res: Resource, namespace: str | None = None, *, options: ListOptions = ALL
    ) -> ListPage:
        await self._enter("list", res.plural, "")
        items = [
            copy.deepcopy(obj)
            for (plural, _, _), obj in self._objects.items()
            if plural == res.plural
            and selected(obj, options.field_selector)
            and labelled(obj, options.label_selector)
        ]
        return ListPage(items, str(self._version))

    async def list_all(
        self, res: Resource, namespace: str | None = None, *, options: ListOptions = ALL
    ) -> ListPage:
        return await self.list(res, namespace, options=options)

    async def create(
        self, res: Resource, obj: KubeObject, namespace: str | None = None
    ) -> KubeObject:
        name = obj["metadata"]["name"]
        fault = await self._enter("create", res.plural, name)
        if (res.plural, namespace, name) in self._objects:
            raise AlreadyExists(f"{res.plural} {name!r} already exists", status=409)
        stored = self.put(res, obj)
        self._leave(fault)
        return stored

    async def patch(
        self,
        res: Resource,
        name: str,
        namespace: str | None,
        body: Any,
        *,
        options: PatchOptions = PatchOptions(),  # noqa: B008  (frozen)
    ) -> KubeObject:
        if options.type is PatchType.JSON:
            return await self._patch_status_by_operations(res, name, namespace, body)
        fault = await self._enter("patch", res.plural, name)
        found = self._objects.get((res.plural, namespace or "", name))
        if found is None:
            raise NotFound(f"{res.plural} {name!r} not found", status=404)
        if body["metadata"].get("uid", found["metadata"]["uid"]) != found["metadata"]["uid"]:
            raise Conflict(f"{name}: the uid is another", status=409)
        stored = self.put(res, merge_patch(found, body))
        self._leave(fault)
        return stored

    async def delete(
        self,
        res: Resource,
        name: str,
        namespace: str | None = None,
        *,
        options: DeleteOptions = DeleteOptions(),  # noqa: B008  (frozen)
    ) -> KubeObject:
        fault = await self._enter("delete", res.plural, name)
        found = self._objects.get((res.plural, namespace or "", name))
        if found is None:
            raise NotFound(f"{res.plural} {name!r} not found", status=404)
        if options.uid and options.uid != found["metadata"]["uid"]:
            raise Conflict(f"{name}: uid is not {options.uid}", status=409)
        self.remove(res, name)
        self._leave(fault)
        return found

    async def patch_status(
        self, res: Resource, name: str, namespace: str | None, body: KubeObject
    ) -> KubeObject:
        fault = await self._enter("patch_status", res.plural, name)
        found = self._objects.get((res.plural, namespace or "", name))
        if found is None:
            raise NotFound(f"{res.plural} {name!r} not found", status=404)
        for guard in ("resourceVersion", "uid"):
            wanted = body.get("metadata", {}).get(guard)
            if wanted is not None and wanted != found["metadata"][guard]:
                raise Conflict(f"{name}: {guard} is not {wanted}", status=409)
        stored = self.put(res, merge_patch(found, {"status": body["status"]}))
        self._leave(fault)
        return stored

    async def _patch_status_by_operations(
        self, res: Resource, name: str, namespace: str | None, operations: Any
    ) -> KubeObject:
        """Carry out the one JSON Patch that the agent knows: guard, and a whole status."""
        fault = await self._enter("patch_status", res.plural, name)
        found = self._objects.get((res.plural, namespace or "", name))
        if found is None:
            raise NotFound(f"{res.plural} {name!r} not found", status=404)
        assert {operation["op"] for operation in operations} == {"replace"}
        values = {operation["path"]: operation["value"] for operation in operations}
        for guard in ("resourceVersion", "uid"):
            if values.pop(f"/metadata/{guard}") != found["metadata"][guard]:
                raise Conflict(f"{name}: {guard} is another", status=409)
        stored = self.put(res, {**found, "status": values.pop("/status")})
        assert not values
        self._leave(fault)
        return stored

    async def watch(
        self,
        res: Resource,
        namespace: str | None = None,
        *,
        options: WatchOptions = FROM_NOW,
    ) -> AsyncGenerator[WatchEvent, None]:
        await self._enter("watch", res.plural, "")
        queue: asyncio.Queue[WatchEvent] = asyncio.Queue()
        entry = (res.plural, options.field_selector, queue)
        self._watches.append(entry)
        for (plural, _, _), obj in self._objects.items():
            newer = int(obj["metadata"]["resourceVersion"]) > int(options.resource_version or 0)
            if plural == res.plural and newer and selected(obj, options.field_selector):
                queue.put_nowait(WatchEvent(EventType.ADDED, copy.deepcopy(obj)))
        try:
            while True:
                yield await queue.get()
        finally:
            if entry in self._watches:
                self._watches.remove(entry)

    # --- inside -----------------------------------------------------------------------
    async def _enter(self, verb: str, plural: str, name: str) -> Fault | None:
        await asyncio.sleep(0)
        self.calls.append((verb, plural, name))
        for hook in tuple(self.hooks):
            hook(verb, plural, name)
        if self.down:
            raise Unavailable("connection refused")
        for fault in self.faults:
            if fault.verb == verb and fault.plural in ("", plural) and fault.times > 0:
                fault.times -= 1
                if fault.after:
                    return fault
                raise fault.error
        return None

    @staticmethod
    def _leave(fault: Fault | None) -> None:
        if fault is not None:
            raise fault.error

    def _tell(
        self,
        plural: str,
        before: KubeObject | None,
        after: KubeObject | None,
        gone: KubeObject | None = None,
    ) -> None:
        for watched, selector, queue in self._watches:
            if watched != plural:
                continue
            was = before is not None and selected(before, selector)
            is_ = after is not None and selected(after, selector)
            kinds = {
                (False, True): EventType.ADDED,
                (True, True): EventType.MODIFIED,
                (True, False): EventType.DELETED,
            }
            if (was, is_) in kinds:
                obj = after if after is not None else gone
                queue.put_nowait(WatchEvent(kinds[(was, is_)], copy.deepcopy(obj or {})))


def selected(obj: KubeObject, selector: str) -> bool:
    if not selector:
        return True
    path, _, wanted = selector.partition("=")
    value: Any = obj
    for part in path.split("."):
        value = (value or {}).get(part)
    return bool(value == wanted)


def labelled(obj: KubeObject, selector: str) -> bool:
    """Whether a selector ``label in (a,b)`` selects an object."""
    if not selector:
        return True
    label, _, rest = selector.partition(" in ")
    assert rest.startswith("("), selector
    return (obj["metadata"].get("labels") or {}).get(label) in rest[1:-1].split(",")


class Peer:
    """A raw connection to the agent's socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._decoder = Decoder()
        self._inbox: list[Message] = []
        self._ids = itertools.count(1)

    @classmethod
    async def connect(cls, path: Path) -> Peer:
        reader, writer = await asyncio.open_unix_connection(str(path))
        return cls(reader, writer)

    def send(self, op: str, **fields: Any) -> int:
        number = next(self._ids)
        self.writer.write(encode({"id": number, "op": op, **fields}))
        return number

    async def receive(self) -> Message | None:
        """Return the next message; None when the agent hung up."""
        while not self._inbox:
            try:
                data = await asyncio.wait_for(self.reader.read(65536), 40)
            except ConnectionError:
                return None
            if not data:
                return None
            self._inbox.extend(self._decoder.feed(data))
        return self._inbox.pop(0)

    async def call(self, op: str, **fields: Any) -> Message:
        """Send a request and return its answer; pushes in between are an error."""
        number = self.send(op, **fields)
        answer = await self.receive()
        assert answer is not None, f"{op}: the agent hung up"
        assert answer["id"] == number, answer
        return answer

    async def good(self, op: str, **fields: Any) -> Message:
        answer = await self.call(op, **fields)
        assert answer["ok"], answer
        return answer

    async def refused(self, op: str, **fields: Any) -> tuple[str, str]:
        answer = await self.call(op, **fields)
        assert not answer["ok"], answer
        return answer["error"], answer["message"]

    async def is_silent(self) -> bool:
        """Whether nothing arrives for a moment."""
        if self._inbox:
            return False
        try:
            data = await asyncio.wait_for(self.reader.read(65536), 0.05)
        except TimeoutError:
            return True
        self._inbox.extend(self._decoder.feed(data))
        return False

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


async def eventually(
    condition: Callable[[], bool], what: str = "", *, timeout_s: float = 5
) -> None:
    """Wait, in real time, until something that does not depend on the fake clock holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"still not {what or 'so'} after {timeout_s} s")
        await asyncio.sleep(0.002)
