"""One pod on this node: its containers, volumes and status, for as long as it has any."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

import orjson

from taskctl.clock import SteadyClock
from taskctl.embedded.node import records, removal
from taskctl.embedded.node.api import core_path
from taskctl.embedded.node.context import NodeContext
from taskctl.embedded.node.decide import ContainerStopReason, PodPlan, decide
from taskctl.embedded.node.events import EventReason, Subject
from taskctl.embedded.node.images import RunImage
from taskctl.embedded.node.model import (
    ContainerKind,
    ContainerView,
    Json,
    PodRef,
    RunState,
    containers_of,
    grace_s,
)
from taskctl.embedded.node.reporter import Delivery, StatusReporter
from taskctl.embedded.node.slot import ContainerSlot, wants_log_message
from taskctl.embedded.node.starter import Starter, StartError
from taskctl.embedded.node.status import StatusInputs, differs, pod_status
from taskctl.embedded.node.stopping import Stopping
from taskctl.embedded.node.unsupported import ignored_fields, not_yet_told
from taskctl.embedded.node.volumes import REFRESH_S, PodVolumes, VolumeError
from taskctl.errors import ApiError, Conflict, NotFound, Unavailable

log = logging.getLogger(__name__)

_FLUSH_S: Final = 5.0
_DELETE_RETRY_S: Final = 1.0
# For containers of a pod that went while the node was down: its own grace is not known.
_ORPHAN_GRACE_S: Final = 10.0


class PodWorker:
    """One pod on this node. :meth:`run` ends when the pod is gone and cleaned up.

    Args:
        ref: the pod.
        context: the node.
    """

    def __init__(self, ref: PodRef, context: NodeContext) -> None:
        self.ref = ref
        self._context = context
        self._pod: Json | None = None
        self._vanished = False
        self._node_stops = False
        self._wake = asyncio.Event()
        self._slots: dict[str, ContainerSlot] = {}
        self._starting: set[str] = set()
        self._stopping: Stopping | None = None
        self._deleting = False
        self._trouble = ""
        self._told: set[str] = set()  # runs that a Started event was written for
        self._fields_told: set[str] = set()
        self._images_told: set[str] = set()
        self._recorded = False  # the pod's directory is there
        self._subject = Subject.pod(ref)
        self._starter = Starter(context)
        self._reporter = StatusReporter(context.api, ref)
        self._steady = SteadyClock(context.clock)  # for restarts, deadlines and grace
        self._volumes = PodVolumes(
            ref,
            paths=context.paths,
            api=context.api,
            clock=context.clock,
            sources=context.sources,
        )
        self._group: asyncio.TaskGroup | None = None

    # --- what the manager tells -----------------------------------------------------

    def update(self, pod: Json) -> None:
        """The pod is new or has changed."""
        self._pod = pod
        self._wake.set()

    def vanish(self) -> None:
        """The pod is not in the API any more."""
        self._vanished = True
        self._wake.set()

    def stop_with_node(self) -> None:
        """The node stops: end the containers, leave the pod."""
        self._node_stops = True
        self._wake.set()

    def adopt(self) -> None:
        """Take over the containers that a former node left running. Blocking, a few files."""
        base = self._context.paths.containers(self.ref.uid)
        if not base.is_dir():
            return
        for directory in sorted(base.iterdir()):
            slot = self._slot(directory.name)
            slot.adopt()
            with suppress(Unavailable):  # it has never run
                _, _, port = self._context.api.address()
                if slot.end_if_it_asks_elsewhere(port):
                    log.warning("%s of %s asks at an old port; killed", slot.name, self.ref)
        self._wake.set()

    def successor(self) -> PodWorker:
        """Return a new worker for the same pod that knows what this one was told."""
        new = PodWorker(self.ref, self._context)
        new.adopt()
        if self._pod is not None:
            new.update(self._pod)
        if self._vanished:
            new.vanish()
        if self._node_stops:
            new.stop_with_node()
        return new

    def slot(self, container: str) -> ContainerSlot | None:
        """Return a container's record, for the log endpoint."""
        return self._slots.get(container)

    @property
    def pod(self) -> Json | None:
        """The pod as last seen in the API; None before it was."""
        return self._pod

    # --- the loop ---------------------------------------------------------------------

    async def run(self) -> None:
        """Work until the pod is gone and cleaned up, or the node has stopped it."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            tasks = [
                group.create_task(self._reporter.run(), name=f"status of pod {self.ref}"),
                group.create_task(self._keep_fresh(), name=f"volumes of pod {self.ref}"),
            ]
            try:
                while True:
                    wake_at = self._sync()
                    if self._is_over():
                        break
                    await self._wait(wake_at)
                if self._node_stops and not self._vanished:
                    await self._reporter.flush(_FLUSH_S)
            finally:
                for task in tasks:
                    task.cancel()
                for slot in self._slots.values():
                    slot.close()
        if self._vanished:
            await self._remove_files()

    def _is_over(self) -> bool:
        if not (self._vanished or self._node_stops):
            return False
        return (
            not self._starting
            and not any(slot.is_live for slot in self._slots.values())
            and (self._vanished or self._stopping is not None)
        )

    async def _wait(self, wake_at: datetime | None) -> None:
        delay = None
        if wake_at is not None:
            delay = max(0.0, (wake_at - self._steady.now()).total_seconds())
        try:
            async with asyncio.timeout(delay):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def _sync(self) -> datetime | None:
        """Bring the pod nearer to what it should be; returns when to look again."""
        now = self._steady.now()
        for slot in self._slots.values():
            if (ended := slot.settle(now)) is not None:
                self._on_exit(slot, ended.directory.name)
        plan = self._plan(now)
        wake_at = plan.wake_at
        if plan.stop is not ContainerStopReason.NONE or self._vanished or self._node_stops:
            wake_at = self._stop(now)
        elif self._pod is not None:
            for name in plan.start:
                self._start(name)
        self._report(self._context.clock.now(), plan.stop)
        if plan.stop is ContainerStopReason.DELETED and not self._vanished:
            self._delete_when_stopped()
        return wake_at

    def _plan(self, now: datetime) -> PodPlan:
        if self._pod is None:
            return PodPlan()  # adopted, and the API has not been asked yet: leave it alone
        return decide(self._pod, self._views(), now)

    def _views(self) -> dict[str, ContainerView]:
        views = {name: slot.view() for name, slot in self._slots.items()}
        self._add_known_ephemeral(views)
        return views

    def _add_known_ephemeral(self, views: dict[str, ContainerView]) -> None:
        """Without records on disk, what the API says of an ephemeral container still counts.

        A kubelet would run it again (kubernetes#124176). Once is enough.
        """
        statuses = ((self._pod or {}).get("status") or {}).get("ephemeralContainerStatuses") or ()
        for status in statuses:
            view = views.get(status["name"])
            has_run = {"running", "terminated"} & set(status.get("state") or {})
            if has_run and (view is None or view.state is RunState.ABSENT):
                slot = self._slot(status["name"])
                slot.mark_lost(status)
                views[status["name"]] = slot.view()

    # --- starting -----------------------------------------------------------------------

    def _slot(self, name: str) -> ContainerSlot:
        if name not in self._slots:
            self._slots[name] = ContainerSlot(
                self.ref,
                name,
                directory=self._context.paths.containers(self.ref.uid) / name,
                shim=self._context.shim,
                on_change=self._wake.set,
            )
        return self._slots[name]

    def _start(self, name: str) -> None:
        if name in self._starting or self._group is None or self._pod is None:
            return
        self._starting.add(name)
        self._group.create_task(self._start_one(name), name=f"start {self.ref}/{name}")

    async def _start_one(self, name: str) -> None:
        slot = self._slot(name)
        subject = Subject.pod(self.ref, name, self._kind_of(name).value)
        try:
            await self._launch(slot)
        except VolumeError as error:
            self._trouble = str(error)
            slot.delay_start(self._steady.now(), "ContainerCreating", "")
            self._context.events.warn(self._subject, EventReason.FAILED_MOUNT, str(error))
        except StartError as error:
            slot.delay_start(self._steady.now(), error.reason, str(error))
            why = EventReason.INSPECT_FAILED if error.final else EventReason.FAILED
            self._context.events.warn(subject, why, f"Error: {error}")
        except ApiError as error:
            slot.delay_start(self._steady.now(), "ContainerCreating", str(error))
        except (OSError, ValueError) as error:
            slot.delay_start(self._steady.now(), "CreateContainerError", str(error))
            self._context.events.warn(subject, EventReason.FAILED, f"Error: {error}")
        else:
            self._trouble = ""
        finally:
            self._starting.discard(name)
            self._wake.set()

    async def _launch(self, slot: ContainerSlot) -> None:
        pod = await self._prepared_pod()
        container = next(c for _, c in containers_of(pod) if c["name"] == slot.name)
        volumes = await self._volumes.prepare(pod)
        slot.message_to_log = wants_log_message(container)
        image = await self._starter.image(pod, container)
        directory = slot.next_directory()
        spec = await self._starter.build(pod, container, volumes, directory, image)
        if self._vanished or self._node_stops or self._stopping is not None:
            return
        encoded = spec.encode()
        slot.launch(encoded, image.image_id)
        self._tell_about_image(container["image"], image)

    async def _prepared_pod(self) -> Json:
        """The pod; its directory exists afterwards."""
        if self._pod is None:
            raise StartError("ContainerCreating", "the pod is not known yet")
        if not self._recorded:
            await asyncio.to_thread(self._write_record)
            self._recorded = True
        self._tell_about_fields(self._pod)
        return self._pod

    def _write_record(self) -> None:
        path = self._context.paths.pod_record(self.ref.uid)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        record = {"namespace": self.ref.namespace, "name": self.ref.name, "uid": self.ref.uid}
        records.write_private(path, orjson.dumps(record))

    def _tell_about_fields(self, pod: Json) -> None:
        in_images = [
            container["name"]
            for _, container in containers_of(pod)
            if self._context.images.runs_in_image(container.get("image", ""))
        ]
        ignored = ignored_fields(pod, in_images)
        fields = not_yet_told(ignored, self._fields_told, self._context.fields_told)
        if fields:
            message = f"the local node does not apply: {', '.join(fields)}"
            self._context.events.tell(self._subject, EventReason.FIELDS_NOT_APPLIED, message)

    def _tell_about_image(self, reference: str, image: RunImage) -> None:
        if reference in self._images_told:
            return
        self._images_told.add(reference)
        reason = EventReason.IMAGE_UNPACKED if image.root else EventReason.IMAGE_NOT_UNPACKED
        self._context.events.tell(self._subject, reason, image.note)

    # --- what happens --------------------------------------------------------------------

    def _on_exit(self, slot: ContainerSlot, run: str) -> None:
        view = slot.view()
        end = view.terminated
        log.info(
            "container %s/%s run %s ended: %s",
            self.ref,
            slot.name,
            run,
            f"{end.reason}, exit code {end.exit_code}" if end else "unknown",
        )
        if end is not None and end.reason == "StartError":
            kind = self._kind_of(slot.name)
            subject = Subject.pod(self.ref, slot.name, kind.value)
            self._context.events.warn(subject, EventReason.FAILED, f"Error: {end.message}")
        if view.not_before is not None and self._kind_of(slot.name) is not ContainerKind.EPHEMERAL:
            message = f"Back-off restarting failed container {slot.name} in pod {self.ref.name}"
            self._context.events.warn(self._subject, EventReason.BACK_OFF, message)
        if self._group is not None:
            self._group.create_task(self._forget(slot), name=f"clean {self.ref}/{slot.name}")

    async def _forget(self, slot: ContainerSlot) -> None:
        try:
            await slot.forget_old_runs()
        except OSError as error:
            log.warning("pod %s: container %s: %s", self.ref, slot.name, error)

    def _kind_of(self, name: str) -> ContainerKind:
        if self._pod is not None:
            for kind, container in containers_of(self._pod):
                if container["name"] == name:
                    return kind
        return ContainerKind.EPHEMERAL

    def _report(self, now: datetime, stop: ContainerStopReason) -> None:
        if self._pod is None or self._vanished:
            return
        for name, slot in self._slots.items():
            view = slot.view()
            if view.state is RunState.RUNNING and view.container_id not in self._told:
                self._told.add(view.container_id)
                subject = Subject.pod(self.ref, name, self._kind_of(name).value)
                self._context.events.tell(subject, EventReason.STARTED, f"Started container {name}")
        inputs = StatusInputs(
            self._views(), now, stop, self._context.sources.host_ip, self._trouble
        )
        status = pod_status(self._pod, inputs)
        old = self._pod.get("status") or {}
        if differs(old, status):
            self._reporter.submit(status)
        else:
            self._reporter.assume(status)

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            pod = self._pod
            if pod is None or not self._recorded or self._stopping is not None:
                continue
            if self._volumes.needs_refresh(pod):
                await self._volumes.refresh(pod)

    # --- stopping ------------------------------------------------------------------------

    def _stop(self, now: datetime) -> datetime | None:
        live = [slot for slot in self._slots.values() if slot.is_live]
        if self._stopping is None:
            self._stopping = Stopping(now)
            if live:
                message = f"Stopping containers {', '.join(slot.name for slot in live)}"
                self._context.events.tell(self._subject, EventReason.KILLING, message)
        seconds = grace_s(self._pod) if self._pod is not None else _ORPHAN_GRACE_S
        if self._node_stops:
            seconds = min(seconds, self._context.options.grace_s)
        return self._stopping.advance(
            [slot.instance for slot in live if slot.instance is not None],
            now,
            timedelta(seconds=seconds),
        )

    def _delete_when_stopped(self) -> None:
        if self._deleting or self._starting or any(s.is_live for s in self._slots.values()):
            return
        if self._group is not None:
            self._deleting = True
            self._group.create_task(self._delete(), name=f"delete pod {self.ref}")

    async def _delete(self) -> None:
        """Tell the last status, then let the API server forget the pod.

        With finalizers on it the pod stays visible; that is for others to end.
        """
        path = core_path("pods", self.ref.namespace, self.ref.name)
        while not self._vanished:
            written = await self._reporter.flush(_FLUSH_S)
            if self._reporter.delivery is Delivery.GONE:
                return
            if written:
                try:
                    await self._context.api.delete(path, self.ref.uid, grace_s=0)
                except (NotFound, Conflict):
                    return
                except ApiError as error:
                    log.warning("pod %s not deleted, trying again: %s", self.ref, error)
                else:
                    return
            if self._node_stops:
                return  # the next node continues with it
            await asyncio.sleep(_DELETE_RETRY_S)

    async def _remove_files(self) -> None:
        path = self._context.paths.pod(self.ref.uid)
        try:
            await asyncio.to_thread(removal.remove_tree, path)
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("files of pod %s in %s not removed: %s", self.ref, path, error)
