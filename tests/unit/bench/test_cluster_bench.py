"""The cluster bench's arithmetic: what it counts, and what it calls held."""

from __future__ import annotations

from collections import Counter
from typing import Any

from bench.cluster.bench import BurstCost, Results, mixed
from bench.cluster.cases import Burst
from bench.cluster.choice import quiet_first, rested_first, round_robin
from bench.cluster.fleet import RawWorker
from bench.cluster.meters import Reading, parse
from bench.cluster.report import p99, report
from taskctl.placement.rest import Rest

METRICS = """# HELP apiserver_request_total Counter
apiserver_request_total{code="200",resource="tasks",subresource="status",verb="PATCH"} 12
apiserver_watch_events_sizes_sum{group="",kind="Pod",version="v1"} 1.5e+06
process_cpu_seconds_total 3
"""


def reading(writes: dict[str, int], cpu_s: float = 0.0) -> Reading:
    return Reading(Counter(writes), 0.0, 0.0, {"agents": cpu_s})


def cost(count: int, user_s: float, writes: dict[str, int]) -> BurstCost:
    return BurstCost(Burst(count, user_s, user_s), reading(writes))


def bars(results: Results) -> dict[str, tuple[str, str]]:
    text = report(results, "v0").partition("### Bars")[2]
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {words[0]: (words[1], words[2]) for words in lines[2:]}


def full(**changes: Any) -> Results:
    values: dict[str, Any] = {
        "singles": {"raw": [70.0] * 3, "taskctl": [100.0] * 3, "pod": [400.0]},
        "stages": {"exited → observed": [4.0]},
        "chains": {3: {"raw, rested first": [600.0, 700.0], "taskctl": [650.0]}},
        "bursts": {
            "raw": cost(200, 10.0, {"PATCH pods/ephemeralcontainers": 8}),
            "taskctl": cost(200, 11.0, {"PATCH tasks/status": 400}),
            "pod": cost(20, 5.0, {"POST pods": 20}),
        },
    }
    return Results(**values | changes)


def test_all_bars_held() -> None:
    found = bars(full())
    assert {held for _, held in found.values()} == {"yes"}
    assert found["throughput ≥ 0.9 × raw"][0] == "0.91"


def test_each_bar_can_be_missed() -> None:
    bursts = {
        "raw": cost(200, 10.0, {}),
        "taskctl": cost(
            200, 12.0, {"PATCH tasks/status": 450, "PATCH pods/ephemeralcontainers": 200}
        ),
        "pod": cost(200, 11.0, {}),
    }
    singles = {"raw": [70.0], "taskctl": [110.0], "pod": [100.0]}
    stages = {"exited → observed": [500.0]}
    found = bars(full(bursts=bursts, singles=singles, stages=stages))
    assert {held for _, held in found.values()} == {"**no**"}
    assert len(found) == 7


def test_a_part_alone_is_reported() -> None:
    assert "### Chain" in report(Results(chains=full().chains), "v0")
    assert bars(Results()) == {}


def test_difference_of_readings() -> None:
    before, after = (
        reading({"PATCH a": 3, "POST b": 1}, 1.0),
        reading({"PATCH a": 5, "POST b": 1}, 4.0),
    )
    difference = after.since(before)
    assert difference.writes == {"PATCH a": 2}
    assert difference.cpu_s == {"agents": 3.0}


def test_metrics() -> None:
    names = {name: (labels, value) for name, labels, value in parse(METRICS)}
    assert names["apiserver_request_total"][0]["subresource"] == "status"
    assert names["apiserver_watch_events_sizes_sum"][1] == 1.5e6
    assert len(names) == 2


def test_p99_of_few_is_the_largest() -> None:
    assert p99([3.0, 1.0, 2.0]) == 3.0
    assert p99([float(n) for n in range(1000)]) == 989.0


def test_turns_are_mixed_evenly() -> None:
    turns = mixed({"raw": 4, "task": 4, "pod": 2})
    assert Counter(turns) == {"raw": 4, "task": 4, "pod": 2}
    assert "pod" in turns[:5]
    assert "pod" in turns[5:]


def test_ways_to_choose() -> None:
    first, second = RawWorker("a", {}, rest=Rest(2.0)), RawWorker("b", {}, rest=Rest(1.0))
    assert rested_first([first, second]) is second
    turn = round_robin()
    assert [turn([first, second]).name for _ in range(3)] == ["a", "b", "a"]
    first.changed_s = float("inf")
    assert quiet_first([first, second]) is second
