"""What every part of the server works on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from taskctl.clock import Clock
from taskctl.embedded.server.definitions.strategy import CrdStrategy
from taskctl.embedded.server.kinds import event_forms
from taskctl.embedded.server.kinds.model import Kind
from taskctl.embedded.server.kinds.registry import Registry
from taskctl.embedded.server.pods.strategy import PodStrategy
from taskctl.embedded.server.refusals.errors import Json, Resource
from taskctl.embedded.server.storage.hub import Hub
from taskctl.embedded.server.storage.records import Record
from taskctl.embedded.server.storage.store import Store
from taskctl.embedded.server.strategies.builtin import builtin_strategy
from taskctl.embedded.server.strategies.config_values import ConfigMapStrategy, SecretStrategy
from taskctl.embedded.server.strategies.events import EventStrategy, NewEventStrategy
from taskctl.embedded.server.strategies.rbac import BindingStrategy, RoleStrategy
from taskctl.embedded.server.strategies.strategy import Strategy, custom_strategy

# Those of the other built-in kinds are in strategies/builtin.py.
_OWN_MODULES: Final[dict[str, Strategy]] = {
    "Pod": PodStrategy(),
    "Event": EventStrategy(),
    "CustomResourceDefinition": CrdStrategy(),
    "Secret": SecretStrategy(),
    "ConfigMap": ConfigMapStrategy(),
    "Role": RoleStrategy(namespaced=True),
    "ClusterRole": RoleStrategy(namespaced=False),
    "RoleBinding": BindingStrategy(namespaced=True),
    "ClusterRoleBinding": BindingStrategy(namespaced=False),
}
_NEW_EVENTS: Final = NewEventStrategy()


@dataclass(frozen=True, slots=True)
class Core:
    """The server without HTTP: objects, kinds, watchers, time.

    Attributes:
        store: the objects.
        registry: the kinds.
        hub: the watchers.
        clock: source of time.
    """

    store: Store
    registry: Registry
    hub: Hub
    clock: Clock


def resource_of(kind: Kind) -> Resource:
    """Return the collection that holds a kind's objects, in whichever version."""
    conversion = kind.conversion
    return Resource(conversion.group if conversion is not None else kind.group, kind.plural)


def as_version(kind: Kind, record: Record) -> Json:
    """Return a stored object in a kind's version."""
    obj = record.load()
    if kind.conversion is not None:
        return kind.conversion.load(obj)
    obj["apiVersion"] = kind.api_version
    return obj


def as_stored(kind: Kind, obj: Json) -> Json:
    """Return an object of a kind as it is to be stored."""
    return obj if kind.conversion is None else kind.conversion.store(obj)


def open_collection(core: Core, kind: Kind) -> None:
    """Make a kind's collection known to the store."""
    if kind.conversion is not None:
        return  # it is another kind's
    paths = {name: tuple(name.split(".")) for name in kind.selectable_fields}
    if kind.builtin and kind.kind == "Event":
        # The selector's name of the field differs from its place (GetAttrs of the registry).
        paths["source"] = ("source", "component")
        paths.update(event_forms.SELECTORS)
    is_namespace = kind.builtin and kind.kind == "Namespace"
    core.store.open(resource_of(kind), paths, spec_finalizers=is_namespace)


def kind_of(core: Core, resource: Resource) -> Kind | None:
    """Return a served kind whose objects are in a collection."""
    for kind in core.registry:
        if kind.plural == resource.plural and kind.group == resource.group:
            return kind
    return None


def strategy_of(kind: Kind) -> Strategy:
    """Return what is particular to writing a kind."""
    if not kind.builtin:
        return custom_strategy(has_status="status" in kind.subresources)
    if kind.group == event_forms.EVENTS_GROUP:
        return _NEW_EVENTS
    return _OWN_MODULES.get(kind.kind) or builtin_strategy(kind.kind)
