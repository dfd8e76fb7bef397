"""The promise: what the SDK sends comes back as it was, or is refused where it is sent."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from taskctl import wire
from taskctl.sdk import _decode, _stored, _values
from taskctl.sdk.errors import Unsendable
from tests.unit.sdk import hints, table
from tests.unit.sdk.bundle import PYTHONS, bundle, find_python
from tests.unit.sdk.hints import exact


def test_table() -> None:
    assert list(table.wrongs()) == []


@pytest.mark.parametrize("name", PYTHONS)
def test_table_on_other_interpreters(tmp_path: Path, name: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(bundle(tmp_path))}
    command = [find_python(name), "-s", "-S", table.__file__]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def as_kubernetes_has_it(plain: Any) -> Any:
    """Return JSON as an API server gives it back: keys in order, 1.0 as 1, -0.0 as 0."""
    if isinstance(plain, dict):
        return {key: as_kubernetes_has_it(plain[key]) for key in sorted(plain)}
    if isinstance(plain, list):
        return [as_kubernetes_has_it(item) for item in plain]
    if isinstance(plain, float) and plain.is_integer() and abs(plain) < 1e21:
        return int(plain)
    return plain


def ways(plain: Any) -> list[Any]:
    """Return what may arrive: over the wire, as a file, through an API server."""
    as_json = json.loads(json.dumps(plain, allow_nan=False))
    packed = wire.unpack_value(wire.pack_value(plain))
    return [packed, as_json, wire.unpack_value(wire.pack_value(as_kubernetes_has_it(as_json)))]


@given(hints.PAIRS)
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@example((hints.Counter, hints.Counter(1)))
def test_it_comes_back_or_is_refused(pair: tuple[Any, Any]) -> None:
    hint, value = pair
    before = exact(value)
    refusal = _refusal(hint, value)
    if refusal:
        assert refusal.startswith("it"), "the place is named"
        return
    plain = _values.encode(value, hint, "it")
    for form in ways(plain):
        after = exact(_decode.decode(form, hint, "it"))
        assert after == before or is_int_as_float(before, after), (plain, form)


def is_int_as_float(before: Any, after: Any) -> bool:
    """An int may be given for a float; it comes back as the float it was annotated as."""
    if isinstance(before, (tuple, list)) and isinstance(after, (tuple, list)):
        if before[:1] == ("int",) and after[:1] == ("float",):
            return float(after[1]) == int(before[1])
        pairs = zip(before, after, strict=False)
        return len(before) == len(after) and all(
            one == other or is_int_as_float(one, other) for one, other in pairs
        )
    if isinstance(before, dict) and isinstance(after, dict):
        return before.keys() == after.keys() and all(
            before[key] == after[key] or is_int_as_float(before[key], after[key]) for key in before
        )
    return bool(before == after)


@given(hints.PAIRS)
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_an_output_is_json_or_is_refused(pair: tuple[Any, Any]) -> None:
    try:
        plain = _values.encode_result(pair[1], pair[0], "it")
    except Unsendable:
        return
    json.dumps(plain, allow_nan=False).encode()
    wire.pack_value(plain)
    assert _stored.is_plain(plain, "it")


def test_the_space_holds_both_kinds() -> None:
    """Guards the tests above: neither is everything refused, nor is everything taken."""
    both = [_outcomes(hint, values) for hint, values in hints.SCALARS + hints.RECORDS]
    assert sum(True in found for found in both) > 30
    assert sum(False in found for found in both) > 10


def _outcomes(hint: Any, values: st.SearchStrategy[Any]) -> set[bool]:
    found = set()

    @given(values)
    @settings(max_examples=30, database=None, deadline=None)
    def look(value: Any) -> None:
        found.add(_refusal(hint, value) == "")

    look()
    return found


def _refusal(hint: Any, value: Any) -> str:
    try:
        _values.encode(value, hint, "it")
    except Unsendable as error:
        return str(error)
    return ""
