"""Fields of a Task's spec given as text, by ``taskctl-init spawn --set``."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.agent.fieldtexts import merged, read
from taskctl.agent.refusals import Refusal
from taskctl.api.resources import TASKS
from tests.unit.agent.conftest import World

WHERE = "tasks[0]"

GOOD: list[tuple[list[Any], dict[str, Any]]] = [
    ([["priority", "-5"]], {"priority": -5}),
    ([["suspend", "true"], ["group", "g"]], {"suspend": True, "group": "g"}),
    ([["group", '"5"']], {"group": "5"}),
    ([["workingDir", "/x y"]], {"workingDir": "/x y"}),
    ([["workingDir", ""]], {"workingDir": ""}),
    ([["retry.limit", "3"], ["retry.factor", "1.5"]], {"retry": {"limit": 3, "factor": 1.5}}),
    ([["runAfter", '{"group": "p"}']], {"runAfter": {"group": "p"}}),
    ([["args", '["a", "b"]']], {"args": ["a", "b"]}),
    ([["a.b.c", "1"], ["a.b.d", "2"], ["a.e", "x"]], {"a": {"b": {"c": 1, "d": 2}, "e": "x"}}),
    ([["group", "1.2.3"], ["image", "007"]], {"group": "1.2.3", "image": "007"}),
]


@pytest.mark.parametrize(("pairs", "expected"), GOOD)
def test_fields(pairs: list[Any], expected: dict[str, Any]) -> None:
    assert merged({"set": pairs}, WHERE) == expected
    with_more = merged({"set": pairs, "overrides": {"slots": 2}}, WHERE)
    assert with_more == expected | {"slots": 2}


BAD: list[tuple[Any, str]] = [
    ("x", "tasks[0].set: must be an array"),
    ([["a"]], "tasks[0].set[0]: must be an array of a path and a text"),
    ([["a", 1]], "tasks[0].set[0].text: must be text"),
    ([["", "1"]], "tasks[0].set[0].path: is required"),
    ([["a..b", "1"]], "tasks[0].set[0]: 'a..b' is not a field"),
    ([["a[0]", "1"]], "tasks[0].set[0]: 'a[0]' is not a field"),
    ([["runAfter", "{group: p}"]], "tasks[0].set[0]: runAfter: the value is not JSON"),
    ([["args", "[NaN]"]], "tasks[0].set[0]: args: the value is not JSON"),
    ([["a", '"x']], "tasks[0].set[0]: a: the value is not JSON"),
    ([["a", "[" * 5000]], "tasks[0].set[0]: a: the value is not JSON"),
    ([["a", "9" * 30]], "tasks[0].set[0]: a: the value is not JSON: holds the integer"),
    ([["a", "null"]], "tasks[0].set[0]: a is null"),
    ([["a", "1"], ["a", "2"]], "tasks[0].set[1]: a is given twice"),
    ([["a", "1"], ["a.b", "2"]], "tasks[0].set[1]: a.b is given twice"),
    ([["a.b", "1"], ["a", "2"]], "tasks[0].set[1]: a is given twice"),
    ([["slots", "1"]], "tasks[0].set[0]: slots is given twice"),
    ([["retry.limit", "1"]], "tasks[0].set[0]: retry.limit is given twice"),
    ([["x", "1"]] * 201, "tasks[0].set: has 201 items"),
]


@pytest.mark.parametrize(("pairs", "message"), BAD)
def test_faulty_fields(pairs: Any, message: str) -> None:
    overrides = {"slots": 2, "retry": {"factor": 2}}
    with pytest.raises(Refusal) as refused:
        merged({"set": pairs, "overrides": overrides}, WHERE)
    assert refused.value.message.startswith(message)
    assert overrides == {"slots": 2, "retry": {"factor": 2}}


@given(
    st.recursive(
        st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)
def test_every_json_value_can_be_written(value: Any) -> None:
    assert read(json.dumps(value), WHERE, "a") == value


async def test_a_child_gets_the_fields(world: World) -> None:
    _, _, told = await world.running()
    peer = await world.attached(told)
    pairs = [["retry.limit", "3"], ["runAfter", '{"group": "g", "count": 2}'], ["priority", "7"]]
    await peer.good("spawn", tasks=[{"key": "k", "name": "child", "set": pairs}])
    spec = world.api.see(TASKS, "child")["spec"]
    assert spec["retry"] == {"limit": 3}
    assert spec["runAfter"] == {"group": "g", "count": 2}
    assert spec["priority"] == 7


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (["priority", "high"], "tasks[0].overrides.priority: "),
        (["retry.limits", "3"], "tasks[0].overrides.retry.limits: "),
        (["prioritty", "3"], "did you mean priority?"),
        (["clusterName", "other"], "tasks[0].overrides.clusterName: "),
        (["env", '[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]'],
         "tasks[0].overrides.env[0].valueFrom: "),
        (["lineage.task", "x"], "tasks[0].overrides.lineage: "),
    ],
)  # fmt: skip
async def test_no_way_around_the_rules(world: World, pair: list[str], message: str) -> None:
    _, _, told = await world.running()
    peer = await world.attached(told)
    code, text = await peer.refused("spawn", tasks=[{"key": "k", "name": "child", "set": [pair]}])
    assert code == "bad_request"
    assert message in text
    assert "child" not in world.api.names(TASKS)
