"""A few objects with resourceVersions: enough of a server for leases and events."""

from __future__ import annotations

import copy
from typing import Any

from taskctl.errors import AlreadyExists, ApiError, Conflict, NotFound
from taskctl.kube.interface import DeleteOptions, KubeObject, ListOptions, ListPage, PatchOptions
from taskctl.kube.resources import Resource

_LIST = ListOptions()
_PATCH = PatchOptions()
_DELETE = DeleteOptions()


class MemoryServer:
    """Stores what is written; ``faults`` are raised first, one a request."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], KubeObject] = {}
        self.version = 0
        self.faults: list[ApiError | None] = []
        self.requests: list[str] = []

    def find(self, res: Resource, name: str, namespace: str = "default") -> KubeObject:
        return self.objects[res.plural, namespace, name]

    def of(self, res: Resource) -> list[KubeObject]:
        return [obj for (plural, _, _), obj in self.objects.items() if plural == res.plural]

    def _begin(self, what: str) -> None:
        self.requests.append(what)
        if self.faults:
            fault = self.faults.pop(0)
            if fault is not None:
                raise fault

    def _store(self, at: tuple[str, str, str], obj: KubeObject) -> KubeObject:
        self.version += 1
        stored = copy.deepcopy(obj)
        stored["metadata"]["resourceVersion"] = str(self.version)
        self.objects[at] = stored
        return copy.deepcopy(stored)

    async def get(self, res: Resource, name: str, namespace: str | None = None) -> KubeObject:
        self._begin(f"get {name}")
        found = self.objects.get((res.plural, namespace or "", name))
        if found is None:
            raise NotFound(f"{name} not found", 404)
        return copy.deepcopy(found)

    async def list(
        self, res: Resource, namespace: str | None = None, *, options: ListOptions = _LIST
    ) -> ListPage:
        self._begin("list")
        return ListPage(copy.deepcopy(self.of(res)), str(self.version))

    async def list_all(
        self, res: Resource, namespace: str | None = None, *, options: ListOptions = _LIST
    ) -> ListPage:
        return await self.list(res, namespace, options=options)

    async def create(
        self, res: Resource, obj: KubeObject, namespace: str | None = None, *, dry_run: bool = False
    ) -> KubeObject:
        name = obj["metadata"]["name"]
        self._begin(f"create {name}")
        at = (res.plural, namespace or obj["metadata"]["namespace"], name)
        if at in self.objects:
            raise AlreadyExists(f"{name} exists", 409, "AlreadyExists")
        return self._store(at, obj)

    async def replace(
        self, res: Resource, obj: KubeObject, *, subresource: str | None = None
    ) -> KubeObject:
        metadata = obj["metadata"]
        self._begin(f"replace {metadata['name']}")
        at = (res.plural, metadata["namespace"], metadata["name"])
        if at not in self.objects:
            raise NotFound("not found", 404)
        if self.objects[at]["metadata"]["resourceVersion"] != metadata["resourceVersion"]:
            raise Conflict("changed", 409, "Conflict")
        return self._store(at, obj)

    async def patch(
        self,
        res: Resource,
        name: str,
        namespace: str | None,
        body: Any,
        *,
        options: PatchOptions = _PATCH,
    ) -> KubeObject:
        self._begin(f"patch {name}")
        at = (res.plural, namespace or "", name)
        if at not in self.objects:
            raise NotFound("not found", 404)
        return self._store(at, {**self.objects[at], **body})

    async def delete(
        self,
        res: Resource,
        name: str,
        namespace: str | None = None,
        *,
        options: DeleteOptions = _DELETE,
    ) -> KubeObject:
        self._begin(f"delete {name}")
        try:
            return self.objects.pop((res.plural, namespace or "", name))
        except KeyError:
            raise NotFound("not found", 404) from None
