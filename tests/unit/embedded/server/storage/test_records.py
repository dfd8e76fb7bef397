"""What a stored version of an object takes."""

from __future__ import annotations

import tracemalloc

import orjson

from taskctl.embedded.server.refusals.errors import Resource
from taskctl.embedded.server.storage.records import load_record

TASKS = Resource("taskctl.dev", "tasks")


def test_a_record_holds_its_text_and_little_more() -> None:
    """A text that orjson makes holds a whole block, many times its length, until it is copied."""
    body = {
        "kind": "Task",
        "apiVersion": "taskctl.dev/v1alpha1",
        "metadata": {"name": "a", "namespace": "default", "uid": "u", "resourceVersion": "7"},
        "spec": {"args": ["x" * 1_000]},
    }
    text = orjson.dumps(body)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        records = [load_record(TASKS, text, {}) for _ in range(200)]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert {record.raw for record in records} == {text}
    assert (after - before) / len(records) < 2 * len(text)
