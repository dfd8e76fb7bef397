"""A status with an output, as JSON Patch: it must do what the merge patch does, and keep nulls."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from taskctl.embedded.server.patch.formats import merge_patch
from taskctl.policy.status import status_operations

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
STATUS = st.dictionaries(st.sampled_from("abc"), JSON, max_size=3)


@given(STATUS, STATUS, JSON.filter(lambda value: value is not None))
def test_it_is_the_merge_patch_with_the_output_as_it_is(
    before: dict[str, Any], patch: dict[str, Any], output: Any
) -> None:
    task = {"metadata": {"resourceVersion": "7", "uid": "u"}, "status": {**before, "output": "old"}}
    operations = status_operations(task, {**patch, "output": output})
    assert operations == [
        {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"},
        {"op": "replace", "path": "/metadata/uid", "value": "u"},
        {
            "op": "replace",
            "path": "/status",
            "value": {**merge_patch(before, patch), "output": output},
        },
    ]
