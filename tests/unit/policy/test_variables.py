"""``${USER}``, ``${NAMESPACE}`` and ``${CLUSTER}`` in the volumes of a TaskCluster."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from taskctl.api.meta import describe_errors
from taskctl.api.task import Task
from taskctl.api.variables import NEEDS_USER, SOUND_TEXT, USER_NAME, variables_in
from taskctl.policy.clusterspec import spec_problem
from taskctl.policy.colocation import named_claims
from taskctl.policy.runcluster import build_run_cluster
from taskctl.policy.variables import expanded
from taskctl.policy.workerpod import build_worker
from taskctl.policy.workspace import plan_workspace
from tests.unit.policy.build import raw_cluster, raw_task

Json = dict[str, Any]
OWL: Json = {
    "user": "joe",
    "workspace": {"claimName": "nfs-storage-${USER}", "mountPath": "/storage/${USER}"},
    "volumes": [
        {"name": "home", "hostPath": {"path": "/storage/${USER}", "type": "Directory"}},
        {"name": "share", "nfs": {"server": "nfs", "path": "/${NAMESPACE}/${CLUSTER}"}},
        {"name": "csi", "csi": {"driver": "d", "volumeAttributes": {"dir": "${USER}/x"}}},
    ],
    "volumeMounts": [{"name": "home", "mountPath": "/home/${USER}"}],
}


def test_all_texts_are_replaced_in_the_worker() -> None:
    cluster = raw_cluster(**OWL)
    assert spec_problem(cluster) == ""
    assert named_claims(cluster) == ("nfs-storage-joe",)
    workspace = plan_workspace(cluster)
    assert (workspace.claim_name, workspace.mount_path) == ("nfs-storage-joe", "/storage/joe")
    pod = build_worker(cluster, "c-1")
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert volumes["workspace"]["persistentVolumeClaim"] == {"claimName": "nfs-storage-joe"}
    assert volumes["home"]["hostPath"] == {"path": "/storage/joe", "type": "Directory"}
    assert volumes["share"]["nfs"]["path"] == "/ns/c"
    assert volumes["csi"]["csi"]["volumeAttributes"] == {"dir": "joe/x"}
    agent = pod["spec"]["containers"][0]
    paths = {mount["name"]: mount["mountPath"] for mount in agent["volumeMounts"]}
    assert (paths["workspace"], paths["home"]) == ("/storage/joe", "/home/joe")
    assert {"name": "TASKCTL_WORKSPACE", "value": "/storage/joe"} in agent["env"]
    assert "${" not in str(pod)


def test_the_claim_that_is_made_selects_by_user() -> None:
    selector = {"matchLabels": {"username": "${USER}"}}
    claim = plan_workspace(raw_cluster(user="joe", workspace={"pvc": {"selector": selector}})).claim
    assert claim is not None
    assert claim["spec"]["selector"] == {"matchLabels": {"username": "joe"}}


def test_the_cluster_of_a_run_has_its_own_user() -> None:
    root = raw_task(spec={"cluster": OWL, "clusterName": None})
    cluster = build_run_cluster(root)
    name = cluster["metadata"]["name"]
    assert spec_problem(cluster) == ""
    assert expanded(cluster)["volumes"][1]["nfs"]["path"] == f"/ns/{name}"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("/a/$${USER}", "/a/${USER}"),
        ("/a/$$${USER}", "/a/$joe"),
        ("/a/$$$${USER}", "/a/$${USER}"),
        ("/a/$USER/$(USER)/$", "/a/$USER/$(USER)/$"),
        ("/a/${USER}${USER}", "/a/joejoe"),
        ("/${NAMESPACE}-${CLUSTER}", "/ns-c"),
    ],
)
def test_escapes(written: str, meant: str) -> None:
    cluster = raw_cluster(user="joe", workspace={"hostPath": {"path": written}})
    assert spec_problem(cluster) == ""
    assert plan_workspace(cluster).volume == {"name": "workspace", "hostPath": {"path": meant}}
    pod = build_worker(cluster, "c-1")  # replaced once, not twice
    assert {"name": "workspace", "hostPath": {"path": meant}} in pod["spec"]["volumes"]


HOST = {"name": "v", "hostPath": {"path": "/v"}}
CLAIM = {"name": "c", "persistentVolumeClaim": {"claimName": "${USER}"}}
BAD: list[tuple[Json, str, str]] = [
    ({"workspace": {"hostPath": {"path": "/${HOME}"}}}, "workspace.hostPath.path", "write $$"),
    ({"workspace": {"hostPath": {"path": "/${}"}}}, "workspace.hostPath.path", "write $$"),
    ({"workspace": {"hostPath": {"path": "/${user}"}}}, "workspace.hostPath.path", "${USER}"),
    ({"workspace": {"hostPath": {"path": "/${ USER }"}}}, "workspace.hostPath.path", "${USER}"),
    ({"workspace": {"nfs": {"server": "s", "path": "/${USER"}}}, "workspace.nfs.path", "${USER}"),
    ({"workspace": {"mountPath": "/${PWD}"}}, "workspace.mountPath", "${CLUSTER}"),
    ({"workspace": {"claimName": "a-${UID}"}}, "workspace.claimName", "${CLUSTER}"),
    ({"volumes": [HOST | {"hostPath": {"path": "/${A}"}}]}, "volumes[0].hostPath.path", "write $$"),
    (
        {"volumes": [HOST, {"name": "c", "persistentVolumeClaim": {"claimName": "${A}"}}]},
        "volumes[1].persistentVolumeClaim.claimName",
        "write $$",
    ),
    (
        {"volumes": [{"name": "c", "csi": {"driver": "d", "volumeAttributes": {"x": "${A}"}}}]},
        "volumes[0].csi.volumeAttributes.x",
        "write $$",
    ),
    (
        {"volumes": [HOST], "volumeMounts": [{"name": "v", "mountPath": "/${A}"}]},
        "volumeMounts[0].mountPath",
        "write $$",
    ),
    ({"workspace": {"hostPath": {"path": "/${USER}"}}}, "user", "is needed"),
    ({"user": "", "workspace": {"hostPath": {"path": "/${USER}"}}}, "user", "at least 1"),
    ({"user": ".."}, "user", "pattern"),
    ({"user": "a/b"}, "user", "pattern"),
    ({"user": "a\\b"}, "user", "pattern"),
    ({"user": "a:b"}, "user", "pattern"),
    ({"user": "a,b"}, "user", "pattern"),
    ({"user": "a\n"}, "user", "pattern"),
    ({"user": "-a"}, "user", "pattern"),
    ({"user": "a..b"}, "user", "'..'"),
    ({"user": "${CLUSTER}"}, "user", "pattern"),
    (
        {"user": "Joe", "workspace": {"claimName": "s-${USER}"}},
        "workspace.claimName",
        "'s-${USER}' becomes 's-Joe'",
    ),
    (
        {"user": "a@b", "volumes": [CLAIM]},
        "volumes[0].persistentVolumeClaim.claimName",
        "becomes 'a@b'",
    ),
    ({"workspace": {"hostPath": {"path": "/a/../${CLUSTER}"}}}, "workspace.hostPath.path", "'..'"),
    ({"workspace": {"nfs": {"server": "s", "path": ".."}}}, "workspace.nfs.path", "'..'"),
    ({"workspace": {"mountPath": "/x/../taskctl"}}, "workspace.mountPath", "'..'"),
    ({"user": "taskctl", "workspace": {"mountPath": "/${USER}"}}, "workspace.mountPath", "taskctl"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "path", "words"), BAD)
def test_refused_with_the_path(spec: Json, path: str, words: str) -> None:
    problem = spec_problem(raw_cluster(**spec))
    assert f"spec.{path}: " in problem
    assert words in problem
    build_worker(raw_cluster(**spec), "c-1")  # looked at before it is refused: must not raise


def test_refused_in_the_cluster_of_a_run() -> None:
    cluster = {"workspace": {"nfs": {"server": "s", "path": "/${HOME}"}}}
    spec = {"image": "i", "command": ["c"], "cluster": cluster}
    with pytest.raises(ValidationError) as caught:
        Task.model_validate({"metadata": {"name": "t"}, "spec": spec})
    (line,) = describe_errors(caught.value, Task)
    assert line.startswith("spec.cluster.workspace.nfs.path: ")


PIECES = st.lists(
    st.sampled_from(["$", "{", "}", "USER", "CLUSTER", "X", "a", "/", "${USER}", "$$", "\n"]),
    max_size=9,
).map("".join)


@given(PIECES)
def test_the_rules_of_the_server_are_those_of_the_controller(text: str) -> None:
    """What the API server takes has no variable left, and is asked for a user when it needs one."""
    sound = re.search(SOUND_TEXT[:-1] + r"\Z", text)
    cluster = raw_cluster(user="joe", workspace={"hostPath": {"path": f"/{text}"}})
    path = plan_workspace(cluster).volume["hostPath"]["path"]  # type: ignore[index]
    known = all(name in ("USER", "NAMESPACE", "CLUSTER") for name in variables_in(text))
    if sound:
        assert known
        assert bool(re.search(NEEDS_USER, text)) == ("USER" in variables_in(text))
    if sound and "$$" not in text:
        assert "${" not in path


@given(st.from_regex(USER_NAME[:-1] + r"\Z").filter(lambda name: ".." not in name))
def test_no_user_leaves_its_part_of_a_path(user: str) -> None:
    cluster = raw_cluster(user=user, workspace={"hostPath": {"path": "/s/${USER}/d"}})
    path = plan_workspace(cluster).volume["hostPath"]["path"]  # type: ignore[index]
    assert path.split("/") == ["", "s", user, "d"]
    assert user not in ("", ".", "..")
