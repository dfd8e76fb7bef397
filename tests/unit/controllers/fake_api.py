"""An API server in memory: versions, compare-and-swap, watches, the pod subresource.

Faults are injected by ``faults``: a function of the request that may raise, before or after
the request takes effect. ``log`` holds every write, ``overstepped`` what the controller did
beyond the rights that it is installed with.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import orjson

from taskctl.clock import format_seconds
from taskctl.embedded.server.patch.formats import PatchError, json_patch, merge_patch
from taskctl.errors import AlreadyExists, Conflict, Gone, Invalid, NotFound
from taskctl.install.rules import access_rules, controller_rules, node_rules, notify_rules
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
from tests.unit.controllers.virtual import VirtualClock

Key = tuple[str, str]
# Who calls: faults may be for one of them only.
WHO: ContextVar[str] = ContextVar("who", default="node")
LATENCY_S = 0.002
_LIST, _WATCH, _PATCH, _DELETE = ListOptions(), WatchOptions(), PatchOptions(), DeleteOptions()
_STATUS = PatchOptions(subresource="status")


@dataclass(frozen=True)
class Call:
    """A write as the server saw it."""

    verb: str
    plural: str
    name: str
    body: Any = None
    subresource: str = ""
    who: str = field(default_factory=lambda: WHO.get())

    @property
    def is_status(self) -> bool:
        return self.verb == "patch" and isinstance(self.body, dict) and "status" in self.body


Fault = Callable[[Call, bool], Exception | None]
_RIGHTS = {
    (verb, resource)
    for rule in [*controller_rules(), *node_rules(), *access_rules(), *notify_rules()]
    for verb in rule["verbs"]
    for resource in rule["resources"]
}


@dataclass
class FakeApi:
    """See the module. The same object serves any number of clients."""

    latency_s: float = LATENCY_S
    faults: Fault | None = None
    validate: Callable[[Call], None] | None = None
    log: list[Call] = field(default_factory=list)
    overstepped: set[tuple[str, str]] = field(default_factory=set)
    objects: dict[str, dict[Key, KubeObject]] = field(default_factory=dict)
    history: list[tuple[int, str, WatchEvent]] = field(default_factory=list)
    version: int = 0
    compacted: int = 0
    pod_level_resources: bool = True
    dropped: int = 0  # events that a compaction took out of the history
    held: set[str] = field(default_factory=set)  # plurals whose watches say nothing for now
    _watchers: set[asyncio.Event] = field(default_factory=set)
    _uids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    clock: VirtualClock = field(default_factory=VirtualClock)

    # --- for tests ----------------------------------------------------------------------

    def all(self, res: Resource) -> list[KubeObject]:
        return list(self.objects.get(res.plural, {}).values())

    def peek(self, res: Resource, name: str, namespace: str = "ns") -> KubeObject:
        return self.objects[res.plural][(namespace, name)]

    def has(self, res: Resource, name: str, namespace: str = "ns") -> bool:
        return (namespace, name) in self.objects.get(res.plural, {})

    def compact(self) -> None:
        """Forget the history, so that a resumed watch gets 410."""
        self.compacted = self.version
        self.dropped += len(self.history)
        self.history.clear()

    # --- reading ------------------------------------------------------------------------

    async def get(self, res: Resource, name: str, namespace: str | None = None) -> KubeObject:
        call = Call("get", res.plural, name)
        await self._pass(call)
        found = self.objects.get(res.plural, {}).get((namespace or "", name))
        if found is None:
            raise NotFound(f"{res.plural} {name} not found", 404)
        return _copy(found)

    async def list(
        self, res: Resource, namespace: str | None = None, *, options: ListOptions = _LIST
    ) -> ListPage:
        await self._pass(Call("list", res.plural, ""))
        items = [
            _copy(obj)
            for obj in self.all(res)
            if _matches(obj, namespace, options.label_selector)
            and _has_field(obj, options.field_selector)
        ]
        return ListPage(items, str(self.version))

    async def list_all(
        self, res: Resource, namespace: str | None = None, *, options: ListOptions = _LIST
    ) -> ListPage:
        return await self.list(res, namespace, options=options)

    async def watch(
        self,
        res: Resource,
        namespace: str | None = None,
        *,
        options: WatchOptions = _WATCH,
    ) -> AsyncGenerator[WatchEvent, None]:
        await self._pass(Call("watch", res.plural, ""))
        seen = int(options.resource_version or self.version)
        if seen < self.compacted:
            raise Gone("too old", 410)
        news = asyncio.Event()
        self._watchers.add(news)
        end_s = self.clock.monotonic_s() + (options.timeout_s or 300.0)
        position = self.dropped
        try:
            while True:
                while res.plural in self.held:
                    await asyncio.sleep(0.05)
                news.clear()
                if position < self.dropped:
                    raise Gone("too old", 410)
                batch = self.history[position - self.dropped :]
                position = self.dropped + len(self.history)
                for version, plural, event in batch:
                    if version <= seen or plural != res.plural:
                        continue
                    if _matches(event.object, namespace, options.label_selector):
                        yield WatchEvent(event.type, _copy(event.object))
                left_s = end_s - self.clock.monotonic_s()
                if left_s <= 0:
                    return
                try:
                    async with asyncio.timeout(min(left_s, 60.0)):
                        await news.wait()
                except TimeoutError:
                    bookmark = {"metadata": {"resourceVersion": str(self.version)}}
                    yield WatchEvent(EventType.BOOKMARK, bookmark)
        finally:
            self._watchers.discard(news)

    # --- writing ------------------------------------------------------------------------

    async def create(
        self, res: Resource, obj: KubeObject, namespace: str | None = None, *, dry_run: bool = False
    ) -> KubeObject:
        name = obj["metadata"]["name"]
        call = Call("create", res.plural, name, obj)
        await self._pass(call)
        key = (namespace or obj["metadata"].get("namespace", ""), name)
        if key in self.objects.get(res.plural, {}):
            raise AlreadyExists(f"{name} exists", 409)
        stored = _copy(obj)
        if res.plural == "pods" and not self.pod_level_resources:
            stored["spec"].pop("resources", None)
        if dry_run:
            return await self._answer(call, stored)
        stored.setdefault("apiVersion", res.api_version)
        stored.setdefault("kind", res.kind)
        stored["metadata"] |= {
            "namespace": key[0],
            "uid": f"uid-{next(self._uids):06d}",
            "generation": 1,
            "creationTimestamp": format_seconds(self.clock.now()),
        }
        if res.plural == "tasks":
            stored["status"] = {"state": "Pending"}
        self._store(res, key, stored, EventType.ADDED)
        return await self._answer(call, stored)

    async def replace(
        self, res: Resource, obj: KubeObject, *, subresource: str | None = None
    ) -> KubeObject:
        raise NotImplementedError

    async def patch(
        self,
        res: Resource,
        name: str,
        namespace: str | None,
        body: Any,
        *,
        options: PatchOptions = _PATCH,
    ) -> KubeObject:
        call = Call("patch", res.plural, name, body, options.subresource or "")
        await self._pass(call)
        key = (namespace or "", name)
        old = self.objects.get(res.plural, {}).get(key)
        if old is None:
            raise NotFound(f"{res.plural} {name} not found", 404)
        if self.validate is not None:
            self.validate(call)
        new = _copy(old)
        if options.type is PatchType.JSON:
            new = _apply_operations(old, body)
            _check_guard(old, new)
        elif options.type is PatchType.STRATEGIC:
            _append_containers(new, body)
        else:
            _check_guard(old, body)
            new = merge_patch(new, {k: v for k, v in body.items() if k != "metadata"})
            guards = ("resourceVersion", "uid")
            metadata = {k: v for k, v in body.get("metadata", {}).items() if k not in guards}
            new["metadata"] = merge_patch(new["metadata"], metadata)
            if new.get("spec") != old.get("spec"):
                new["metadata"]["generation"] += 1
        if new != old:
            self._store(res, key, new, EventType.MODIFIED)
            if new["metadata"].get("deletionGracePeriodSeconds") == 0:
                self._finish(res, key)
        return await self._answer(call, new)

    async def patch_status(
        self, res: Resource, name: str, namespace: str | None, body: KubeObject
    ) -> KubeObject:
        return await self.patch(
            res, name, namespace, body, options=PatchOptions(subresource="status")
        )

    async def delete(
        self,
        res: Resource,
        name: str,
        namespace: str | None = None,
        *,
        options: DeleteOptions = _DELETE,
    ) -> KubeObject:
        call = Call("delete", res.plural, name, options)
        await self._pass(call)
        key = (namespace or "", name)
        found = self.objects.get(res.plural, {}).get(key)
        if found is None:
            raise NotFound(f"{res.plural} {name} not found", 404)
        metadata = found["metadata"]
        if options.uid not in ("", metadata["uid"]):
            raise Conflict("uid", 409)
        if options.resource_version not in ("", metadata["resourceVersion"]):
            raise Conflict("resourceVersion", 409)
        self.mark_deleted(res, name, options.grace_s)
        return await self._answer(call, found)

    def mark_deleted(self, res: Resource, name: str, grace_s: int | None = None) -> None:
        """Delete as the API server does: a running pod gets its grace, finalizers are waited for.

        A kubelet says with ``grace_s=0`` that nothing runs any more.
        """
        key = ("ns", name)
        found = self.objects[res.plural][key]
        running = res.plural == "pods" and found.get("status", {}).get("phase") == "Running"
        grace_s = (30 if running else 0) if grace_s is None else grace_s
        metadata = found["metadata"]
        if grace_s or metadata.get("finalizers"):
            before_s = metadata.get("deletionGracePeriodSeconds")
            if before_s is None or grace_s < before_s:
                new = _copy(found)
                now = self.clock.now()
                new["metadata"] |= {
                    "deletionTimestamp": format_seconds(now + timedelta(seconds=grace_s)),
                    "deletionGracePeriodSeconds": grace_s,
                }
                self._store(res, key, new, EventType.MODIFIED)
        if not grace_s:
            self._finish(res, key)

    def _finish(self, res: Resource, key: Key) -> None:
        if not self.objects[res.plural][key]["metadata"].get("finalizers"):
            self.remove(res, key[1], key[0])

    def remove(self, res: Resource, name: str, namespace: str = "ns") -> None:
        """Take away at once, whatever its finalizers, and delete what it owns."""
        gone = _copy(self.objects[res.plural].pop((namespace, name)))
        self.version += 1
        gone["metadata"]["resourceVersion"] = str(self.version)
        self._publish(res.plural, WatchEvent(EventType.DELETED, gone))
        self._collect(gone["metadata"]["uid"])

    def _collect(self, owner_uid: str) -> None:
        for plural, objects in list(self.objects.items()):
            for (namespace, name), obj in list(objects.items()):
                owners = obj["metadata"].get("ownerReferences") or ()
                owned = any(owner["uid"] == owner_uid for owner in owners)
                if owned and (namespace, name) in objects:
                    self.mark_deleted(Resource("", "", plural, ""), name)

    # --- below --------------------------------------------------------------------------

    def edit(self, res: Resource, name: str, change: Callable[[KubeObject], None]) -> None:
        """Change an object in place, as its kubelet or user would."""
        namespace = "ns" if res.namespaced else ""
        new = _copy(self.peek(res, name, namespace))
        old_spec = _copy({"spec": new.get("spec")})["spec"]
        change(new)
        if new.get("spec") != old_spec:
            new["metadata"]["generation"] += 1
        self._store(res, (namespace, name), new, EventType.MODIFIED)

    def _store(self, res: Resource, key: Key, obj: KubeObject, event: EventType) -> None:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        self.objects.setdefault(res.plural, {})[key] = obj
        self._publish(res.plural, WatchEvent(event, obj))

    def _publish(self, plural: str, event: WatchEvent) -> None:
        self.history.append((self.version, plural, event))
        for watcher in self._watchers:
            watcher.set()

    async def _pass(self, call: Call) -> None:
        asked = (call.verb, "/".join(filter(None, (call.plural, call.subresource))))
        if call.who == "controller" and asked not in _RIGHTS:
            self.overstepped.add(asked)
        await asyncio.sleep(self.latency_s)
        if call.verb not in ("get", "list", "watch"):
            self.log.append(call)
        if self.faults is not None:
            error = self.faults(call, False)
            if error is not None:
                raise error

    async def _answer(self, call: Call, obj: KubeObject) -> KubeObject:
        answer = _copy(obj)
        if self.faults is not None:
            error = self.faults(call, True)
            if error is not None:
                raise error
        return answer


def _copy(obj: KubeObject) -> KubeObject:
    copied: KubeObject = orjson.loads(orjson.dumps(obj))
    return copied


def _matches(obj: KubeObject, namespace: str | None, selector: str) -> bool:
    metadata = obj["metadata"]
    if namespace is not None and metadata.get("namespace") != namespace:
        return False
    if not selector:
        return True
    name, _, value = selector.partition("=")
    return bool((metadata.get("labels") or {}).get(name) == value)


def _has_field(obj: KubeObject, selector: str) -> bool:
    if not selector:
        return True
    path, _, value = selector.partition("=")
    found: Any = obj
    for step in path.split("."):
        found = (found or {}).get(step)
    return bool(found == value)


def _check_guard(old: KubeObject, body: Any) -> None:
    guard = body.get("metadata", {})
    if (
        guard.get("resourceVersion", old["metadata"]["resourceVersion"])
        != (old["metadata"]["resourceVersion"])
    ):
        raise Conflict("the object has been modified", 409)
    if guard.get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
        raise Conflict("uid precondition", 409)


def _append_containers(pod: KubeObject, body: Any) -> None:
    if body["metadata"]["uid"] != pod["metadata"]["uid"]:
        raise Invalid("metadata.uid: field is immutable", 422)
    present = pod["spec"].setdefault("ephemeralContainers", [])
    by_name = {entry["name"]: entry for entry in present}
    added = []
    for entry in body["spec"]["ephemeralContainers"]:
        old = by_name.get(entry["name"])
        if old is None:
            added.append(_copy(entry))
        elif old != entry:
            raise Invalid("spec.ephemeralContainers: may not be changed", 422)
    pod["spec"]["ephemeralContainers"] = added + present


def _apply_operations(obj: KubeObject, operations: Any) -> KubeObject:
    try:
        return json_patch(obj, operations)
    except PatchError as error:
        raise Invalid(str(error), 422) from error
