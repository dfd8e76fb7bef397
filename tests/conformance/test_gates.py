"""Scheduling gates: they may be removed but not added, and hold the pod back until then."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.samples import bind, messages, pod
from tests.conformance.target import Api, Json

A, B = {"name": "test.taskctl.test/a"}, {"name": "b"}


def gated(**spec: Any) -> Json:
    return pod(schedulingGates=[A, B], **spec)


async def change(api: Api, **spec: Any) -> Any:
    return await api.patch(api.core("pods", "p"), {"spec": spec})


async def test_gates_go_one_by_one(api: Api) -> None:
    made = (await api.create(api.core("pods"), gated())).ok()
    (condition,) = made["status"]["conditions"]
    assert (condition["type"], condition["status"]) == ("PodScheduled", "False")
    assert condition["reason"] == "SchedulingGated"
    assert condition["message"] == "Scheduling is blocked due to non-empty scheduling gates"
    left = (await change(api, schedulingGates=[B])).ok()
    assert left["spec"]["schedulingGates"] == [B]
    assert left["metadata"]["generation"] == made["metadata"]["generation"] + 1
    assert "schedulingGates" not in (await change(api, schedulingGates=None)).ok()["spec"]


async def test_gates_do_not_come(api: Api) -> None:
    (await api.create(api.core("pods"), gated())).ok()
    refusal = (await change(api, schedulingGates=[A, {"name": "c"}])).refused(422, "Invalid")
    new = "Forbidden: only deletion is allowed, but found new scheduling gate 'c'"
    assert messages(refusal) == [("spec.schedulingGates[1].name", new)]
    (await change(api, schedulingGates=None)).ok()
    refusal = (await change(api, schedulingGates=[{"name": "c"}])).refused(422, "Invalid")
    assert messages(refusal) == [("spec.schedulingGates[0].name", new)]


async def test_a_pod_with_gates_gets_no_node(api: Api) -> None:
    (await api.create(api.core("pods"), gated())).ok()
    assert (await bind(api)).refused(409, "Conflict")["message"] == (
        'Operation cannot be fulfilled on pods/binding "p": pod p has non-empty '
        ".spec.schedulingGates"
    )
    (await change(api, schedulingGates=None)).ok()
    (await bind(api)).ok()
    bound = (await api.get(api.core("pods", "p"))).ok()
    conditions = {one["type"]: one["status"] for one in bound["status"]["conditions"]}
    assert conditions["PodScheduled"] == "True"


NAME = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
    "validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (
            {"schedulingGates": [{"name": "a b"}]},
            ("spec.schedulingGates[0]", f'Invalid value: "a b": {NAME}'),
        ),
        ({"schedulingGates": [B, B]}, ("spec.schedulingGates[1]", 'Duplicate value: "b"')),
        (
            {"schedulingGates": [B], "nodeName": "n"},
            (
                "spec.nodeName",
                "Forbidden: cannot be set until all schedulingGates have been cleared",
            ),
        ),
    ],
)
async def test_malformed_gates(api: Api, spec: Json, found: tuple[str, str]) -> None:
    refusal = (await api.create(api.core("pods"), pod(**spec))).refused(422, "Invalid")
    assert messages(refusal) == [found]


async def test_other_affinities_stay(api: Api) -> None:
    (await api.create(api.core("pods"), gated())).ok()
    term = {"topologyKey": "z", "labelSelector": {"matchLabels": {"a": "b"}}}
    pods = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    refusal = (await change(api, affinity=pods)).refused(422, "Invalid")
    ((field, message),) = messages(refusal)
    assert (field, "pod updates may not change fields" in message) == ("spec", True)
