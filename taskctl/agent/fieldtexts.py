"""Fields of a Task's spec that are given as text, as sh has them; pure.

``taskctl-init spawn --set retry.limit=3 --set 'runAfter={"group": "parts"}'`` sends a list of paths
and texts. A text that begins like JSON is JSON; any other is itself.
"""

from __future__ import annotations

import re
from typing import Any, Final

from taskctl.agent import fields, jsoncheck
from taskctl.agent.fields import bad
from taskctl.agent.refusals import Refusal

MAX_FIELDS: Final = 200
_MAX_PATH_CHARS: Final = 256
_MAX_TEXT_CHARS: Final = 1024 * 1024
_PATH: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*(\.[A-Za-z][A-Za-z0-9]*)*")
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_WORDS: Final = {"true": True, "false": False, "null": None}


def merged(spec: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the overrides of a spawn spec with those in its ``set``.

    Args:
        spec: the spawn spec, unchecked.
        where: its path in the request, for example ``tasks[3]``.

    Raises:
        Refusal: ``bad_request``: a path or a text is malformed, or a field is given twice.
    """
    overrides = dict(fields.mapping(spec.get("overrides"), f"{where}.overrides"))
    if spec.get("set") is None:
        return overrides
    own: set[int] = set()  # maps made here: only these may grow
    items = fields.array(spec, "set", max_items=MAX_FIELDS, where=f"{where}.")
    for index, item in enumerate(items):
        at = f"{where}.set[{index}]"
        if not isinstance(item, list) or len(item) != 2:
            raise bad(at, "must be an array of a path and a text")
        pair = {"path": item[0], "text": item[1]}
        path = fields.text(pair, "path", max_chars=_MAX_PATH_CHARS, where=f"{at}.")
        text = fields.optional_text(pair, "text", max_chars=_MAX_TEXT_CHARS, where=f"{at}.")
        if not _PATH.fullmatch(path):
            raise bad(at, f"{path!r} is not a field; write for example priority or retry.limit")
        value = read(text, at, path)
        if value is None:
            raise bad(at, f"{path} is null; leave it out, and it is inherited or not set")
        _put(overrides, path, value, own, at)
    return overrides


def read(text: str, where: str, path: str) -> Any:
    """Return what a text stands for: a JSON value where it begins like one, else itself.

    Raises:
        Refusal: ``bad_request``: it begins like JSON and is none.
    """
    if text in _WORDS:
        return _WORDS[text]
    if not text.startswith(("{", "[", '"')) and not _NUMBER.fullmatch(text):
        return text
    try:
        value = jsoncheck.parse(text)
        jsoncheck.check(value)
    except (ValueError, RecursionError) as error:
        raise bad(where, f"{path}: the value is not JSON: {error}") from error
    return value


def _put(whole: dict[str, Any], path: str, value: Any, own: set[int], where: str) -> None:
    at = whole
    *above, last = path.split(".")
    for part in above:
        if part not in at:
            at[part] = {}
            own.add(id(at[part]))
        elif id(at[part]) not in own:
            raise _twice(where, path)
        at = at[part]
    if last in at:
        raise _twice(where, path)
    at[last] = value


def _twice(where: str, path: str) -> Refusal:
    return bad(where, f"{path} is given twice, here and by another option; leave one out")
