"""Field sets for server-side apply: which fields a value has, how two values differ.

A path is a tuple of elements in the notation of ``managedFields[].fieldsV1``: ``f:name`` for a
field, ``k:{"name":"a"}`` for an item of a list of type map, ``v:"x"`` for one of a list of type
set. A field set is a set of such tuples. The rules are those of
sigs.k8s.io/structured-merge-diff ``typed`` (tofieldset.go, compare.go, merge.go, remove.go);
values without a schema merge as maps, their lists are atomic.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from taskctl.embedded.server.schema.nodes import ListType, SchemaNode
from taskctl.embedded.server.schema.walks import list_key

JSON = dict[str, Any]
Path = tuple[str, ...]
FieldSet = set[Path]


class FieldsError(ValueError):
    """A value does not fit its schema: an item without its key, or a key twice."""


# --- the notation ---------------------------------------------------------------------


def _dump(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def to_fields_v1(fields: FieldSet) -> JSON:
    """Write a field set as ``fieldsV1``."""
    out: JSON = {}
    for path in sorted(fields):
        spot = out
        for element in path:
            spot = spot.setdefault(element, {})
        spot["."] = {}
    _drop_lonely_dots(out)
    out.pop(".", None)
    return out


def _drop_lonely_dots(tree: JSON) -> None:
    """A member without children is written as ``{}``, not as ``{".": {}}``."""
    for element, below in tree.items():
        if element == ".":
            continue
        if set(below) == {"."}:
            below.clear()
        else:
            _drop_lonely_dots(below)


def from_fields_v1(tree: JSON) -> FieldSet:
    """Read ``fieldsV1``.

    Raises:
        FieldsError: it is malformed.
    """
    found: FieldSet = set()
    _read(tree, (), found)
    return found


def _read(tree: Any, path: Path, found: FieldSet) -> None:
    if not isinstance(tree, dict):
        raise FieldsError(f"fieldsV1 must hold objects only, not {tree!r}")
    if path and (not tree or "." in tree):
        found.add(path)
    for element, below in tree.items():
        if element == ".":
            continue
        kind, _, rest = element.partition(":")
        if kind in ("k", "v"):  # other writers may space or order the JSON differently
            try:
                element = f"{kind}:{_dump(json.loads(rest))}"
            except ValueError as error:
                raise FieldsError(f"{element!r} is not a valid path element") from error
        elif kind not in ("f", "i"):
            raise FieldsError(f"{element!r} is not a valid path element")
        _read(below, (*path, element), found)


def format_path(path: Path) -> str:
    """Write a path as conflicts name it: ``.spec.containers[name="a"].image``."""
    text = ""
    for element in path:
        kind, _, rest = element.partition(":")
        if kind == "k":
            pairs = (f"{key}={_dump(value)}" for key, value in json.loads(rest).items())
            text += f"[{','.join(pairs)}]"
        elif kind == "v":
            text += f"[={rest}]"
        elif kind == "i":
            text += f"[{rest}]"
        else:
            text += f".{rest}"
    return text


def item_element(item: Any, node: SchemaNode) -> str:
    """Return the path element of an item in a list of type set or map.

    Raises:
        FieldsError: the item omits all keys, and none has a default.
    """
    if node.list_type is ListType.SET:
        return f"v:{_dump(item)}"
    if not isinstance(item, dict):
        raise FieldsError("associative list with keys may not have non-map elements")
    key = list_key(item, node)
    if not key:
        names = " ".join(_dump(name) for name in node.list_keys)
        raise FieldsError(
            f"associative list with keys has an element that omits all key fields [{names}] "
            "(and doesn't have default values for any key fields)"
        )
    return f"k:{_dump(key)}"


def report_order(path: Path) -> tuple[tuple[int, str], ...]:
    """Return the key by which paths are reported: a level's own fields, then those below."""
    last = len(path) - 1
    return tuple((int(at < last), element) for at, element in enumerate(path))


def is_atomic(value: Any, node: SchemaNode | None) -> bool:
    """Tell whether a value is owned as a whole."""
    if isinstance(value, list):
        return node is None or node.list_type is ListType.ATOMIC
    if isinstance(value, dict):
        return node is not None and node.atomic_map
    return True


def _child(node: SchemaNode | None, key: str) -> SchemaNode | None:
    return node.child(key) if node is not None else None


def index_items(items: list[Any], node: SchemaNode, *, unique: bool) -> dict[str, Any]:
    """Return the items of a list of type set or map by their path elements.

    Raises:
        FieldsError: an item omits its keys; or, if they are to be unique, two have the same.
    """
    found: dict[str, Any] = {}
    for index, item in enumerate(items):
        try:
            element = item_element(item, node)
        except FieldsError as error:
            raise FieldsError(f"element {index}: {error}") from error
        if element in found:
            if unique:
                raise FieldsError(f"duplicate entries for key {format_path((element,))}")
            continue
        found[element] = item
    return found


# --- what a value has -----------------------------------------------------------------


def field_set(value: Any, node: SchemaNode | None) -> FieldSet:
    """Return the fields that an object has.

    Raises:
        FieldsError: see there.
    """
    found: FieldSet = set()
    _collect(value, node, (), found)
    return found


def _collect(value: Any, node: SchemaNode | None, path: Path, found: FieldSet) -> None:
    if is_atomic(value, node):
        found.add(path)
    elif isinstance(value, dict):
        for key, one in value.items():
            below = (*path, f"f:{key}")
            _collect(one, _child(node, key), below, found)
            declared = node is not None and key in node.properties
            if not declared or one is None or one == {}:
                found.add(below)
    elif node is not None:
        for element, item in index_items(value, node, unique=False).items():
            _collect(item, node.items, (*path, element), found)
            found.add((*path, element))


