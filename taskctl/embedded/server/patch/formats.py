"""The three classic patch formats: JSON Patch, JSON Merge Patch, strategic merge patch.

None of them changes its arguments. Strategic merge follows k8s.io/apimachinery
``pkg/util/strategicpatch/patch.go``, including the order in which it leaves lists: what the
patch adds goes to the front, before what only the server has.
"""

from __future__ import annotations

from typing import Any, Final

from taskctl.embedded.server.kinds.builtin_schema import schema_for
from taskctl.embedded.server.patch import json_patch as json_patch_operations
from taskctl.embedded.server.refusals.gotext import go_value
from taskctl.embedded.server.schema.nodes import SchemaNode
from taskctl.embedded.server.schema.walks import canonical, copy_json
from taskctl.embedded.server.values.nesting import too_deep

JSON = dict[str, Any]

MAX_JSON_PATCH_OPERATIONS: Final = 10_000

_REJECTED: Final = "the server rejected our request due to an error in our request"
_DIRECTIVE: Final = "$patch"
_DELETE_PREFIX: Final = "$deleteFromPrimitiveList/"
_ORDER_PREFIX: Final = "$setElementOrder/"
_RETAIN: Final = "$retainKeys"
_STRATEGY: Final = "x-kubernetes-patch-strategy"
_MERGE_KEY: Final = "x-kubernetes-patch-merge-key"


