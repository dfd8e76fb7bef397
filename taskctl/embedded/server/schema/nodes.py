"""The structural schema as a tree of nodes, built once from OpenAPI v3 JSON.

Defaulting, pruning, list uniqueness and apply walk this tree. Each node knows what there
is to do below it, so that the walks skip whole subtrees.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

JSON = dict[str, Any]


class ListType(StrEnum):
    """``x-kubernetes-list-type``: how a list merges and what must be unique in it."""

    ATOMIC = "atomic"
    SET = "set"
    MAP = "map"


@dataclass(slots=True)
class SchemaNode:
    """One value of a structural schema.

    Attributes:
        raw: the OpenAPI v3 JSON that this node was built from.
        type: JSON type; empty where the schema names none.
        nullable: ``null`` is a value here. Elsewhere ``null`` means absent.
        properties: the declared fields.
        additional: the schema of undeclared keys, or None where they are pruned.
        items: the schema of a list's items.
        preserve: undeclared fields stay (x-kubernetes-preserve-unknown-fields).
        embedded: an object with apiVersion, kind and metadata (x-kubernetes-embedded-resource).
        has_default: ``default`` is to be filled in.
        default: the JSON value of it.
        list_type: see :class:`ListType`.
        list_keys: the fields that identify an item of a list of type map.
        atomic_map: x-kubernetes-map-type is atomic.
        format: string format that changes how CEL sees the value.
        lists_below: some list here or below must hold unique items.
        embedded_below: some node here or below is an embedded resource.
        defaulted: names of the properties that have a default.
    """

    raw: JSON
    type: str = ""
    nullable: bool = False
    properties: dict[str, SchemaNode] = field(default_factory=dict)
    additional: SchemaNode | None = None
    items: SchemaNode | None = None
    preserve: bool = False
    embedded: bool = False
    has_default: bool = False
    default: Any = None
    list_type: ListType = ListType.ATOMIC
    list_keys: tuple[str, ...] = ()
    atomic_map: bool = False
    format: str = ""
    lists_below: bool = False
    embedded_below: bool = False
    defaulted: tuple[str, ...] = ()

    def child(self, key: str) -> SchemaNode | None:
        """Return the schema of a field, declared or additional, or None."""
        found = self.properties.get(key)
        return self.additional if found is None else found

    def children(self) -> list[SchemaNode]:
        """Return every node one step below."""
        below = list(self.properties.values())
        if self.additional is not None:
            below.append(self.additional)
        if self.items is not None:
            below.append(self.items)
        return below


def build(raw: JSON) -> SchemaNode:
    """Build the tree for one schema.

    Args:
        raw: OpenAPI v3 JSON; must be structural (see crds.check_crd), else parts of it
            that are only valid in ``allOf`` and the like are not seen here.
    """
    additional = raw.get("additionalProperties")
    items = raw.get("items")
    node = SchemaNode(
        raw=raw,
        type=raw.get("type", ""),
        nullable=bool(raw.get("nullable")),
        properties={name: build(one) for name, one in (raw.get("properties") or {}).items()},
        additional=_build_additional(additional),
        items=build(items) if isinstance(items, dict) else None,
        preserve=bool(raw.get("x-kubernetes-preserve-unknown-fields")),
        embedded=bool(raw.get("x-kubernetes-embedded-resource")),
        # A null default is the same as none: k8s.io/apiextensions-apiserver keeps no null there.
        has_default=raw.get("default") is not None,
        default=raw.get("default"),
        list_type=ListType(raw.get("x-kubernetes-list-type") or ListType.ATOMIC),
        list_keys=tuple(raw.get("x-kubernetes-list-map-keys") or ()),
        atomic_map=raw.get("x-kubernetes-map-type") == "atomic",
        format=raw.get("format") or "",
    )
    below = node.children()
    unique = node.list_type in (ListType.SET, ListType.MAP)
    node.lists_below = unique or any(one.lists_below for one in below)
    node.embedded_below = node.embedded or any(one.embedded_below for one in below)
    node.defaulted = tuple(name for name, one in node.properties.items() if one.has_default)
    return node


def _build_additional(raw: Any) -> SchemaNode | None:
    if isinstance(raw, dict):
        return build(raw)
    return SchemaNode(raw={}) if raw is True else None
