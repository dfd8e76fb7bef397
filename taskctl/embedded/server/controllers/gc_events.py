"""The Event that tells of an owner in another namespace.

Owner references do not cross namespaces: the collector looks for the owner beside the dependent,
does not find it, and deletes the dependent. Kubernetes says so in an Event
(``pkg/controller/garbagecollector/graph_builder.go``, reportInvalidNamespaceOwnerRef).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from taskctl.clock import format_seconds
from taskctl.embedded.server.core import Core
from taskctl.embedded.server.refusals.errors import Json, Resource
from taskctl.embedded.server.storage.records import Record

_EVENTS: Final = Resource("", "events")
_NAMESPACES: Final = Resource("", "namespaces")
_REASON: Final = "OwnerRefInvalidNamespace"
_COMPONENT: Final = "garbage-collector-controller"


def report_foreign_owners(core: Core, dependent: Record, references: Iterable[Json]) -> None:
    """Write an Event for each owner that exists, but in another namespace; once for each."""
    for reference in references:
        owner = core.store.by_uid(str(reference.get("uid", "")))
        if owner is not None and owner.namespace not in ("", dependent.namespace):
            _report(core, dependent, reference)


def _report(core: Core, dependent: Record, reference: Json) -> None:
    # Events about objects without a namespace are kept in this one.
    namespace = dependent.namespace or "default"
    digest = hashlib.sha256(f"{dependent.uid}/{reference['uid']}".encode()).hexdigest()[:16]
    name = f"{dependent.name[:200]}.{digest}"
    space = core.store.get(_NAMESPACES, "", namespace)
    if core.store.get(_EVENTS, namespace, name) is not None or space is None or space.deleting:
        return
    obj, now = dependent.load(), format_seconds(core.clock.now())
    shown = (
        f"[{reference.get('apiVersion')}/{reference.get('kind')}, "
        f"namespace: {dependent.namespace}, name: {reference.get('name')}, "
        f"uid: {reference.get('uid')}]"
    )
    about: Json = {
        "kind": obj["kind"],
        "namespace": dependent.namespace,
        "name": dependent.name,
        "uid": dependent.uid,
        "apiVersion": obj["apiVersion"],
    }
    core.store.create(
        _EVENTS,
        {
            "kind": "Event",
            "apiVersion": "v1",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {key: value for key, value in about.items() if value},
            "reason": _REASON,
            "message": f'ownerRef {shown} does not exist in namespace "{dependent.namespace}"',
            "source": {"component": _COMPONENT},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "type": "Warning",
            "eventTime": None,
            "reportingComponent": _COMPONENT,
            "reportingInstance": "",
        },
    )