def with_named_fields(fields: FieldSet, root: SchemaNode) -> FieldSet:
    """Add the declared fields that hold members, so that emptied structs go with them."""
    out = set(fields)
    for path in fields:
        node: SchemaNode | None = root
        for end, element in enumerate(path[:-1], start=1):
            name = element[2:]
            if element.startswith("f:"):
                if node is not None and name in node.properties:
                    out.add(path[:end])
                node = _child(node, name)
            else:
                node = node.items if node is not None else None
    return out


# --- how two values differ ------------------------------------------------------------


@dataclass(slots=True)
class Difference:
    """The fields that a change removed, modified and added."""

    removed: FieldSet = field(default_factory=set)
    modified: FieldSet = field(default_factory=set)
    added: FieldSet = field(default_factory=set)

    @property
    def written(self) -> FieldSet:
        """Fields with a new value."""
        return self.modified | self.added


def compare(old: Any, new: Any, node: SchemaNode | None) -> Difference:
    """Return how an object changed."""
    out = Difference()
    _compare(old, new, node, (), out)
    return out


def _compare(old: Any, new: Any, node: SchemaNode | None, path: Path, out: Difference) -> None:
    if old is new or (old == new and type(old) is type(new)):
        return
    if isinstance(old, dict) and isinstance(new, dict) and not is_atomic(new, node):
        for key in old.keys() | new.keys():
            below = (*path, f"f:{key}")
            child = _child(node, key)
            if key not in old:
                _gather(new[key], child, below, out.added)
            elif key not in new:
                _gather(old[key], child, below, out.removed)
            else:
                _compare(old[key], new[key], child, below, out)
    elif isinstance(old, list) and isinstance(new, list) and not is_atomic(new, node):
        _compare_lists(old, new, node, path, out)
    else:
        out.modified.add(path)


def _compare_lists(
    old: list[Any], new: list[Any], node: SchemaNode | None, path: Path, out: Difference
) -> None:
    if node is None:
        return
    before = index_items(old, node, unique=False)
    after = index_items(new, node, unique=False)
    for element in before.keys() | after.keys():
        below = (*path, element)
        if element not in before:
            _gather(after[element], node.items, below, out.added)
        elif element not in after:
            _gather(before[element], node.items, below, out.removed)
        else:
            _compare(before[element], after[element], node.items, below, out)


def _gather(value: Any, node: SchemaNode | None, path: Path, found: FieldSet) -> None:
    """Add a value that only one side has: every container counts as well."""
    found.add(path)
    if is_atomic(value, node):
        return
    if isinstance(value, dict):
        for key, one in value.items():
            _gather(one, _child(node, key), (*path, f"f:{key}"), found)
    elif node is not None:
        for element, item in index_items(value, node, unique=False).items():
            _gather(item, node.items, (*path, element), found)


# --- putting together and taking away ---------------------------------------------------


def merge(live: Any, applied: Any, node: SchemaNode | None) -> Any:
    """Return the live value with what is applied on top.

    Raises:
        FieldsError: see there.
    """
    if isinstance(live, dict) and isinstance(applied, dict) and not is_atomic(applied, node):
        out = dict(live)
        for key, one in applied.items():
            out[key] = merge(live[key], one, _child(node, key)) if key in live else one
        return out
    if isinstance(live, list) and isinstance(applied, list) and not is_atomic(applied, node):
        return _merge_lists(live, applied, node)
    return applied


def _merge_lists(live: list[Any], applied: list[Any], node: SchemaNode | None) -> list[Any]:
    """Merge two lists of type set or map.

    Shared items come in the applied order; what only the live list has stays where it is
    among them.
    """
    if node is None:
        return applied
    left = index_items(live, node, unique=False)
    right = index_items(applied, node, unique=True)
    shared = [element for element in right if element in left]
    order: list[str] = []
    mine, theirs = list(right), list(left)
    at_mine = at_theirs = 0
    taken: set[str] = set()
    while at_mine < len(mine) or at_theirs < len(theirs):
        if at_theirs < len(theirs):
            element = theirs[at_theirs]
            if element not in right:
                order.append(element)
                at_theirs += 1
                continue
            expected = next((one for one in shared if one not in taken), None)
            if element in taken or (at_mine < len(mine) and element != expected):
                at_theirs += 1
                continue
        if at_mine < len(mine):
            element = mine[at_mine]
            order.append(element)
            taken.add(element)
            at_mine += 1
    return [_merge_item(element, left, right, node) for element in order]


def _merge_item(element: str, left: JSON, right: JSON, node: SchemaNode) -> Any:
    if element in left and element in right:
        return merge(left[element], right[element], node.items)
    return right[element] if element in right else left[element]


def remove(value: Any, fields: FieldSet, node: SchemaNode | None) -> Any:
    """Return a copy of an object without the given fields.

    A container that loses all that it had stays, empty, unless it is given itself.
    """
    if not fields or is_atomic(value, node):
        return value
    below: dict[str, FieldSet] = {}
    gone: set[str] = set()
    for path in fields:
        if len(path) == 1:
            gone.add(path[0])
        elif path:
            below.setdefault(path[0], set()).add(path[1:])
    if isinstance(value, dict):
        return _remove_keys(value, gone, below, node)
    kept: list[Any] = []
    for item in value:
        element = item_element(item, node) if node is not None else ""
        if element in gone:
            continue
        items = node.items if node is not None else None
        kept.append(remove(item, below.get(element, set()), items))
    return kept


def _remove_keys(
    value: JSON, gone: set[str], below: dict[str, FieldSet], node: SchemaNode | None
) -> JSON:
    return {
        key: remove(one, below.get(f"f:{key}", set()), _child(node, key))
        for key, one in value.items()
        if f"f:{key}" not in gone
    }
