"""Events about pods and the node."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from taskctl.clock import Clock
from taskctl.embedded.node.api import ApiClient, core_path
from taskctl.embedded.node.model import Json, PodRef
from taskctl.kube.events import EventRecorder, EventSort
from taskctl.kube.resources import Resource
from taskctl.kube.timing import Timing

COMPONENT: Final = "taskctl-node"


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

    def as_object(self) -> Json:
        """Return as much of the object as an Event refers to."""
        metadata = {"name": self.name, "namespace": self.namespace, "uid": self.uid}
        return {"apiVersion": "v1", "kind": self.kind, "metadata": metadata}


class NodeEvents:
    """Records the node's Events; :meth:`run` writes them.

    Args:
        api: where to.
        clock: source of time.
        host: name of the node.
    """

    def __init__(self, api: ApiClient, clock: Clock, host: str) -> None:
        timing = Timing(clock=clock)
        self._recorder = EventRecorder(_EventWriter(api), COMPONENT, host, timing=timing)
        self.run = self._recorder.run

    def tell(self, subject: Subject, reason: EventReason, message: str) -> None:
        """Record an Event of type Normal."""
        self._record(subject, EventSort.NORMAL, reason, message)

    def warn(self, subject: Subject, reason: EventReason, message: str) -> None:
        """Record an Event of type Warning."""
        self._record(subject, EventSort.WARNING, reason, message)

    def _record(self, subject: Subject, sort: EventSort, reason: EventReason, message: str) -> None:
        about = subject.as_object()
        self._recorder.record(about, sort, reason, message, field_path=subject.field_path)


class _EventWriter:
    """The way to the API server for the recorder."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    async def create(self, res: Resource, obj: Json, namespace: str) -> Json:
        return await self._api.create(core_path(res.plural, namespace), obj)

    async def patch(self, res: Resource, name: str, namespace: str, body: Json) -> Json:
        return await self._api.patch(core_path(res.plural, namespace, name), body)