class PatchError(ValueError):
    """The patch is malformed or does not fit the object.

    Attributes:
        status: HTTP status to answer with: 400 malformed, 413 too many operations,
            422 well-formed but not applicable, 500 where Kubernetes passes on what its
            libraries say.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def json_patch(obj: JSON, ops: Any) -> JSON:
    """Apply an RFC 6902 patch.

    Args:
        obj: the object.
        ops: the decoded patch, a list of operations.

    Raises:
        PatchError: see there.
    """
    if not isinstance(ops, list) or not all(isinstance(op, dict) for op in ops):
        raise PatchError("error decoding patch: a list of operations is wanted", 400)
    for op in ops:
        for name in ("op", "path", "from"):
            if not isinstance(op.get(name, ""), str):
                raise PatchError(f"error decoding patch: {name} must be a string", 400)
    if len(ops) > MAX_JSON_PATCH_OPERATIONS:
        raise PatchError(
            f"The allowed maximum operations in a JSON patch is {MAX_JSON_PATCH_OPERATIONS}, "
            f"got {len(ops)}",
            413,
        )
    try:
        result = json_patch_operations.apply(copy_json(obj), ops)
    except json_patch_operations.OperationError as error:
        # Kubernetes does not say which operation it was, and why.
        raise PatchError(_REJECTED, 422) from error
    if not isinstance(result, dict) or too_deep(result):
        raise PatchError(_REJECTED, 422)
    return result


def merge_patch(obj: JSON, patch: Any) -> JSON:
    """Apply an RFC 7386 patch.

    Raises:
        PatchError: the patch is not an object.
    """
    if not isinstance(patch, dict):
        raise PatchError("a merge patch must be an object", 400)
    merged: JSON = _merge(obj, patch)
    return merged


def _merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return copy_json(patch)
    out = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, dict):
            out[key] = _merge(out.get(key), value)
        else:
            out[key] = copy_json(value)
    return out


def strategic_merge(obj: JSON, patch: Any, *, in_place: bool = False) -> JSON:
    """Apply a strategic merge patch to an object of a built-in kind.

    Args:
        obj: the object; its apiVersion and kind say how its lists merge.
        patch: the decoded patch, with or without directives.
        in_place: the caller owns both and needs neither again: saves copying a large pod.

    Raises:
        PatchError: the kind is not built in (415), or see there.
    """
    if not isinstance(patch, dict):
        raise PatchError("a strategic merge patch must be an object", 400)
    group, _, version = str(obj.get("apiVersion", "")).rpartition("/")
    schema = schema_for(group, version, str(obj.get("kind", "")))
    if schema is None:
        raise PatchError(
            "strategic merge patch is not supported for custom resources; use "
            "application/merge-patch+json",
            415,
        )
    if not in_place:
        obj, patch = copy_json(obj), copy_json(patch)
    merged = _merge_map(obj, patch, schema.root)
    return merged if merged is not None else {}


def _merge_map(original: JSON | None, patch: JSON, node: SchemaNode | None) -> JSON:
    if _DIRECTIVE in patch:
        directive = patch.pop(_DIRECTIVE)
        if directive == "replace":
            return patch
        if directive == "delete":
            return {}
        if directive != "merge":
            text = go_value({**patch, _DIRECTIVE: directive})
            raise PatchError(f"unknown patch type: {directive} in map: {text}", 500)
    original = {} if original is None else original
    _retain_keys(original, patch)
    _merge_ordered_lists(original, patch, node)
    for key, value in patch.items():
        if key.startswith(_DELETE_PREFIX):
            name = key.removeprefix(_DELETE_PREFIX)
            if isinstance(original.get(name), list) and isinstance(value, list):
                gone = {canonical(one) for one in value}
                original[name] = [one for one in original[name] if canonical(one) not in gone]
            continue
        _merge_field(original, key, value, node)
    return original


def _merge_field(original: JSON, key: str, value: Any, node: SchemaNode | None) -> None:
    if value is None:
        original.pop(key, None)
        return
    current = original.get(key)
    below = node.child(key) if node is not None else None
    if isinstance(current, dict) and isinstance(value, dict):
        if _strategies(below) == {"replace"}:
            original[key] = value
        else:
            original[key] = _merge_map(current, value, below)
    elif isinstance(current, list) and isinstance(value, list):
        original[key] = _merge_list(current, value, below)
    else:
        cleaned, keep = _without_directives(value)
        if keep:
            original[key] = cleaned
        else:
            original.pop(key, None)


def _strategies(node: SchemaNode | None) -> set[str]:
    text = node.raw.get(_STRATEGY, "") if node is not None else ""
    return {one for one in text.split(",") if one}


def _merge_key(node: SchemaNode | None) -> str:
    return str(node.raw.get(_MERGE_KEY, "")) if node is not None else ""


def _retain_keys(original: JSON, patch: JSON) -> None:
    """``$retainKeys``: drop what the patch does not list, as for a changed union."""
    if _RETAIN not in patch:
        return
    wanted = patch.pop(_RETAIN)
    if not isinstance(wanted, list):
        raise PatchError("invalid patch format of retainKeys", 400)
    for key, value in patch.items():
        directive = key.startswith((_DELETE_PREFIX, _ORDER_PREFIX))
        if value is not None and not directive and key not in wanted:
            raise PatchError("invalid patch format of retainKeys", 400)
    for key in [key for key in original if key not in wanted]:
        del original[key]


def _merge_ordered_lists(original: JSON, patch: JSON, node: SchemaNode | None) -> None:
    """Handle ``$setElementOrder/<list>`` together with the list's own patch."""
    for directive in [key for key in patch if key.startswith(_ORDER_PREFIX)]:
        order = patch.pop(directive)
        name = directive.removeprefix(_ORDER_PREFIX)
        if not isinstance(order, list):
            raise PatchError(f"{directive} must be a list", 400)
        below = node.child(name) if node is not None else None
        merge_key = _merge_key(below)
        before, changes = original.get(name), patch.pop(name, None)
        _check_order(changes, order, merge_key)
        if before is None and changes is None:
            continue
        if before is None:
            merged = _without_directives(changes)[0]
        elif changes is None:
            merged = before
        else:
            merged = _merge_list(before, changes, below)
        original[name] = _reorder(merged, order, before or [], merge_key)


def _check_order(changes: Any, order: list[Any], merge_key: str) -> None:
    """Whatever the patch sets must occur in the order that it gives, in that sequence."""
    if not isinstance(changes, list):
        return
    places = {_identity(one, merge_key): place for place, one in enumerate(order)}
    last = -1
    for one in changes:
        if isinstance(one, dict) and _DIRECTIVE in one:
            continue
        place = places.get(_identity(one, merge_key))
        if place is None or place < last:
            raise PatchError(
                "The order in patch list and $setElementOrder list doesn't match: "
                f"{one} is missing from or misplaced in the latter",
                400,
            )
        last = place


