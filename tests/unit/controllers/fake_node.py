"""A kubelet and the agents of its workers, on a :class:`FakeApi`.

A task's behaviour is its command: ``["sleep", "3"]``, ``["fail", "7"]``, ``["spawn", "2"]``
(two children that succeed), ``["chain", "5"]`` (one child, with one child, …), ``["hang"]``
(a container that never starts), ``["vanish"]`` (ends without a report), ``["ok"]``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from taskctl.api.resources import TASKS
from taskctl.clock import format_micro
from taskctl.constants import ENV_DEFAULTS
from taskctl.errors import AlreadyExists, ApiError, Conflict, NotFound
from taskctl.kube.interface import KubeObject
from taskctl.kube.resources import PODS
from taskctl.policy.claim import AlreadyOurs, Claimed, ClaimEntry, decide_claim
from taskctl.policy.entry import EntryView, parse_entry
from taskctl.policy.handover import (
    Dismissal,
    Handover,
    parse_parked,
    parse_record,
    record_name,
)
from taskctl.policy.lineage import child_lineage, child_metadata, child_name
from taskctl.policy.outcome import ExitReport, StatusChange, decide_after_exit
from taskctl.policy.status import status_body
from taskctl.policy.taskdefaults import filled, from_text
from taskctl.policy.view import parse_task
from tests.unit.controllers.fake_api import FakeApi

POD_START_S = 1.0
POD_STOP_S = 0.5
CONTAINER_START_S = 0.07


@dataclass
class FakeNode:
    """See the module.

    Attributes:
        runs: (task name, attempt) of every command that was really begun.
        handed_over: names of the tasks that were begun in a parked container.
        start_s: how long a container takes to start.
        serial_s: how long it keeps the next container of its pod from starting.
        pod_start_s: how long a pod takes to become ready.
        pods_come_up: whether pods become ready at all.
        stop_s: how long a pod takes to end once it is deleted.
        silent: cut off from the API server: no pod starts or ends.
        last_words: agents report the outcome of what is stopped with its pod.
        takes_s: how long an agent takes to begin what was handed to a parked container.
        agents_away: agents hand nothing to parked containers.
        passes_on: agents run what is handed over in another parked container, if one waits.
        parked_die_after_s: how long a parked container lives that was given nothing.
        unpullable: images that cannot be pulled.
    """

    api: FakeApi
    runs: list[tuple[str, int]] = field(default_factory=list)
    handed_over: list[str] = field(default_factory=list)
    start_s: float = CONTAINER_START_S
    serial_s: float = 0.0
    pod_start_s: float = POD_START_S
    pods_come_up: bool = True
    stop_s: float = POD_STOP_S
    silent: bool = False
    last_words: bool = False
    takes_s: float = 0.001
    agents_away: bool = False
    passes_on: bool = False
    parked_die_after_s: float = float("inf")
    unpullable: set[str] = field(default_factory=set)
    _waiting: set[tuple[str, str]] = field(default_factory=set)
    _passed: dict[tuple[str, str], Handover] = field(default_factory=dict)
    _busy_until_s: dict[str, float] = field(default_factory=dict)
    _stopping: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _working: dict[tuple[str, str], EntryView] = field(default_factory=dict)
    _containers: dict[tuple[str, str], asyncio.Task[None]] = field(default_factory=dict)
    _pods: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def run(self) -> None:
        try:
            while True:
                self._step()
                await asyncio.sleep(0.005)
        finally:
            tasks = [*self._pods.values(), *self._containers.values(), *self._stopping.values()]
            for task in tasks:
                task.cancel()

    def _step(self) -> None:
        live = {pod["metadata"]["uid"]: pod for pod in self.api.all(PODS)}
        for key in [key for key in self._containers if key[0] not in live]:
            self._containers.pop(key).cancel()
        for uid in [uid for uid in self._pods if uid not in live]:
            self._pods.pop(uid).cancel()
        if self.silent:
            return
        for uid, pod in live.items():
            status = pod.get("status") or {}
            if "deletionTimestamp" in pod["metadata"] and status.get("phase") == "Running":
                if uid not in self._stopping:
                    self._stopping[uid] = asyncio.create_task(self._stop_pod(pod))
                continue
            if uid not in self._pods and self.pods_come_up and not status:
                self._pods[uid] = asyncio.create_task(self._start_pod(pod))
            if status.get("phase") != "Running":
                continue
            for container in pod["spec"].get("ephemeralContainers") or ():
                if (uid, container["name"]) not in self._containers:
                    self._begin(pod, container)

    def _begin(self, pod: KubeObject, container: KubeObject) -> None:
        uid = pod["metadata"]["uid"]
        entry, work = parse_entry(container), None
        if parse_parked(container) is not None:
            work = self._park(pod, container, self._turn_s(uid))
        elif entry is not None:
            work = self._start(pod, entry, self._turn_s(uid))
        if work is not None:
            self._containers[uid, container["name"]] = asyncio.create_task(work)

    def _turn_s(self, uid: str) -> float:
        """Containers of a pod start one after the other: how long this one waits."""
        now_s = self.api.clock.monotonic_s()
        begin_s = max(now_s, self._busy_until_s.get(uid, now_s))
        self._busy_until_s[uid] = begin_s + self.serial_s
        return begin_s - now_s

    async def _stop_pod(self, pod: KubeObject) -> None:
        """SIGTERM, grace, and the last status; then the kubelet lets go of the pod."""
        metadata = pod["metadata"]
        uid, name = metadata["uid"], metadata["name"]
        if self.last_words:
            for key in [key for key in self._working if key[0] == uid]:
                self._containers[key].cancel()
                await self._exit(self._working.pop(key), 0, reason="Signalled")
        await asyncio.sleep(self.stop_s)
        self.kill_containers(uid)
        if not self.api.has(PODS, name) or self.api.peek(PODS, name)["metadata"]["uid"] != uid:
            return

        def end(pod: KubeObject) -> None:
            killed = {"terminated": {"exitCode": 137, "reason": "Error"}}
            status = pod["status"]
            status["phase"] = "Failed"
            statuses = {item["name"]: item for item in status.get("ephemeralContainerStatuses", [])}
            for item in [*statuses.values(), *status["containerStatuses"]]:
                if "terminated" not in item["state"]:
                    item["state"] = killed

        self.api.edit(PODS, name, end)
        self.api.mark_deleted(PODS, name, 0)

    async def _start_pod(self, pod: KubeObject) -> None:
        await asyncio.sleep(self.pod_start_s)
        self.set_pod(pod["metadata"]["name"], running_status())

    def set_pod(self, name: str, status: dict[str, Any]) -> None:
        def change(pod: KubeObject) -> None:
            pod["status"] = (pod.get("status") or {}) | status

        self.api.edit(PODS, name, change)

    def kill_containers(self, uid: str) -> None:
        """Stop everything in a pod without a word."""
        for key in [key for key in self._containers if key[0] == uid]:
            self._containers[key].cancel()

    async def _park(self, pod: KubeObject, container: KubeObject, turn_s: float) -> None:
        """A container without a task, up to the end of what its agent tells it to do."""
        await asyncio.sleep(turn_s + self.start_s)
        metadata, name = pod["metadata"], container["name"]
        if container["image"] in self.unpullable:
            waiting = {"reason": "ImagePullBackOff", "message": "no"}
            self._report_container(metadata["name"], name, {"waiting": waiting})
            return
        self._report_container(metadata["name"], name, {"running": {}})
        key = (metadata["uid"], name)
        self._waiting.add(key)
        dies_at_s = self.api.clock.monotonic_s() + self.parked_die_after_s
        while True:
            told = self._passed.get(key) or self._told(pod, name)
            if told is not None and not self.agents_away:
                break
            if self.api.clock.monotonic_s() >= dies_at_s:
                told = None
                break
            await asyncio.sleep(0.002)
        self._waiting.discard(key)
        await asyncio.sleep(self.takes_s)
        others = sorted(item for item in self._waiting if item[0] == key[0])
        if isinstance(told, Handover) and self.passes_on and key not in self._passed and others:
            self._waiting.discard(others[0])
            self._passed[others[0]] = told
        elif isinstance(told, Handover):
            entry = EntryView(
                name, told.task_name, told.task_uid, told.attempt, told.placed_at, "img"
            )
            own = (self._task(entry) or {}).get("spec", {})
            command = filled(own, told.defaults).get("command", ["ok"])
            if await self._claim(pod, entry, told.defaults):
                self.runs.append((entry.task_name, entry.attempt))
                self.handed_over.append(entry.task_name)
                self._working[metadata["uid"], name] = entry
                await self._work(pod, entry, command)
                self._working.pop((metadata["uid"], name), None)
        ended = {"exitCode": 0, "reason": "Completed"}
        self._report_container(metadata["name"], name, {"terminated": ended})

    def _told(self, pod: KubeObject, container: str) -> Handover | Dismissal | None:
        name = record_name(pod["metadata"]["name"], pod["metadata"]["uid"])
        record = self.api.objects.get("leases", {}).get(("ns", name))
        return None if record is None else parse_record(record).get(container)

    def parked(self, pod_name: str) -> list[str]:
        """Return the parked containers of a pod that run and have been given nothing."""
        pod = self.api.peek(PODS, pod_name)
        statuses = pod["status"].get("ephemeralContainerStatuses", [])
        running = {item["name"] for item in statuses if "running" in item["state"]}
        views = (parse_parked(c) for c in pod["spec"].get("ephemeralContainers") or ())
        names = [view.container for view in views if view is not None]
        used = {(t.get("status") or {}).get("containerName") for t in self.api.all(TASKS)}
        return [name for name in names if name in running and name not in used]

    async def _start(self, pod: KubeObject, entry: EntryView, turn_s: float) -> None:
        await asyncio.sleep(turn_s + self.start_s)
        name = pod["metadata"]["name"]
        task = self._task(entry)
        own = (task or {}).get("spec", {})
        defaults = _defaults(pod, entry)
        command = filled(own, defaults).get("command", ["ok"])
        if command[0] == "hang":
            self._report(name, entry, {"waiting": {"reason": "ImagePullBackOff", "message": "no"}})
            return
        self._report(name, entry, {"running": {}})
        if await self._claim(pod, entry, defaults):
            attempt = entry.attempt
            self.runs.append((entry.task_name, attempt))
            key = (pod["metadata"]["uid"], entry.container)
            self._working[key] = entry
            await self._work(pod, entry, command)
            self._working.pop(key, None)
        self._report(name, entry, {"terminated": {"exitCode": 0, "reason": "Completed"}})

    def _task(self, entry: EntryView) -> KubeObject | None:
        return self.api.objects["tasks"].get(("ns", entry.task_name))

    def _report(self, pod_name: str, entry: EntryView, state: dict[str, Any]) -> None:
        self._report_container(pod_name, entry.container, state)

    def _report_container(self, pod_name: str, container: str, state: dict[str, Any]) -> None:
        def change(pod: KubeObject) -> None:
            statuses = pod["status"].setdefault("ephemeralContainerStatuses", [])
            statuses[:] = [item for item in statuses if item["name"] != container]
            statuses.append({"name": container, "state": state})

        if self.api.has(PODS, pod_name):
            self.api.edit(PODS, pod_name, change)

    async def _claim(self, pod: KubeObject, entry: EntryView, defaults: Mapping[str, Any]) -> bool:
        metadata = pod["metadata"]
        placed = format_micro(entry.placed) if entry.placed else ""
        claim = ClaimEntry(
            task_uid=entry.task_uid,
            attempt=entry.attempt,
            container=entry.container,
            pod_name=metadata["name"],
            pod_uid=metadata["uid"],
            placed=placed,
            defaults=defaults,
        )
        while True:
            try:
                task = await self.api.get(TASKS, entry.task_name, "ns")
                decision = decide_claim(task, claim, self.api.clock.now())
                if isinstance(decision, AlreadyOurs):
                    return True
                if not isinstance(decision, Claimed):
                    return False
                body = status_body(task, decision.status_patch)
                await self.api.patch_status(TASKS, entry.task_name, "ns", body)
            except NotFound:
                return False
            except ApiError:
                await asyncio.sleep(0.01)
                continue
            return True

    async def _work(self, pod: KubeObject, entry: EntryView, command: list[str]) -> None:
        code, spawned, reason = 0, False, ""
        match command:
            case ["work" | "work-once", seconds]:  # and stops when it is cancelled
                again = command[0] == "work-once" and entry.attempt > 1
                reason = await self._until_cancelled(entry, 0.0 if again else float(seconds))
            case ["grow", count, seconds]:
                spawned = True
                await self._spawn(entry, [["work", seconds]] * int(count))
            case ["grow-and-work", count, seconds]:
                spawned = True
                await self._spawn(entry, [["work", seconds]] * int(count))
                reason = await self._until_cancelled(entry, float(seconds))
            case ["sleep", seconds]:
                await asyncio.sleep(float(seconds))
            case ["fail", text]:
                code = int(text)
            case ["fail-until", text]:
                code = 0 if entry.attempt >= int(text) else 1
            case ["spawn", count]:
                spawned = True
                await self._spawn(entry, [["sleep", "0.5"]] * int(count))
            case ["chain", left] if int(left) > 0:
                spawned = True
                await self._spawn(entry, [["chain", str(int(left) - 1)]])
            case ["deep", left, text]:  # fails at each level before that attempt
                code = 0 if entry.attempt >= int(text) else 1
                if int(left) > 0:
                    spawned = True
                    await self._spawn(entry, [["deep", str(int(left) - 1), text], ["ok"]])
            case ["vanish"]:
                return
        await self._exit(entry, code, spawned=spawned, reason=reason)

    async def _until_cancelled(self, entry: EntryView, seconds: float) -> str:
        end_s = self.api.clock.monotonic_s() + seconds
        while self.api.clock.monotonic_s() < end_s:
            if (self._task(entry) or {}).get("spec", {}).get("cancel"):
                return "Cancelled"
            await asyncio.sleep(0.2)
        return ""

    async def _spawn(self, entry: EntryView, commands: list[list[str]]) -> None:
        parent = await self._insist(lambda: self.api.get(TASKS, entry.task_name, "ns"))
        if parent is None:
            return
        view = parse_task(parent)
        for number, command in enumerate(commands):
            name = child_name(view, str(number))
            metadata = child_metadata(view, name, str(number), depth=view.depth + 1)
            spec = {"command": command, "lineage": child_lineage(view, name, str(number))}
            child = {"metadata": metadata, "spec": parent["spec"] | spec}
            await self._insist(partial(self.api.create, TASKS, child, "ns"))

    async def _insist(self, call: Callable[[], Awaitable[KubeObject]]) -> KubeObject | None:
        """Repeat until there is an answer; None: gone, or there already."""
        while True:
            try:
                return await call()
            except (NotFound, AlreadyExists):
                return None
            except ApiError:
                await asyncio.sleep(0.02)

    async def _exit(
        self, entry: EntryView, code: int, *, spawned: bool = True, reason: str = ""
    ) -> None:
        report = ExitReport(
            attempt=entry.attempt,
            code=code,
            reason=reason,
            started=self.api.clock.now(),
            exited=self.api.clock.now(),
            spawned=spawned or entry.attempt > 1,
        )
        while True:
            try:
                task = await self.api.get(TASKS, entry.task_name, "ns")
                now = self.api.clock.now()
                decision = decide_after_exit(task, entry.container, report, now, 0.5)
                if not isinstance(decision, StatusChange):
                    return
                body = status_body(task, decision.status_patch)
                await self.api.patch_status(TASKS, entry.task_name, "ns", body)
            except NotFound:
                return
            except (Conflict, ApiError):
                await asyncio.sleep(0.01)
                continue
            return


def running_status() -> dict[str, Any]:
    return {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": "agent", "ready": True, "state": {"running": {}}}],
    }


def _defaults(pod: KubeObject, entry: EntryView) -> dict[str, Any]:
    """What the entry says that its Task takes of its TaskCluster, as the agent reads it."""
    for container in pod["spec"].get("ephemeralContainers") or ():
        if container["name"] == entry.container:
            env = {item["name"]: item.get("value", "") for item in container["env"]}
            return from_text(env.get(ENV_DEFAULTS, ""))
    return {}
