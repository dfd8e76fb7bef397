"""JSON Patch as Kubernetes applies it.

The library follows RFC 6902. github.com/evanphx/json-patch, which Kubernetes uses, is more
lenient; each operation is put into the RFC's words first.
"""

from __future__ import annotations

from typing import Any, Final

import jsonpatch
import jsonpointer
import orjson

from taskctl.embedded.server.schema.walks import copy_json

JSON = dict[str, Any]

_FAULTS: Final = (
    jsonpatch.JsonPatchException,
    jsonpointer.JsonPointerException,
    LookupError,
    TypeError,
    RecursionError,
    orjson.JSONEncodeError,  # the value is nested too deeply
)
# k8s.io/apiserver pkg/server/config.go, JSONPatchMaxCopyBytes: what all copies of a patch may add.
COPY_LIMIT_BYTES: Final = 3 * 1024 * 1024


class OperationError(ValueError):
    """An operation is malformed, does not fit the document, or its test has failed."""


def apply(obj: JSON, ops: list[JSON]) -> Any:
    """Apply a patch.

    Args:
        obj: the document; is changed.
        ops: the operations.

    Returns:
        The new document, which may be of any type.

    Raises:
        OperationError: see there.
    """
    document: Any = obj
    copied_bytes = 0
    for op in ops:
        try:
            plain = _in_rfc_terms(op, document)
            if plain is None:
                continue  # a test that has passed
            match plain.get("op"):
                case "copy":
                    value, size_bytes = _copied(document, plain["from"])
                    copied_bytes += size_bytes
                    _check_copied(copied_bytes)
                    document = _add(document, plain["path"], value)
                case "add":
                    document = _add(document, plain["path"], copy_json(plain["value"]))
                case _:
                    document = jsonpatch.JsonPatch([plain]).apply(document, in_place=True)
        except _FAULTS as error:
            raise OperationError(str(error)) from error
    return document


def _copied(document: Any, path: str) -> tuple[Any, int]:
    """Return a copy of what a path leads to, and its size."""
    text = orjson.dumps(jsonpointer.resolve_pointer(document, path))
    return orjson.loads(text), len(text)


def _check_copied(size_bytes: int) -> None:
    if size_bytes > COPY_LIMIT_BYTES:
        raise OperationError(
            "Unable to complete the copy, the accumulated size increase of copy is "
            f"{size_bytes}, exceeding the limit {COPY_LIMIT_BYTES}"
        )


def _add(document: Any, path: str, value: Any) -> Any:
    """Add a value, as the library would after a slow copy of it.

    Raises:
        LookupError: the path leads nowhere.
        TypeError: it leads to what has no parts.
    """
    pointer = jsonpointer.JsonPointer(path)
    if not pointer.parts:
        return value
    holder: Any
    key: Any
    holder, key = pointer.to_last(document)
    if isinstance(holder, list):
        if key == "-":
            holder.append(value)
        elif 0 <= key <= len(holder):
            holder.insert(key, value)
        else:
            raise LookupError("can't insert outside of list")
    elif isinstance(holder, dict):
        holder[key] = value
    else:
        raise TypeError(f"unable to fully resolve json pointer {path}")
    return document


def _in_rfc_terms(op: JSON, document: Any) -> JSON | None:
    """Return the operation without leniencies; None if it is a test that has passed."""
    out = dict(op)
    kind = op.get("op")
    for name in ("path", "from"):
        if isinstance(op.get(name), str):
            out[name] = _plain_pointer(op[name], document, adding=kind == "add")
    if kind in ("add", "replace", "test"):
        out.setdefault("value", None)
    if kind == "replace" and _is_missing(out["path"], document):
        out["op"] = "add"
    elif kind == "test" and out["value"] is None and _is_missing(out["path"], document):
        return None
    elif kind == "copy" and _is_missing(out.get("from", ""), document):
        return {"op": "add", "path": out["path"], "value": None}
    return out


def _plain_pointer(text: str, document: Any, *, adding: bool) -> str:
    """Write indexes as the RFC has them: they may be signed, and -1 is the last item."""
    pointer = jsonpointer.JsonPointer(text)
    spot, parts = document, []
    for place, part in enumerate(pointer.parts):
        if isinstance(spot, list) and part != "-":
            index = int(part) if part.removeprefix("-").removeprefix("+").isdigit() else None
            if index is not None and index < 0:
                # Where an item is added, the list counts as one longer.
                index += len(spot) + (adding and place == len(pointer.parts) - 1)
            part = part if index is None else str(index)
            spot = spot[index] if index is not None and 0 <= index < len(spot) else None
        else:
            spot = spot.get(part) if isinstance(spot, dict) else None
        parts.append(part)
    path: str = jsonpointer.JsonPointer.from_parts(parts).path
    return path


def _is_missing(path: str, document: Any) -> bool:
    """Tell whether the path's last step, and only that, is a field that is not there."""
    pointer = jsonpointer.JsonPointer(path)
    if not pointer.parts:
        return False
    holder, key = pointer.to_last(document)
    return isinstance(holder, dict) and key not in holder
