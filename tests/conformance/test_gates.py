"""Scheduling gates: they may go but not come, and a pod that is held back may become choosier."""

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


async def test_the_selector_of_a_pod_with_gates_may_grow(api: Api) -> None:
    (await api.create(api.core("pods"), gated(nodeSelector={"x": "y"}))).ok()
    made = (await change(api, nodeSelector={"k": "l"})).ok()
    assert made["spec"]["nodeSelector"] == {"x": "y", "k": "l"}
    for selector, shown in (({"x": "z"}, '{"k":"l","x":"z"}'), (None, "null")):
        refusal = (await change(api, nodeSelector=selector)).refused(422, "Invalid")
        assert messages(refusal) == [
            (
                "spec.nodeSelector",
                f"Invalid value: {shown}: only additions to spec.nodeSelector are allowed (no "
                "mutations or deletions)",
            )
        ]
    # Together with the last gate it is not too late.
    (await change(api, schedulingGates=None, nodeSelector={"m": "n"})).ok()
    refusal = (await change(api, nodeSelector={"o": "p"})).refused(422, "Invalid")
    assert "pod updates may not change fields other than" in refusal["message"]


def affinity(*keys: tuple[str, ...]) -> Json:
    """Return an affinity with a term per argument."""
    terms = [{"matchExpressions": [{"key": k, "operator": "Exists"} for k in ks]} for ks in keys]
    required = {"nodeSelectorTerms": terms}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


TERMS = (
    "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
)


async def test_the_affinity_of_a_pod_with_gates_may_become_narrower(api: Api) -> None:
    (await api.create(api.core("pods"), gated())).ok()
    (await change(api, affinity=affinity(("a",)))).ok()
    (await change(api, affinity=affinity(("a", "b")))).ok()
    for wanted, where, words in (
        (affinity(("b",)), f"{TERMS}[0]", "only additions are allowed (no mutations or deletions)"),
        (affinity(("a",)), f"{TERMS}[0]", "only additions are allowed (no mutations or deletions)"),
        (
            affinity(("a", "b"), ("c",)),
            TERMS,
            "no additions/deletions to non-empty NodeSelectorTerms list are allowed",
        ),
        (None, TERMS, "Invalid value: null: no additions/deletions to non-empty"),
    ):
        refusal = (await change(api, affinity=wanted)).refused(422, "Invalid")
        ((field, message),) = messages(refusal)
        assert (field, words in message) == (where, True), refusal["message"]
    shown = (
        '{"MatchExpressions":[{"Key":"b","Operator":"Exists","Values":null}],"MatchFields":null}'
    )
    refusal = (await change(api, affinity=affinity(("b",)))).refused(422, "Invalid")
    assert f"Invalid value: {shown}: " in refusal["message"]


async def test_other_affinities_stay(api: Api) -> None:
    (await api.create(api.core("pods"), gated())).ok()
    term = {"topologyKey": "z", "labelSelector": {"matchLabels": {"a": "b"}}}
    pods = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    refusal = (await change(api, affinity={**pods, **affinity(("a",))})).refused(422, "Invalid")
    ((field, message),) = messages(refusal)
    assert (field, "pod updates may not change fields" in message) == ("spec", True)