def _merge_list(original: list[Any], patch: list[Any], node: SchemaNode | None) -> list[Any]:
    if "merge" not in _strategies(node):
        cleaned: list[Any] = _without_directives(patch)[0]
        return cleaned
    if not original and not patch:
        return original
    merge_key = _merge_key(node)
    items = node.items if node is not None else None
    if not merge_key:
        merged = list({canonical(one): one for one in [*original, *patch]}.values())
        return _reorder(merged, patch, original, "")
    for one in [*original, *patch]:
        if not isinstance(one, dict):
            raise PatchError(f"expected a list of objects with the key {merge_key}", 422)
    before, changes = _special_items(original, patch, merge_key)
    merged = list(before)
    places = {_identity(one, merge_key): place for place, one in enumerate(merged)}
    for one in changes:
        identity = _identity(one, merge_key)
        if identity in places:
            merged[places[identity]] = _merge_map(merged[places[identity]], one, items)
        else:
            places[identity] = len(merged)
            merged.append(_without_directives(one)[0])
    return _reorder(merged, changes, before, merge_key)


def _special_items(
    original: list[JSON], patch: list[JSON], merge_key: str
) -> tuple[list[JSON], list[JSON]]:
    """Carry out ``$patch: delete`` and ``$patch: replace`` among the items."""
    changes: list[JSON] = []
    before, replace = original, False
    gone: set[Any] = set()
    for one in patch:
        directive = one.get(_DIRECTIVE)
        if directive is None:
            changes.append(one)
        elif directive == "delete":
            gone.add(_identity(one, merge_key))
        elif directive == "replace":
            replace = True
        elif directive == "merge":
            raise PatchError("merging lists cannot yet be specified in the patch", 400)
        else:
            text = go_value(one)
            raise PatchError(f"unknown patch type: {directive} in map: {text}", 500)
    if gone:
        before = [item for item in before if _identity(item, merge_key) not in gone]
    return (changes, []) if replace else (before, changes)


def _identity(item: Any, merge_key: str) -> Any:
    if not merge_key:
        return canonical(item)
    if not isinstance(item, dict) or merge_key not in item:
        text = go_value(item)
        raise PatchError(f"map: {text} does not contain declared merge key: {merge_key}", 500)
    return canonical(item[merge_key])


def _reorder(merged: list[Any], order: list[Any], before: list[Any], merge_key: str) -> list[Any]:
    """Put items in the patch's order; weave in what only the server has.

    Two items whose order both sides know keep the server's; else the patch's comes first
    (``mergeSortedSlice``).
    """
    wanted = {_identity(one, merge_key): place for place, one in enumerate(order)}
    server = {_identity(one, merge_key): place for place, one in enumerate(before)}
    mine = [one for one in merged if _identity(one, merge_key) in wanted]
    mine.sort(key=lambda one: wanted[_identity(one, merge_key)])
    theirs = [one for one in merged if _identity(one, merge_key) not in wanted]
    theirs.sort(key=lambda one: server.get(_identity(one, merge_key), len(server)))
    out: list[Any] = []
    left = right = 0
    while left < len(theirs) and right < len(mine):
        a = server.get(_identity(theirs[left], merge_key))
        b = server.get(_identity(mine[right], merge_key))
        if a is not None and b is not None and a < b:
            out.append(theirs[left])
            left += 1
        else:
            out.append(mine[right])
            right += 1
    return [*out, *theirs[left:], *mine[right:]]


def _without_directives(value: Any) -> tuple[Any, bool]:
    """Strip directives and nulls from a part that meets nothing to merge with.

    Returns:
        The value, and whether it is to be kept at all.
    """
    if isinstance(value, list):
        kept = [_without_directives(one) for one in value]
        return [one for one, keep in kept if keep], True
    if not isinstance(value, dict):
        return value, True
    if value.get(_DIRECTIVE) == "delete":
        return None, False
    out: JSON = {}
    for key, one in value.items():
        if one is None or key.startswith((_DELETE_PREFIX, _ORDER_PREFIX)):
            continue
        if key in (_DIRECTIVE, _RETAIN):
            continue
        cleaned, keep = _without_directives(one)
        if keep:
            out[key] = cleaned
    return out, True
