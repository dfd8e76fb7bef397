"""Events about pods and the node: best effort, folded and limited as in the kubelet."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from taskctl.clock import Clock, format_seconds
from taskctl.embedded.node.api import ApiClient, core_path
from taskctl.embedded.node.model import Json, PodRef
from taskctl.errors import AlreadyExists, ApiError, NotFound

log = logging.getLogger(__name__)

COMPONENT: Final = "taskctl-node"
_QUEUE_LIMIT: Final = 1000
# client-go tools/record: 25 at once per object, then one in 300 s.
_BURST: Final = 25
_REFILL_S: Final = 300.0
_MEMORY: Final = 4096
_MESSAGE_LIMIT: Final = 1024


class EventType(StrEnum):
    """``type`` of an Event."""

    NORMAL = "Normal"
    WARNING = "Warning"


class EventReason(StrEnum):
    """Reasons of the node's Events; where the kubelet has one for it, the same."""

    SCHEDULED = "Scheduled"
    FAILED_SCHEDULING = "FailedScheduling"
    IMAGE_UNPACKED = "ImageUnpacked"
    IMAGE_NOT_UNPACKED = "ImageNotUnpacked"
    FIELDS_NOT_APPLIED = "FieldsNotApplied"
    STARTED = "Started"
    KILLING = "Killing"
    FAILED = "Failed"
    BACK_OFF = "BackOff"
    FAILED_MOUNT = "FailedMount"
    INSPECT_FAILED = "InspectFailed"
    PROVISIONING_SUCCEEDED = "ProvisioningSucceeded"
    PROVISIONING_FAILED = "ProvisioningFailed"
    WAIT_FOR_FIRST_CONSUMER = "WaitForFirstConsumer"
    ISOLATION_REDUCED = "IsolationReduced"


@dataclass(frozen=True, slots=True)
class Subject:
    """The object that an Event is about."""

    kind: str
    namespace: str
    name: str
    uid: str
    field_path: str = ""

    @classmethod
    def pod(cls, ref: PodRef, container: str = "", list_name: str = "") -> Subject:
        """A pod, or one of its containers."""
        path = f"spec.{list_name}{{{container}}}" if container else ""
        return cls("Pod", ref.namespace, ref.name, ref.uid, path)

    def as_reference(self) -> Json:
        """Return the ``involvedObject``."""
        result = {"kind": self.kind, "apiVersion": "v1", "name": self.name, "uid": self.uid}
        if self.namespace:
            result["namespace"] = self.namespace
        if self.field_path:
            result["fieldPath"] = self.field_path
        return result


@dataclass(frozen=True, slots=True)
class _Pending:
    subject: Subject
    type: EventType
    reason: EventReason
    message: str


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at_s: float


class EventRecorder:
    """Collects Events and writes them in the background.

    Args:
        api: where to.
        clock: source of time.
        host: name of the node.
    """

    def __init__(self, api: ApiClient, clock: Clock, host: str) -> None:
        self._api = api
        self._clock = clock
        self._host = host
        self._queue: asyncio.Queue[_Pending] = asyncio.Queue(_QUEUE_LIMIT)
        self._counts: OrderedDict[str, int] = OrderedDict()
        self._buckets: OrderedDict[tuple[str, str, str], _Bucket] = OrderedDict()

    def emit(
        self,
        subject: Subject,
        reason: EventReason,
        message: str,
        *,
        type_: EventType = EventType.NORMAL,
    ) -> None:
        """Queue an Event; it is dropped when the object has had too many or the queue is full."""
        if not self._allow(subject):
            return
        try:
            self._queue.put_nowait(_Pending(subject, type_, reason, message[:_MESSAGE_LIMIT]))
        except asyncio.QueueFull:
            log.debug("event dropped: %s %s", subject.name, reason)

    def warn(self, subject: Subject, reason: EventReason, message: str) -> None:
        """Queue an Event of type Warning."""
        self.emit(subject, reason, message, type_=EventType.WARNING)

    async def run(self) -> None:
        """Write Events until cancelled. What cannot be written is lost: Events are hints."""
        while True:
            event = await self._queue.get()
            try:
                await self._write(event)
            except ApiError as error:
                log.debug("event %s of %s not written: %s", event.reason, event.subject.name, error)

    def _allow(self, subject: Subject) -> bool:
        key = (subject.kind, subject.namespace, subject.uid)
        now_s = self._clock.monotonic_s()
        bucket = self._buckets.setdefault(key, _Bucket(float(_BURST), now_s))
        self._buckets.move_to_end(key)
        if len(self._buckets) > _MEMORY:
            self._buckets.popitem(last=False)
        gained = (now_s - bucket.filled_at_s) / _REFILL_S
        bucket.tokens = min(float(_BURST), bucket.tokens + gained)
        bucket.filled_at_s = now_s
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    async def _write(self, event: _Pending) -> None:
        subject, now = event.subject, self._clock.now()
        text = "\0".join([subject.uid, subject.field_path, event.type, event.reason, event.message])
        digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
        name = f"{subject.name}.{digest}"
        namespace = subject.namespace or "default"
        count = self._counts.get(name, 0) + 1
        if count > 1:
            try:
                update: Json = {"count": count, "lastTimestamp": format_seconds(now)}
                await self._api.patch(core_path("events", namespace, name), update)
            except NotFound:
                count = 1  # expired meanwhile
        if count == 1:
            await self._create(namespace, name, event)
        self._counts[name] = count
        self._counts.move_to_end(name)
        if len(self._counts) > _MEMORY:
            self._counts.popitem(last=False)

    async def _create(self, namespace: str, name: str, event: _Pending) -> None:
        now = self._clock.now()
        body: Json = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": event.subject.as_reference(),
            "type": event.type.value,
            "reason": event.reason.value,
            "message": event.message,
            "source": {"component": COMPONENT, "host": self._host},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._host,
            "firstTimestamp": format_seconds(now),
            "lastTimestamp": format_seconds(now),
            "count": 1,
        }
        try:
            await self._api.create(core_path("events", namespace), body)
        except AlreadyExists:  # written by this node before it was restarted
            path = core_path("events", namespace, name)
            await self._api.patch(path, {"lastTimestamp": format_seconds(now)})
