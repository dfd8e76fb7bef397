"""Tables: what ``kubectl get`` shows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from taskctl.embedded.server.kinds.model import Column, Kind
from taskctl.embedded.server.kinds.registry import Registry
from taskctl.embedded.server.tables.humanize import human_duration
from taskctl.embedded.server.tables.jsonpath import PathError, compile_path
from taskctl.embedded.server.tables.table import table_event, to_table

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
HOUR_AGO = "2024-05-01T11:00:00Z"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "<invalid>"), (-1, "0s"), (0, "0s"), (119.9, "119s"), (120, "2m"), (125, "2m5s"),
        (599, "9m59s"), (600, "10m"), (10799, "179m"), (10800, "3h"), (12000, "3h20m"),
        (28800, "8h"), (172799, "47h"), (172800, "2d"), (176400, "2d1h"), (691200, "8d"),
        (63071999, "729d"), (63072000, "2y"), (94700000, "3y1d"), (252288000, "8y"),
    ],
)  # fmt: skip
def test_durations_read_as_kubectl_writes_them(seconds: float, shown: str) -> None:
    assert human_duration(seconds) == shown


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".a.b", [1]),
        ("{.a.b}", [1]),
        (".missing.x", []),
        (".list[0].n", ["x"]),
        (".list[-1].n", ["y"]),
        (".list[9].n", []),
        (".list[*].n", ["x", "y"]),
        ('.list[?(@.n=="y")].v', [2]),
        (".list[?(@.v>1)].n", ["y"]),
        (".list[?(@.w)].n", ["y"]),
        (".list[?(@.n!='x')].v", [2]),
        (".map['a.b/c']", [3]),
        (r".map.a\.b/c", [3]),
    ],
)
def test_json_paths(path: str, found: list[Any]) -> None:
    obj = {
        "a": {"b": 1},
        "list": [{"n": "x", "v": 1}, {"n": "y", "v": 2, "w": True}],
        "map": {"a.b/c": 3},
    }
    assert compile_path(path)(obj) == found


@pytest.mark.parametrize("path", ["", ".a[", ".a[0:2]", "..a", ".a[?(@.b=~1)]"])
def test_json_paths_that_are_not_understood(path: str) -> None:
    with pytest.raises(PathError):
        compile_path(path)


WIDGETS = Kind(
    group="example.dev",
    version="v1",
    kind="Widget",
    list_kind="WidgetList",
    plural="widgets",
    singular="widget",
    columns=(
        Column("State", "string", json_path=".status.state"),
        Column("Count", "integer", json_path=".status.count"),
        Column("Share", "number", json_path=".status.share"),
        Column("On", "boolean", json_path=".spec.on", priority=1),
        Column("Ready", "string", json_path='.status.conditions[?(@.type=="Ready")].status'),
        Column("Labels", "string", json_path=".metadata.labels"),
        Column("Age", "date", json_path=".metadata.creationTimestamp"),
    ),
)


def cells(kind: Kind, obj: dict[str, Any]) -> list[Any]:
    table = to_table(kind, [obj], now=NOW)
    (row,) = table["rows"]
    assert len(row["cells"]) == len(table["columnDefinitions"])
    found: list[Any] = row["cells"]
    return found


def test_custom_columns_are_typed() -> None:
    obj = {
        "metadata": {"name": "w", "creationTimestamp": HOUR_AGO, "labels": {"a": "b"}},
        "spec": {"on": True},
        "status": {
            "state": "Running",
            "count": 3.0,
            "share": 1,
            "conditions": [
                {"type": "Other", "status": "False"},
                {"type": "Ready", "status": "True"},
            ],
        },
    }
    assert cells(WIDGETS, obj) == ["w", "Running", 3, 1.0, True, "True", '{"a":"b"}', "60m"]


def test_missing_and_mistyped_values_are_empty() -> None:
    obj = {"metadata": {"name": "w"}, "spec": {"on": "yes"}, "status": {"count": "3"}}
    assert cells(WIDGETS, obj) == ["w", None, None, None, None, None, None, None]


def test_rows_carry_what_was_asked_for() -> None:
    obj = {"kind": "Widget", "metadata": {"name": "w"}}
    for include, expected in (
        (
            "Metadata",
            {
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": {"name": "w"},
            },
        ),
        ("Object", obj),
        ("None", None),
    ):
        table = to_table(WIDGETS, [obj], now=NOW, include_object=include)
        assert table["rows"][0].get("object") == expected


def test_list_metadata_and_definitions() -> None:
    table = to_table(WIDGETS, [], now=NOW, list_metadata={"resourceVersion": "7"})
    assert table["metadata"] == {"resourceVersion": "7"}
    assert table["rows"] == []
    first, *_, on, _, _, _ = table["columnDefinitions"]
    assert (first["name"], first["format"], on["name"], on["priority"]) == ("Name", "name", "On", 1)


def test_an_event_is_one_row() -> None:
    obj = {"metadata": {"name": "w", "resourceVersion": "9"}}
    event = table_event(WIDGETS, obj, now=NOW, with_columns=False)
    assert event["metadata"] == {"resourceVersion": "9"}
    assert event["columnDefinitions"] is None
    assert len(event["rows"]) == 1


# --- built-in kinds ---------------------------------------------------------------------


def builtin(plural: str, group: str = "") -> Kind:
    kind = Registry().by_plural(group, "v1", plural)
    assert kind is not None
    return kind


def status(name: str, ready: bool = False, restarts: int = 0, **state: Any) -> dict[str, Any]:
    return {"name": name, "ready": ready, "restartCount": restarts, "state": state}


def pod(phase: str, *statuses: dict[str, Any], **more: Any) -> dict[str, Any]:
    metadata = {"name": "p", "creationTimestamp": HOUR_AGO, **more.pop("metadata", {})}
    spec = {"containers": [{"name": one["name"]} for one in statuses] or [{"name": "a"}]}
    return {
        "metadata": metadata,
        "spec": {**spec, **more.pop("spec", {})},
        "status": {"phase": phase, "containerStatuses": list(statuses), **more},
    }


ENDED = {"exitCode": 0, "reason": "Completed"}


@pytest.mark.parametrize(
    ("obj", "shown"),
    [
        (pod("Pending"), ["0/1", "Pending", "0"]),
        (
            pod("Pending", status("a", waiting={"reason": "ErrImagePull"})),
            ["0/1", "ErrImagePull", "0"],
        ),
        (pod("Running", status("a", True, running={})), ["1/1", "Running", "0"]),
        (
            pod("Running", status("a", True, running={}), status("b", terminated={"exitCode": 3})),
            ["1/2", "ExitCode:3", "0"],
        ),
        (
            pod(
                "Running",
                status("a", terminated=ENDED),
                status("b", True, running={}),
                conditions=[{"type": "Ready", "status": "True"}],
            ),
            ["1/2", "Running", "0"],
        ),
        (
            pod("Running", status("a", terminated=ENDED), status("b", True, running={})),
            ["1/2", "NotReady", "0"],
        ),
        (pod("Succeeded", status("a", terminated=ENDED)), ["0/1", "Completed", "0"]),
        (
            pod("Failed", status("a", terminated={"exitCode": 137, "signal": 9})),
            ["0/1", "Signal:9", "0"],
        ),
        (pod("Failed", reason="Evicted"), ["0/1", "Evicted", "0"]),
        (
            pod("Running", status("a", True, running={}), metadata={"deletionTimestamp": HOUR_AGO}),
            ["1/1", "Terminating", "0"],
        ),
        (
            pod(
                "Running",
                {
                    **status("a", True, 2, running={}),
                    "lastState": {"terminated": {"finishedAt": "2024-05-01T11:58:00Z"}},
                },
            ),
            ["1/1", "Running", "2 (2m ago)"],
        ),
        (
            pod(
                "Pending",
                initContainerStatuses=[status("i", terminated={"exitCode": 1})],
                spec={"initContainers": [{"name": "i"}]},
            ),
            ["0/1", "Init:ExitCode:1", "0"],
        ),
        (
            pod(
                "Pending",
                initContainerStatuses=[status("i", running={})],
                spec={"initContainers": [{"name": "i"}]},
            ),
            ["0/1", "Init:0/1", "0"],
        ),
        (
            pod(
                "Running",
                status("a", True, running={}),
                initContainerStatuses=[{**status("i", True, running={}), "started": True}],
                spec={"initContainers": [{"name": "i", "restartPolicy": "Always"}]},
            ),
            ["2/2", "Running", "0"],
        ),
    ],
)
def test_pods(obj: dict[str, Any], shown: list[str]) -> None:
    assert cells(builtin("pods"), obj)[:5] == ["p", *shown, "60m"]


def test_wide_pods() -> None:
    obj = pod("Running", spec={"nodeName": "n"}, podIPs=[{"ip": "10.0.0.1"}])
    assert cells(builtin("pods"), obj)[5:] == ["10.0.0.1", "n", "<none>", "<none>"]
    assert cells(builtin("pods"), pod("Pending"))[5:] == ["<none>"] * 4


def test_finished_pods_are_marked_for_kubectl() -> None:
    table = to_table(builtin("pods"), [pod("Succeeded")], now=NOW)
    assert table["rows"][0]["conditions"][0]["type"] == "Completed"


META = {"name": "x", "creationTimestamp": HOUR_AGO}


@pytest.mark.parametrize(
    ("plural", "group", "obj", "shown"),
    [
        ("namespaces", "", {"status": {"phase": "Active"}}, ["x", "Active", "60m"]),
        ("configmaps", "", {"data": {"a": "b"}, "binaryData": {"c": "d"}}, ["x", 2, "60m"]),
        ("secrets", "", {"type": "Opaque", "data": {"a": "b"}}, ["x", "Opaque", 1, "60m"]),
        ("serviceaccounts", "", {}, ["x", 0, "60m"]),
        (
            "persistentvolumeclaims",
            "",
            {
                "spec": {"volumeName": "v", "volumeMode": "Filesystem"},
                "status": {
                    "phase": "Bound",
                    "capacity": {"storage": "1Gi"},
                    "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
                },
            },
            ["x", "Bound", "v", "1Gi", "RWO,RWX", "", "<unset>", "60m", "Filesystem"],
        ),
        ("leases", "coordination.k8s.io", {"spec": {"holderIdentity": "h"}}, ["x", "h", "60m"]),
        ("roles", "rbac.authorization.k8s.io", {}, ["x", HOUR_AGO]),
        (
            "rolebindings",
            "rbac.authorization.k8s.io",
            {
                "roleRef": {"kind": "Role", "name": "r"},
                "subjects": [
                    {"kind": "User", "name": "u"},
                    {"kind": "ServiceAccount", "name": "s", "namespace": "n"},
                ],
            },
            ["x", "Role/r", "60m", "u", "", "n/s"],
        ),
        (
            "storageclasses",
            "storage.k8s.io",
            {"provisioner": "p"},
            ["x", "p", "Delete", "Immediate", False, "60m"],
        ),
    ],
)
def test_other_kinds(plural: str, group: str, obj: dict[str, Any], shown: list[Any]) -> None:
    assert cells(builtin(plural, group), {"metadata": META, **obj}) == shown


def test_nodes() -> None:
    obj = {
        "metadata": {**META, "labels": {"node-role.kubernetes.io/worker": ""}},
        "spec": {"unschedulable": True},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {"kubeletVersion": "v1"},
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        },
    }
    assert cells(builtin("nodes"), obj) == [
        "x", "Ready,SchedulingDisabled", "worker", "60m", "v1", "127.0.0.1", "<none>",
        "<unknown>", "<unknown>", "<unknown>",
    ]  # fmt: skip


def test_events_do_not_begin_with_their_name() -> None:
    obj = {
        "metadata": {"name": "e"},
        "type": "Normal",
        "reason": "Started",
        "message": "hi \n",
        "involvedObject": {"kind": "Pod", "name": "p"},
        "lastTimestamp": HOUR_AGO,
        "source": {"component": "kubelet"},
    }
    table = to_table(builtin("events"), [obj], now=NOW)
    assert [one["name"] for one in table["columnDefinitions"]][:3] == [
        "Last Seen",
        "Type",
        "Reason",
    ]
    assert table["rows"][0]["cells"] == [
        "60m", "Normal", "Started", "pod/p", "", "kubelet", "hi", "<unknown>", 1, "e"
    ]  # fmt: skip
