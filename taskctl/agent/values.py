"""Values that tasks send: the input of a child or an output, in one of four forms; no I/O.

::

    value   any msgpack value that is JSON too     -> TaskObject.value
    json    the same as JSON text                  -> TaskObject.value
    data    a map of text to text                  -> TaskObject.data
    ref     a file the SDK wrote to the workspace  -> TaskObject.ref

What is over the inline limit becomes a ``ref`` in any case. A small ``value`` may go into the Task
itself, if its sender says so.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Final

from taskctl.agent import fields, jsoncheck
from taskctl.agent.fields import bad
from taskctl.agent.refusals import ErrorCode, Refusal
from taskctl.agent.workspace import object_path
from taskctl.api.states import Codec
from taskctl.constants import INLINE_LIMIT_BYTES, SMALL_VALUE_BYTES
from taskctl.wire import Message

FORMS: Final = ("value", "json", "data", "ref")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Content:
    """A checked value.

    Attributes:
        field: ``value``, ``data`` or ``ref``: where it goes in a TaskObject.
        body: what goes there.
        encoded: ``value`` and ``data`` as compact JSON; empty for a ``ref``. Of a large text it
            is all there is: the body is None.
    """

    field: str
    body: Any
    encoded: bytes = b""

    @property
    def is_large(self) -> bool:
        """Whether it must be spilled to the workspace."""
        return len(self.encoded) > INLINE_LIMIT_BYTES

    @property
    def stored_bytes(self) -> int:
        """How many bytes of it lie in the workspace, or have to; 0: it goes into an object."""
        if self.field == "ref":
            return int(self.body["size"])
        return len(self.encoded) if self.is_large else 0

    @property
    def is_small(self) -> bool:
        """Whether it can go into a Task. There, null would be as good as nothing."""
        return (
            self.field == "value"
            and self.body is not None
            and 0 < len(self.encoded) <= SMALL_VALUE_BYTES
        )

    def digest(self) -> str:
        """Return a hash that equal values share, to tell a repetition from a contradiction."""
        if self.field == "ref":
            return str(self.body["sha256"])
        return hashlib.sha256(canonical(self.body)).hexdigest()


def parse_content(message: Message, *, where: str = "") -> Content | None:
    """Return the value in a message; None when it has none of the four forms.

    Raises:
        Refusal: ``bad_request``: more than one form, or the form is broken.
    """
    given = [form for form in FORMS if form in message]
    if len(given) > 1:
        raise bad(where + given[1], f"give only one of {', '.join(FORMS)}; {given[0]} is there too")
    if not given:
        return None
    form, value = given[0], message[given[0]]
    if isinstance(value, Content):  # a large text that was checked already
        return value
    if form == "value":
        return Content("value", value, encode_json(value, where + "value"))
    if form == "json":
        parsed = _parse_json(value, where + "json")
        return Content("value", parsed, encode_json(parsed, where + "json"))
    if form == "data":
        return _data(value, where + "data")
    return Content("ref", parse_ref(value, where + "ref"))


def encode_json(value: Any, field: str) -> bytes:
    """Return compact JSON.

    Raises:
        Refusal: ``bad_request``: the value has no JSON form (raw bytes, NaN, a time), or is
            nested too deeply.
    """
    try:
        jsoncheck.check(value)
    except ValueError as error:
        raise bad(field, str(error)) from error
    try:
        return jsoncheck.compact(value)
    except (TypeError, ValueError) as error:
        raise bad(field, f"has no JSON form ({error}); send bytes as text or in a file") from error


def canonical(value: Any) -> bytes:
    """Return JSON that is the same for equal values, whatever the order of keys.

    Kubernetes may give 1.0 back as 1, so these count as equal.
    """
    return json.dumps(_whole(value), sort_keys=True, separators=(",", ":")).encode()


def parse_ref(value: Any, field: str) -> dict[str, Any]:
    """Check a reference that a task made.

    Its path must be the one that follows from its hash, so it cannot point anywhere else.

    Raises:
        Refusal: ``bad_request``.
    """
    ref = fields.mapping(value, field)
    sha256 = fields.text(ref, "sha256", max_chars=64, where=f"{field}.")
    if not _SHA256.fullmatch(sha256):
        raise bad(f"{field}.sha256", "must be 64 lower-case hexadecimal digits")
    path = fields.text(ref, "path", max_chars=4096, where=f"{field}.")
    if path != object_path(sha256):
        raise bad(
            f"{field}.path", f"must be {object_path(sha256)}, where a value of this hash lies"
        )
    size = ref.get("size")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= fields.INT64_MAX:
        raise bad(f"{field}.size", "must be the size in bytes")
    codec = ref.get("codec")
    if codec not in tuple(Codec):
        raise bad(f"{field}.codec", f"must be one of {', '.join(Codec)}")
    return {"path": path, "sha256": sha256, "size": size, "codec": str(codec)}


def content_of(task_object: dict[str, Any]) -> Content:
    """Return the content of a TaskObject from the API server."""
    for field in ("ref", "data"):
        if task_object.get(field) is not None:
            return Content(field, task_object[field])
    return Content("value", task_object.get("value"))


def no_workspace(field: str, size: int) -> Refusal:
    """Return the refusal of a large value where there is nowhere to spill it."""
    return Refusal(
        ErrorCode.NO_WORKSPACE,
        f"{field}: has {size} bytes; over {INLINE_LIMIT_BYTES} it needs a workspace, and this "
        "TaskCluster has none: set spec.workspace, or store the value elsewhere",
    )


def _parse_json(value: Any, field: str) -> Any:
    if not isinstance(value, str):
        raise bad(field, f"must be text, not {fields.kind_of(value)}")
    try:
        return jsoncheck.parse(value)
    except (ValueError, RecursionError) as error:
        raise bad(field, f"is not JSON: {error}") from error


def _data(value: Any, field: str) -> Content:
    data = fields.mapping(value, field)
    for key, text in data.items():
        if not isinstance(text, str):
            raise bad(f"{field}.{key}", f"must be text, not {fields.kind_of(text)}")
    return Content("data", data, encode_json(data, field))


def _whole(value: Any) -> Any:
    """Turn floats without a fraction into integers; nesting was checked before."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(item) for item in value]
    return value
