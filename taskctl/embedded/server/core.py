"""What every part of the server works on."""

from __future__ import annotations

from dataclasses import dataclass

from taskctl.clock import Clock
from taskctl.embedded.server.errors import Resource
from taskctl.embedded.server.hub import Hub
from taskctl.embedded.server.kinds import Kind, Registry
from taskctl.embedded.server.pods import PodStrategy
from taskctl.embedded.server.store import Store
from taskctl.embedded.server.strategies import Strategy, builtin_strategy, custom_strategy

_POD = PodStrategy()


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
    return Resource(kind.group, kind.plural)


def open_collection(core: Core, kind: Kind) -> None:
    """Make a kind's collection known to the store."""
    paths = {name: tuple(name.split(".")) for name in kind.selectable_fields}
    if kind.builtin and kind.kind == "Event":
        # The selector's name of the field differs from its place (GetAttrs of the registry).
        paths["source"] = ("source", "component")
    core.store.open(resource_of(kind), paths)


def strategy_of(kind: Kind) -> Strategy:
    """Return what is particular to writing a kind."""
    if not kind.builtin:
        return custom_strategy(has_status="status" in kind.subresources)
    return _POD if kind.kind == "Pod" else builtin_strategy(kind.kind)
