"""YAML as Kubernetes reads it, within bounds of time and memory.

gopkg.in/yaml.v2, which Kubernetes uses, bounds nesting and how much aliases may add; so does
this module, with limits that fit a server written in Python.
"""

from __future__ import annotations

import math
import re
from typing import Any, ClassVar, Final

import orjson
import yaml

from taskctl.embedded.server.values.nesting import MAX_DEPTH

# A body of 3 MB with more of them holds nothing that anybody wrote.
MAX_NODES: Final = 250_000
# What aliases and merge keys may make of a text.
MAX_EXPANDED_NODES: Final = 400_000
MAX_EXPANDED_BYTES: Final = 6 * 1024 * 1024
_MAX_MERGED: Final = 100_000
_MAX_NUMBER: Final = 400


class YamlError(ValueError):
    """The text is not YAML, not JSON in YAML's clothes, or past a limit."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Dates stay text, a plain ``y`` or ``n`` is a boolean."""

    bool_values: ClassVar = {**yaml.SafeLoader.bool_values, "y": True, "n": False}
    merged = 0

    def flatten_mapping(self, node: Any) -> None:
        """Carry out ``<<``, which copies; copies of copies would grow without bound."""
        super().flatten_mapping(node)
        self.merged += len(node.value)
        if self.merged > _MAX_MERGED:
            raise YamlError("document contains excessive aliasing")

    def construct_number(self, node: Any) -> Any:
        """Read a number, unless it has so many digits that reading it takes long."""
        if len(node.value) > _MAX_NUMBER:
            raise YamlError("a number has too many digits")
        if node.tag.endswith(":int"):
            return self.construct_yaml_int(node)
        return self.construct_yaml_float(node)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^[yYnN]$"), list("yYnN"))
for _name in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_name}", _Loader.construct_number)


def parse(body: bytes) -> Any:
    """Parse YAML to what JSON can hold.

    Raises:
        YamlError: see there.
    """
    try:
        _check_events(body)
        obj = yaml.load(body, _Loader)
        _Expansion().add(obj, 0)
        # Keys that are not strings are YAML but not JSON.
        return orjson.loads(orjson.dumps(obj))
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        raise YamlError(str(error)) from error


def _check_events(body: bytes) -> None:
    """Check depth and number of nodes before any of them is made."""
    loader = _Loader(body)
    depth = nodes = 0
    try:
        while loader.check_event():
            event = loader.get_event()
            if isinstance(event, yaml.NodeEvent):
                nodes += 1
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > MAX_DEPTH:
                raise YamlError(f"exceeded max depth of {MAX_DEPTH}")
            if nodes > MAX_NODES:
                raise YamlError(f"the document has more than {MAX_NODES} values")
    finally:
        loader.dispose()


class _Expansion:
    """Measures what a document is with its aliases written out, without doing so."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, int]] = {}
        self._within: set[int] = set()

    def add(self, value: Any, depth: int) -> tuple[int, int]:
        """Return the number of nodes and of bytes of a value."""
        if depth > MAX_DEPTH:
            raise YamlError(f"exceeded max depth of {MAX_DEPTH}")
        if isinstance(value, float) and not math.isfinite(value):
            raise YamlError(f"{value} is not a JSON number")
        if isinstance(value, str | bytes):
            return 1, len(value)
        if not isinstance(value, dict | list):
            return 1, 8
        identity = id(value)
        if identity in self._within:
            raise YamlError("an anchor's value contains itself")
        found = self._known.get(identity)
        if found is None:
            self._within.add(identity)
            nodes = size = 1
            below = value if isinstance(value, list) else (*value.keys(), *value.values())
            for one in below:
                more = self.add(one, depth + 1)
                nodes += more[0]
                size += more[1]
            self._within.discard(identity)
            found = self._known[identity] = (nodes, size)
            if nodes > MAX_EXPANDED_NODES or size > MAX_EXPANDED_BYTES:
                raise YamlError("document contains excessive aliasing")
        return found
