"""A client that keeps objects in a dict, for the verbs."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

from taskctl.embedded.server.patch.formats import merge_patch
from taskctl.errors import AlreadyExists, BadRequest, Conflict, NotFound, Unavailable
from taskctl.kube.interface import (
    DeleteOptions,
    EventType,
    ListOptions,
    ListPage,
    LogOptions,
    PatchOptions,
    WatchEvent,
    WatchOptions,
)
from taskctl.kube.resources import Resource

Object = dict[str, Any]
_LIST, _PATCH, _WATCH, _LOG = ListOptions(), PatchOptions(), WatchOptions(), LogOptions()
_DELETE = DeleteOptions()


@dataclass
class FakeClient:
    namespace: str = "default"
    objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    logs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    responses: dict[str, Any] = field(default_factory=dict)
    events: list[WatchEvent] = field(default_factory=list)
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    conflicts: int = 0
    broken: set[tuple[str, str]] = field(default_factory=set)  # logs whose stream breaks at the end
    execute: Callable[[list[str]], bytes] = lambda _: b""
    controller: Callable[[Object], None] | None = None  # reacts to what is written

    async def __aenter__(self) -> FakeClient:
        return self

    async def __aexit__(self, *args: object) -> None:
        return None

    def put(self, *objects: Object) -> None:
        for obj in objects:
            self.objects[obj["kind"], obj["metadata"]["name"]] = obj

    def kind(self, name: str) -> list[Object]:
        return [obj for (kind, _), obj in self.objects.items() if kind == name]

    async def get(self, res: Resource, name: str, namespace: str | None = None) -> Object:
        try:
            return copy.deepcopy(self.objects[res.kind, name])
        except KeyError:
            raise NotFound(f'{res.plural}.{res.group} "{name}" not found', 404) from None

    async def list_all(
        self,
        res: Resource,
        namespace: str | None = None,
        *,
        options: ListOptions = _LIST,
    ) -> ListPage:
        self.calls.append(("list", res.plural, namespace, options))
        found = [copy.deepcopy(obj) for obj in self.kind(res.kind) if self._matches(obj, options)]
        return ListPage(found, "100")

    @staticmethod
    def _matches(obj: Object, options: ListOptions | WatchOptions) -> bool:
        labels = obj["metadata"].get("labels", {})
        for part in filter(None, options.label_selector.split(",")):
            key, _, value = part.partition("=")
            if labels.get(key) != value:
                return False
        for part in filter(None, options.field_selector.split(",")):
            path, _, value = part.partition("=")
            found: Any = obj
            for step in path.removesuffix("!").split("."):
                found = (found or {}).get(step)
            if ((found or "") == value) is path.endswith("!"):  # what is absent is empty
                return False
        return True

    async def create(
        self,
        res: Resource,
        obj: Object,
        namespace: str | None = None,
        *,
        dry_run: bool = False,
        strict: bool = False,
    ) -> Object:
        self.calls.append(("create", res.plural, namespace, dry_run))
        if (res.kind, obj["metadata"]["name"]) in self.objects:
            raise AlreadyExists("exists", 409)
        stored = copy.deepcopy(obj)
        stored["metadata"] |= {"uid": f"uid-{obj['metadata']['name']}", "resourceVersion": "1"}
        if not dry_run:
            self.put(stored)
        return stored

    async def delete(
        self,
        res: Resource,
        name: str,
        namespace: str | None = None,
        *,
        options: DeleteOptions = _DELETE,
    ) -> Object:
        self.calls.append(("delete", res.plural, name, options.uid))
        found = await self.get(res, name, namespace)
        if options.uid not in ("", found["metadata"]["uid"]):
            raise Conflict("another object", 409)
        del self.objects[res.kind, name]
        return found

    async def replace(
        self, res: Resource, obj: Object, *, subresource: str | None = None
    ) -> Object:
        self.calls.append(("replace", res.plural, obj["metadata"]["name"]))
        self.put(copy.deepcopy(obj))
        return obj

    async def patch(
        self,
        res: Resource,
        name: str,
        namespace: str | None,
        body: Any,
        *,
        options: PatchOptions = _PATCH,
    ) -> Object:
        self.calls.append(("patch", res.plural, name, body, options.subresource))
        if self.conflicts:
            self.conflicts -= 1
            raise Conflict("changed", 409)
        changed: Object = merge_patch(await self.get(res, name, namespace), body)
        if self.controller is not None:
            self.controller(changed)
        self.put(changed)
        return changed

    async def patch_status(
        self, res: Resource, name: str, namespace: str | None, body: Object
    ) -> Object:
        return await self.patch(
            res, name, namespace, body, options=PatchOptions(subresource="status")
        )

    async def watch(
        self,
        res: Resource,
        namespace: str | None = None,
        *,
        options: WatchOptions = _WATCH,
    ) -> AsyncGenerator[WatchEvent, None]:
        self.calls.append(("watch", res.plural, options))
        mine = [e for e in self.events if e.object["kind"] == res.kind]
        for event in [e for e in mine if self._matches(e.object, options)]:
            await asyncio.sleep(0)  # one after the other, as from a server
            self.events.remove(event)
            obj = event.object
            if event.type is EventType.DELETED:
                self.objects.pop((obj["kind"], obj["metadata"]["name"]), None)
            else:
                self.put(obj)
            yield event
        await asyncio.Event().wait()  # as a quiet server does

    async def stream_log(
        self, pod: str, namespace: str, container: str, *, options: LogOptions = _LOG
    ) -> AsyncGenerator[bytes, None]:
        self.calls.append(("log", pod, container, options))
        if (pod, container) not in self.logs:
            raise BadRequest(f"container {container} is not in pod {pod}", 400)
        log = self.logs[pod, container]
        if options.tail_lines is not None:
            lines = log.splitlines(keepends=True)
            log = b"".join(lines[len(lines) - min(options.tail_lines, len(lines)) :])
        for start in range(0, len(log), 1000):
            yield log[start : start + 1000]
        if options.follow and (pod, container) in self.broken:
            raise Unavailable("the connection broke")

    async def stream_output(
        self, pod: str, namespace: str, container: str, command: list[str]
    ) -> AsyncGenerator[bytes, None]:
        self.calls.append(("exec", pod, container, command))
        yield self.execute(command)

    async def request(self, method: str, path: str, **_: Any) -> bytes:
        self.calls.append(("request", method, path))
        if path not in self.responses:
            raise NotFound(f"{path} not found", 404)
        return json.dumps(self.responses[path]).encode()

    async def list(
        self, res: Resource, namespace: str | None = None, *, options: ListOptions = _LIST
    ) -> ListPage:
        return await self.list_all(res, namespace, options=options)
