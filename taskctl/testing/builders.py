"""Builders for the objects of tests: raw dicts as the API server would deliver them.

Each method returns a new builder, so a base can be kept and varied::

    base = task("a").cluster("c").command("sh", "-c", "true")
    running = base.running("c-1", attempt=2).build()
    child = task("b").child_of(base.build()).build()
"""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any, Self

from taskctl.api.states import Codec, TaskState
from taskctl.clock import format_micro, format_seconds
from taskctl.constants import (
    ANNOTATION_DEPTH,
    ANNOTATION_PARENT,
    ANNOTATION_SPAWN_KEY,
    API_VERSION,
    LABEL_PARENT_UID,
    LABEL_ROOT,
    LABEL_ROOT_UID,
)

Object = dict[str, Any]
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)  # creationTimestamp unless said otherwise


class ObjectBuilder:
    """What all kinds have in common.

    Args:
        kind: for example ``Task``.
        name: ``metadata.name``; the UID is ``uid-<name>`` unless set.
    """

    def __init__(self, kind: str, name: str) -> None:
        self._object: Object = {
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": {
                "name": name,
                "namespace": "default",
                "uid": f"uid-{name}",
                "resourceVersion": "1",
                "generation": 1,
                "creationTimestamp": format_seconds(EPOCH),
            },
        }

    def build(self) -> Object:
        """Return the object; changing it does not change the builder."""
        return copy.deepcopy(self._object)

    def manifest(self) -> Object:
        """Return what a program sends to create the object, without what the server fills in."""
        found = self.build()
        for name in ("uid", "resourceVersion", "generation", "creationTimestamp"):
            found["metadata"].pop(name, None)
        found.pop("status", None)
        return found

    def metadata(self, **fields: Any) -> Self:
        """Set fields of ``metadata``, by their names in JSON; None removes one."""
        return self._with("metadata", fields)

    def namespace(self, namespace: str) -> Self:
        """Set ``metadata.namespace``."""
        return self.metadata(namespace=namespace)

    def uid(self, uid: str) -> Self:
        """Set ``metadata.uid``."""
        return self.metadata(uid=uid)

    def created(self, moment: datetime) -> Self:
        """Set ``metadata.creationTimestamp``."""
        return self.metadata(creationTimestamp=format_seconds(moment))

    def deleting(self, moment: datetime = EPOCH) -> Self:
        """Set ``metadata.deletionTimestamp``."""
        return self.metadata(deletionTimestamp=format_seconds(moment))

    def labels(self, labels: dict[str, str]) -> Self:
        """Add labels."""
        return self.metadata(labels={**self._object["metadata"].get("labels", {}), **labels})

    def annotations(self, annotations: dict[str, str]) -> Self:
        """Add annotations."""
        present = self._object["metadata"].get("annotations", {})
        return self.metadata(annotations={**present, **annotations})

    def owned_by(self, owner: Object, *, controller: bool = False) -> Self:
        """Add an owner reference."""
        reference = {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "controller": controller,
            "blockOwnerDeletion": False,
        }
        present = self._object["metadata"].get("ownerReferences", [])
        return self.metadata(ownerReferences=[*present, reference])

    def _with(self, section: str, fields: dict[str, Any]) -> Self:
        changed = copy.copy(self)
        changed._object = copy.deepcopy(self._object)
        target = changed._object.setdefault(section, {})
        for name, value in copy.deepcopy(fields).items():
            if value is None:
                target.pop(name, None)
            else:
                target[name] = value
        return changed

    def _with_root(self, **fields: Any) -> Self:
        changed = copy.copy(self)
        changed._object = {**copy.deepcopy(self._object), **copy.deepcopy(fields)}
        return changed


