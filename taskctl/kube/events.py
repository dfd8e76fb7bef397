"""Writes Kubernetes Events: for people to read in ``kubectl describe``, never for logic.

Best effort by design. Recording never blocks, never fails and never holds a reconcile up:
equal events are merged while they wait, the number waiting is bounded, and an object that
talks too much is cut off, with client-go's figures (tools/record/events_cache.go).
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Protocol

from taskctl.clock import format_seconds
from taskctl.errors import AlreadyExists, ApiError, NotFound, TaskctlError
from taskctl.kube.interface import KubeObject
from taskctl.kube.ratelimit import TokenBucket
from taskctl.kube.resources import EVENTS, Resource
from taskctl.kube.timing import SYSTEM_TIMING, Timing
from taskctl.safetext import visible

log = logging.getLogger(__name__)

# The events.k8s.io API allows 1 KiB; the core API sets no limit, kubectl shows one line.
MESSAGE_LIMIT_BYTES: Final = 1024
_PENDING_LIMIT: Final = 1000
_REMEMBERED: Final = 4096
_BURST_PER_OBJECT: Final = 25
_REFILL_PER_OBJECT_S: Final = 300.0
_NAME_LIMIT: Final = 253


class EventSort(StrEnum):
    """The type of an Event."""

    NORMAL = "Normal"
    WARNING = "Warning"


class EventWriter(Protocol):
    """Where Events are written: a client, or a part of one."""

    async def create(self, res: Resource, obj: KubeObject, namespace: str) -> KubeObject:
        """Create an Event."""
        ...

    async def patch(self, res: Resource, name: str, namespace: str, body: KubeObject) -> KubeObject:
        """Merge-patch an Event."""
        ...


@dataclass(frozen=True, slots=True)
class _Fingerprint:
    """What makes two events equal."""

    namespace: str
    kind: str
    uid: str
    name: str
    field_path: str
    sort: EventSort
    reason: str
    message: str


@dataclass(slots=True)
class _Unwritten:
    """An event to be written, and how often it happened since the last write."""

    involved: dict[str, str]
    first: datetime
    last: datetime
    times: int = 1


@dataclass(slots=True)
class _Written:
    """An event the server has."""

    name: str
    count: int


@dataclass(slots=True)
class _Memory:
    """Bounded memories: what was written, and who talks how much."""

    written: OrderedDict[_Fingerprint, _Written] = field(default_factory=OrderedDict)
    budgets: OrderedDict[str, TokenBucket] = field(default_factory=OrderedDict)


class EventRecorder:
    """Records events; :meth:`run` writes them.

    Args:
        client: where to write.
        component: who speaks, for example ``job-controller``.
        host: the instance of it, for example the pod's name.
        timing: clock.
        dropped: told the cause of each event that is not written, or None.
    """

    def __init__(
        self,
        client: EventWriter,
        component: str,
        host: str = "",
        *,
        timing: Timing = SYSTEM_TIMING,
        dropped: Callable[[str], None] | None = None,
    ) -> None:
        self._client = client
        self._component = component
        self._host = host
        self._timing = timing
        self._dropped = dropped
        self._pending: OrderedDict[_Fingerprint, _Unwritten] = OrderedDict()
        self._memory = _Memory()
        self._something = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._serial = 0

    def record(
        self,
        obj: Mapping[str, Any],
        sort: EventSort,
        reason: str,
        message: str,
        *,
        field_path: str = "",
    ) -> None:
        """Record that something happened to ``obj``; returns at once and never raises.

        Args:
            obj: the object; ``apiVersion``, ``kind`` and ``metadata`` are used.
            sort: Normal or Warning.
            reason: one CamelCase word.
            message: one sentence; cut at 1 KiB.
            field_path: the part of the object, such as ``spec.containers{main}``.
        """
        metadata = obj.get("metadata") or {}
        if not metadata.get("name"):
            log.debug("event %s: the object has no name", reason)
            return
        involved = {
            "apiVersion": str(obj.get("apiVersion") or ""),
            "kind": str(obj.get("kind") or ""),
            "name": str(metadata["name"]),
            "namespace": str(metadata.get("namespace") or ""),
            "uid": str(metadata.get("uid") or ""),
            "resourceVersion": str(metadata.get("resourceVersion") or ""),
            "fieldPath": field_path,
        }
        fingerprint = _Fingerprint(
            # Events on objects without a namespace live in `default`, as client-go has it.
            namespace=involved["namespace"] or "default",
            kind=involved["kind"],
            uid=involved["uid"],
            name=involved["name"],
            field_path=field_path,
            sort=sort,
            reason=reason,
            message=truncate(visible(message), MESSAGE_LIMIT_BYTES),
        )
        now = self._timing.clock.now()
        waiting = self._pending.get(fingerprint)
        if waiting is not None:
            waiting.times += 1
            waiting.last = now
            return
        if not self._within_budget(fingerprint):
            self._drop("spam", fingerprint)
            return
        if len(self._pending) >= _PENDING_LIMIT:
            self._drop("full", fingerprint)
            return
        self._pending[fingerprint] = _Unwritten(involved, now, now)
        self._idle.clear()
        self._something.set()

    async def run(self) -> None:
        """Write what is recorded until cancelled."""
        while True:
            await self._something.wait()
            while self._pending:
                fingerprint, pending = self._pending.popitem(last=False)
                try:
                    await self._write(fingerprint, pending)
                except TaskctlError as error:
                    self._drop("error", fingerprint)
                    log.debug("event %s: %s", fingerprint.reason, error)
                except Exception:  # events must never hurt anyone
                    self._drop("error", fingerprint)
                    log.exception("event %s was not written", fingerprint.reason)
            self._something.clear()
            self._idle.set()

    async def flush(self, timeout_s: float) -> bool:
        """Wait until everything recorded is written; return whether it was in time.

        :meth:`run` must be under way.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def _write(self, fingerprint: _Fingerprint, pending: _Unwritten) -> None:
        known = self._memory.written.get(fingerprint)
        if known is not None:
            self._memory.written.move_to_end(fingerprint)
            known.count += pending.times
            body = {"count": known.count, "lastTimestamp": format_seconds(pending.last)}
            try:
                await self._client.patch(EVENTS, known.name, fingerprint.namespace, body)
            except NotFound:
                del self._memory.written[fingerprint]  # events live an hour; begin a new one
            else:
                return
        event = self._new_event(fingerprint, pending)
        try:
            await self._client.create(EVENTS, event, fingerprint.namespace)
        except AlreadyExists:
            event["metadata"]["name"] = self._name(fingerprint.name)
            await self._client.create(EVENTS, event, fingerprint.namespace)
        except ApiError as error:
            if error.status == 403 and "being terminated" in error.message:
                return  # the namespace is going away, and its events with it
            raise
        self._memory.written[fingerprint] = _Written(event["metadata"]["name"], pending.times)
        _trim(self._memory.written)

    def _new_event(self, fingerprint: _Fingerprint, pending: _Unwritten) -> KubeObject:
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {
                "name": self._name(fingerprint.name),
                "namespace": fingerprint.namespace,
            },
            "involvedObject": {name: value for name, value in pending.involved.items() if value},
            "type": fingerprint.sort.value,
            "reason": fingerprint.reason,
            "message": fingerprint.message,
            "count": pending.times,
            "firstTimestamp": format_seconds(pending.first),
            "lastTimestamp": format_seconds(pending.last),
            "source": {"component": self._component, "host": self._host},
            "reportingComponent": self._component,
            "reportingInstance": self._host,
        }

    def _name(self, subject: str) -> str:
        # As client-go: the object's name and a number that grows; ours adds a serial, since
        # two events may fall into one microsecond.
        self._serial += 1
        stamp = int(self._timing.clock.now().timestamp() * 1_000_000) * 1000 + self._serial % 1000
        suffix = f".{stamp:x}"
        return subject[: _NAME_LIMIT - len(suffix)].rstrip(".-") + suffix

    def _within_budget(self, fingerprint: _Fingerprint) -> bool:
        who = f"{fingerprint.namespace}/{fingerprint.kind}/{fingerprint.name}/{fingerprint.uid}"
        budget = self._memory.budgets.get(who)
        if budget is None:
            budget = TokenBucket(1.0 / _REFILL_PER_OBJECT_S, _BURST_PER_OBJECT, self._timing)
            self._memory.budgets[who] = budget
            _trim(self._memory.budgets)
        else:
            self._memory.budgets.move_to_end(who)
        if budget.reserve_s() > 0:
            budget.give_back()
            return False
        return True

    def _drop(self, cause: str, fingerprint: _Fingerprint) -> None:
        log.debug("event %s on %s dropped: %s", fingerprint.reason, fingerprint.name, cause)
        if self._dropped is not None:
            self._dropped(cause)


def truncate(text: str, limit_bytes: int) -> str:
    """Cut to so many bytes of UTF-8, never inside a character, with a mark of the cut."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= limit_bytes:
        return raw.decode("utf-8")
    mark = "…"
    kept = raw[: limit_bytes - len(mark.encode())]
    return kept.decode("utf-8", "ignore") + mark


def _trim(memory: OrderedDict[Any, Any]) -> None:
    while len(memory) > _REMEMBERED:
        memory.popitem(last=False)
