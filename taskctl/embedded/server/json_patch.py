"""JSON Patch as Kubernetes applies it.

The library follows RFC 6902. github.com/evanphx/json-patch, which Kubernetes uses, is more
lenient; each operation is put into the RFC's words first.
"""

from __future__ import annotations

from typing import Any, Final

import jsonpatch
import jsonpointer

JSON = dict[str, Any]

_FAULTS: Final = (
    jsonpatch.JsonPatchException,
    jsonpointer.JsonPointerException,
    LookupError,
    TypeError,
)


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
    for op in ops:
        try:
            plain = _in_rfc_terms(op, document)
            if plain is not None:
                document = jsonpatch.JsonPatch([plain]).apply(document, in_place=True)
        except _FAULTS as error:
            raise OperationError(str(error)) from error
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
