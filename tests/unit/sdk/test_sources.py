"""Results of children as inputs of others: arguments, continuations."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from taskctl.sdk import Child, Group, InputInvalid, Unsendable, current, gather, spawn, sync, task
from taskctl.sdk.run import main
from tests.unit.sdk.fake_agent import FakeAgent
from tests.unit.sdk.test_results import commands, many

pytestmark = pytest.mark.usefixtures("agent")


@task
def add(left: int, right: int) -> int:
    return left + right


@task
def report(results: list[int], title: str = "sum") -> str:
    return f"{title}: {sum(results)}"


@task
def mixed(parts: list[int], by_name: dict[str, int]) -> int:
    return sum(parts) + sum(by_name.values())


async def test_children_as_arguments(agent: FakeAgent) -> None:
    left, right = await many(2)
    await spawn(add, left, right, key="sum")
    spec = agent.spawned()[-1]
    assert spec["value"] == {}
    assert spec["overrides"]["inputFrom"] == [
        {"path": "/left", "task": left.name},
        {"path": "/right", "task": right.name},
    ]
    assert spec["overrides"]["runAfter"] == {"tasks": [left.name, right.name]}


async def test_children_within_arguments(agent: FakeAgent) -> None:
    one, two = await many(2)
    parts: Any = [1, one, 3]
    by_name: Any = {"a/b": two, "c": 4}
    await spawn(mixed, parts, by_name, key="sum", run_after=["other", two])
    spec = agent.spawned()[-1]
    assert spec["value"] == {"parts": [1, None, 3], "by_name": {"c": 4}}
    assert spec["overrides"]["inputFrom"] == [
        {"path": "/parts/1", "task": one.name},
        {"path": "/by_name/a~1b", "task": two.name},
    ]
    assert spec["overrides"]["runAfter"] == {"tasks": ["other", two.name, one.name]}


async def test_a_command_with_children_as_input(agent: FakeAgent) -> None:
    made = await many(2)
    await spawn(["cat"], key="c", input=made)
    await spawn(["cat"], key="d", input={"only": made[0], "n": 1})
    await spawn(["cat"], key="e", input={"all": made, "n": 1})
    whole, part, deep = agent.spawned()[-3:]
    names = [one.name for one in made]
    assert deep["overrides"]["inputFrom"] == [{"path": "/all", "tasks": names}]
    assert whole["overrides"]["inputFrom"] == [{"path": "", "tasks": [one.name for one in made]}]
    assert part["overrides"]["inputFrom"] == [{"path": "/only", "task": made[0].name}]
    assert part["value"] == {"n": 1}


async def test_a_continuation(agent: FakeAgent) -> None:
    made = await many(3)
    names = [one.name for one in made]
    after = await gather(made, then=report)
    assert isinstance(after, Child)
    spec = agent.spawned()[-1]
    assert spec["overrides"]["inputFrom"] == [{"path": "/results", "tasks": names}]
    assert spec["overrides"]["runAfter"] == {"tasks": names}
    assert not agent.asked("children"), "it does not wait"
    await gather(made, then=report, title="all", return_exceptions=True)
    spec = agent.spawned()[-1]
    assert spec["value"] == {"title": "all"}
    assert spec["overrides"]["when"] == "Always"
    await gather(made, then=report, min_success=2)
    after = agent.spawned()[-1]["overrides"]["runAfter"]
    assert after == {"tasks": names, "minSuccess": 2}
    with pytest.raises(ValueError, match="min_success is 4"):
        await gather(made, then=report, min_success=4)
    with pytest.raises(Unsendable, match="@task"):
        await gather(made, then=print)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="no argument 'title'"):
        await gather(made, title="all")  # type: ignore[call-overload]
    blocking = sync.gather(sync.spawn_many(commands(2)), then=report)
    assert isinstance(blocking, sync.Child)


@pytest.mark.parametrize("wrong", [[["deep"]], "x"])
async def test_what_stands_beside_children_is_checked(wrong: Any) -> None:
    [one] = await many(1)
    parts: Any = [one, wrong]
    with pytest.raises(Unsendable):
        await spawn(mixed, parts, {}, key="sum")
    parts = [[one, 1]]
    with pytest.raises(Unsendable):
        await spawn(mixed, parts, {}, key="sum")


def test_an_input_with_results_in_it(agent: FakeAgent) -> None:
    agent.input = {
        "value": {"parts": [1, None, 3]},
        "sources": [
            {"path": "/parts/1", "count": None},
            {"path": "/by_name/a~1b", "count": None},
            {"path": "/many", "count": 7},
        ],
    }
    large = agent.store(list(range(2000)))
    agent.sources = [[2], [4], [{"ref": large}, *range(6)]]
    assert current().input == {
        "parts": [1, 2, 3],
        "by_name": {"a/b": 4},
        "many": [list(range(2000)), *range(6)],
    }


@task
def nested(rows: list[list[int]], table: dict[str, dict[str, int | None]], any_: Any) -> int:
    return len(rows) + len(table) + (any_ is not None)


async def test_children_at_any_depth(agent: FakeAgent) -> None:
    one, two, three = await many(3)
    rows: Any = [[1, one], [2], [two, three]]
    await spawn(nested, rows, {"a": {"b": one, "c": None}}, [{"x": [{"y": two}, 1]}], key="deep")
    spec = agent.spawned()[-1]
    assert spec["value"] == {
        "rows": [[1, None], [2], None],
        "table": {"a": {"c": None}},
        "any_": [{"x": [{}, 1]}],
    }
    assert spec["overrides"]["inputFrom"] == [
        {"path": "/rows/0/1", "task": one.name},
        {"path": "/rows/2", "tasks": [two.name, three.name]},
        {"path": "/table/a/b", "task": one.name},
        {"path": "/any_/0/x/0/y", "task": two.name},
    ]
    assert spec["overrides"]["runAfter"]["tasks"] == [one.name, two.name, three.name]


async def test_a_group_stands_for_its_results(agent: FakeAgent) -> None:
    await gather(Group("parts", count=200), then=report, title="all", min_success=190)
    spec = agent.spawned()[-1]
    assert spec["overrides"]["inputFrom"] == [{"path": "/results", "group": "parts"}]
    assert spec["overrides"]["runAfter"] == {"group": "parts", "minSuccess": 190, "count": 200}
    sync.gather(Group("parts"), then=report, return_exceptions=True)
    spec = agent.spawned()[-1]
    assert spec["overrides"]["runAfter"] == {"group": "parts"}
    assert spec["overrides"]["when"] == "Always"


async def test_one_group_at_a_time() -> None:
    two: Any = [Group("a"), Group("b")]
    with pytest.raises(Unsendable, match="waits for one group"):
        await spawn(["cat"], key="c", input=two)
    with pytest.raises(TypeError, match="with then="):
        await gather(Group("a"))  # type: ignore[call-overload]


@task
def streaming(results: Iterable[int], other: list[int], factor: int = 1) -> list[int]:
    assert not isinstance(results, list)
    assert sum(results) == sum(results), "one may go along it more than once"
    return [factor * number for number in results] + other


@task
async def streaming_async(results: AsyncIterable[Sum]) -> int:
    total = 0
    async for result in results:
        assert type(result) is Sum
        total += result.total
    return total


@dataclass
class Sum:
    total: int


def source(path: str, count: int) -> dict[str, Any]:
    return {"path": path, "count": count}


def test_results_are_streamed(agent: FakeAgent) -> None:
    agent.sources = [list(range(100)), [7, 8]]
    sources = [source("/results", 100), source("/other", 2)]
    agent.input = {"value": {"factor": 3}, "sources": sources}
    assert main([f"{__name__}:streaming"]) == 0
    assert agent.asked("output")[-1]["value"] == [3 * number for number in range(100)] + [7, 8]
    asked = [request["start"] for request in agent.asked("sources") if request["source"] == 0]
    assert asked == 3 * list(range(0, 100, 3)), "part by part, each time"


def test_large_results_are_streamed_to_async_code(agent: FakeAgent) -> None:
    agent.sources = [[{"ref": agent.store({"total": number})} for number in range(30)]]
    agent.input = {"value": None, "sources": [source("", 30)]}
    assert main([f"{__name__}:streaming_async"]) == 0
    assert agent.asked("output")[-1]["value"] == sum(range(30))


def test_a_plain_list_may_take_the_place_of_a_stream(agent: FakeAgent) -> None:
    agent.input = {"value": {"results": [{"total": 1}, {"total": 2}]}}
    assert main([f"{__name__}:streaming_async"]) == 0
    assert agent.asked("output")[-1]["value"] == 3


def test_a_result_that_does_not_fit_is_named(agent: FakeAgent) -> None:
    agent.sources = [[*range(25), "x", 3]]
    agent.input = {"value": {"other": []}, "sources": [source("/results", 27)]}
    with pytest.raises(InputInvalid, match=r"results\[25\]"):
        main([f"{__name__}:streaming"])