class TaskBuilder(ObjectBuilder):
    """Builds a Task; a new one is Pending on TaskCluster ``c`` and runs ``true``."""

    def __init__(self, name: str) -> None:
        super().__init__("Task", name)
        self._object["spec"] = {"clusterName": "c", "image": "busybox", "command": ["true"]}
        self._object["status"] = {"state": TaskState.PENDING.value}

    def spec(self, **fields: Any) -> Self:
        """Set fields of ``spec``, by their names in JSON; None removes one."""
        return self._with("spec", fields)

    def status(self, **fields: Any) -> Self:
        """Set fields of ``status``, by their names in JSON; None removes one."""
        return self._with("status", fields)

    def cluster(self, name: str) -> Self:
        """Set ``spec.clusterName``."""
        return self.spec(clusterName=name)

    def command(self, *words: str) -> Self:
        """Set ``spec.command``."""
        return self.spec(command=list(words))

    def state(self, state: TaskState, reason: str | None = None) -> Self:
        """Set ``status.state`` and, if given, ``status.reason``."""
        changed = self.status(state=state.value)
        return changed if reason is None else changed.status(reason=reason)

    def running(self, pod: str, *, attempt: int = 1) -> Self:
        """Make it run on a worker, as after a claim."""
        return self.state(TaskState.RUNNING, "Started").status(
            podName=pod,
            podUID=f"uid-{pod}",
            containerName=f"t-{self._object['metadata']['uid']}-{attempt}",
            attempt=attempt,
        )

    def times(self, **moments: datetime) -> Self:
        """Set entries of ``status.times``, by their names in JSON."""
        present = self._object.get("status", {}).get("times", {})
        return self.status(
            times={**present, **{name: format_micro(m) for name, m in moments.items()}}
        )

    def child_of(self, parent: Object, *, key: str = "") -> Self:
        """Hang it below a parent, as the agent does for a child it creates."""
        metadata = parent["metadata"]
        lineage = parent["spec"].get("lineage") or {}
        depth = lineage.get("depth", 0) + 1
        root: Object = {
            "apiVersion": API_VERSION,
            "kind": "Task",
            "metadata": {
                "name": lineage.get("root", metadata["name"]),
                "uid": lineage.get("rootUID", metadata["uid"]),
            },
        }
        name = self._object["metadata"]["name"]
        return (
            self.labels(
                {
                    LABEL_ROOT: root["metadata"]["name"],
                    LABEL_ROOT_UID: root["metadata"]["uid"],
                    LABEL_PARENT_UID: metadata["uid"],
                }
            )
            .annotations(
                {
                    ANNOTATION_PARENT: metadata["name"],
                    ANNOTATION_DEPTH: str(depth),
                    ANNOTATION_SPAWN_KEY: key or name,
                }
            )
            .owned_by(root)
            .spec(
                lineage={
                    "task": name,
                    "root": root["metadata"]["name"],
                    "rootUID": root["metadata"]["uid"],
                    "parent": metadata["name"],
                    "parentUID": metadata["uid"],
                    "depth": depth,
                    "key": key or name,
                }
            )
        )


class TaskObjectBuilder(ObjectBuilder):
    """Builds a TaskObject; a new one holds an empty ``data``."""

    def __init__(self, name: str) -> None:
        super().__init__("TaskObject", name)
        self._object["data"] = {}

    def data(self, **entries: str) -> Self:
        """Let it hold a map of text."""
        return self._content("data", entries)

    def value(self, value: Any) -> Self:
        """Let it hold any JSON value."""
        return self._content("value", value)

    def ref(self, path: str, sha256: str, size: int, codec: Codec = Codec.JSON) -> Self:
        """Let it point at a file in the workspace."""
        reference = {"path": path, "sha256": sha256, "size": size, "codec": codec.value}
        return self._content("ref", reference)

    def _content(self, name: str, content: Any) -> Self:
        changed = self._with_root(**{name: content})
        for other in {"data", "value", "ref"} - {name}:
            changed._object.pop(other, None)
        return changed


class TaskClusterBuilder(ObjectBuilder):
    """Builds a TaskCluster; a new one has one worker with four slots and no workspace."""

    def __init__(self, name: str) -> None:
        super().__init__("TaskCluster", name)
        self._object["spec"] = {"replicas": 1, "slotsPerWorker": 4}

    def spec(self, **fields: Any) -> Self:
        """Set fields of ``spec``, by their names in JSON; None removes one."""
        return self._with("spec", fields)

    def status(self, **fields: Any) -> Self:
        """Set fields of ``status``, by their names in JSON; None removes one."""
        return self._with("status", fields)

    def replicas(self, count: int) -> Self:
        """Set ``spec.replicas``."""
        return self.spec(replicas=count)

    def slots(self, count: int) -> Self:
        """Set ``spec.slotsPerWorker``."""
        return self.spec(slotsPerWorker=count)

    def workspace(self, **fields: Any) -> Self:
        """Give it a workspace; without fields, a claim with the defaults."""
        return self.spec(workspace=fields)


def task(name: str = "task-0") -> TaskBuilder:
    """Return a builder of a Task."""
    return TaskBuilder(name)


def taskobject(name: str = "input") -> TaskObjectBuilder:
    """Return a builder of a TaskObject."""
    return TaskObjectBuilder(name)


def taskcluster(name: str = "c") -> TaskClusterBuilder:
    """Return a builder of a TaskCluster."""
    return TaskClusterBuilder(name)
