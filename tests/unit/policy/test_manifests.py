"""The worker pod, its volumes, and the entries of tasks in it."""

from __future__ import annotations

from typing import Any

import pytest

from taskctl.constants import TOKEN_PATH
from taskctl.policy.colocation import named_claims, sharing_of
from taskctl.policy.entry import (
    Ticket,
    append_body,
    build_entry,
    container_name,
    parse_entry,
)
from taskctl.policy.workerpod import (
    build_worker,
    parse_frame,
    template_hash,
    worker_prefix,
    worker_template,
)
from taskctl.policy.workersettings import WorkerSettings
from taskctl.policy.workspace import plan_workspace
from tests.unit.policy.build import NOW, raw_cluster, view

TICKET = Ticket(attempt=2, nonce="0" * 32, placed="2030-01-01T12:00:00.000000Z")


def frame_of(cluster: dict[str, Any]) -> dict[str, Any]:
    frame = parse_frame(build_worker(cluster, "c-1"))
    assert frame is not None
    return frame


def env_of(container: dict[str, Any]) -> dict[str, Any]:
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container["env"]}


def mounts_of(container: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    return {
        mount["name"]: (mount["mountPath"], mount.get("readOnly", False))
        for mount in container["volumeMounts"]
    }


# --- workspace ----------------------------------------------------------------------


def workspace(**spec: Any) -> Any:
    cluster = raw_cluster(workspace=spec)
    return plan_workspace(cluster)


def test_no_workspace() -> None:
    cluster = raw_cluster()
    assert plan_workspace(cluster).volume is None
    assert workspace(enable=False).volume is None


def test_default_is_a_claim_of_ours() -> None:
    plan = workspace()
    assert plan.claim["metadata"]["name"] == "c-workspace"
    assert plan.claim["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "volumeMode": "Filesystem",
    }
    assert plan.claim["metadata"]["annotations"] == {"taskctl.dev/reclaim": "Delete"}
    assert plan.volume == {
        "name": "workspace",
        "persistentVolumeClaim": {"claimName": "c-workspace"},
    }


@pytest.mark.parametrize("reclaim", ["Delete", "Retain"])
def test_the_garbage_collector_never_decides_on_a_claim(reclaim: str) -> None:
    metadata = workspace(reclaim=reclaim).claim["metadata"]
    assert "ownerReferences" not in metadata
    assert metadata["annotations"] == {"taskctl.dev/reclaim": reclaim}


def test_claim_as_asked_for() -> None:
    asked = {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "fast",
        "resources": {"requests": {"storage": "5Gi"}},
        "selector": {"matchLabels": {"a": "b"}},
    }
    plan = workspace(pvc=asked)
    assert asked.items() <= plan.claim["spec"].items()


@pytest.mark.parametrize(
    ("source", "volume"),
    [
        ({"claimName": "mine"}, {"persistentVolumeClaim": {"claimName": "mine"}}),
        ({"hostPath": {"path": "/x"}}, {"hostPath": {"path": "/x"}}),
        ({"nfs": {"server": "s", "path": "/"}}, {"nfs": {"server": "s", "path": "/"}}),
        ({"emptyDir": {}}, {"emptyDir": {}}),
    ],
)
def test_other_sources(source: dict[str, Any], volume: dict[str, Any]) -> None:
    plan = workspace(**source, mountPath="/data")
    assert plan.volume == {"name": "workspace"} | volume
    assert plan.claim is None
    assert plan.mount_path == "/data"


# --- worker -------------------------------------------------------------------------


def test_worker_pod() -> None:
    cluster = raw_cluster(workspace={}, deploymentName="farm", workerImage="reg/taskctl:1")
    pod = build_worker(cluster, "farm-1")
    assert worker_prefix(cluster) == "farm"
    assert pod["metadata"]["ownerReferences"][0]["controller"] is True
    assert pod["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "taskctl",
        "taskctl.dev/cluster": "c",
        "taskctl.dev/cluster-uid": "uid-c",
    }
    spec = pod["spec"]
    assert spec["restartPolicy"] == "Always"
    assert spec["serviceAccountName"] == "taskctl-worker"
    (agent,) = spec["containers"]
    assert (agent["name"], agent["image"]) == ("agent", "reg/taskctl:1")
    assert agent["command"] == ["taskctl", "agent"]
    assert env_of(agent)["POD_UID"] == {"fieldRef": {"fieldPath": "metadata.uid"}}
    assert env_of(agent)["TASKCTL_CLUSTER"] == "c"
    assert mounts_of(agent) == {
        "taskctl-runtime": ("/taskctl", False),
        "taskctl-state": ("/taskctl-state", False),
        "taskctl-token": (TOKEN_PATH, True),
        "workspace": ("/workspace", False),
    }
    assert {volume["name"] for volume in spec["volumes"]} == set(mounts_of(agent))


def test_the_agent_knows_whether_results_stand_in_the_task() -> None:
    specs: list[dict[str, Any]] = [{}, {"inlineOutputs": False}, {"inlineOutputs": True}]
    for spec, value in zip(specs, (None, None, "1"), strict=True):
        (agent,) = build_worker(raw_cluster(**spec), "c-1")["spec"]["containers"]
        assert env_of(agent).get("TASKCTL_INLINE_OUTPUTS") == value


def test_image_of_the_controller_unless_the_cluster_names_one() -> None:
    for cluster, image in ((raw_cluster(), "a:1"), (raw_cluster(workerImage="b:2"), "b:2")):
        spec = build_worker(cluster, "c-1", WorkerSettings(image="a:1"))["spec"]
        assert [one["image"] for one in spec["initContainers"] + spec["containers"]] == [image] * 2
    one, other = (
        template_hash(worker_template(raw_cluster(), WorkerSettings(image=image)))
        for image in ("a:1", "a:2")
    )
    assert one != other, "a new image rotates the workers"


def test_agents_serve_metrics_where_the_controller_says_so() -> None:
    (agent,) = build_worker(raw_cluster(), "c-1")["spec"]["containers"]
    assert "ports" not in agent
    assert not {"TASKCTL_METRICS_PORT", "POD_IP"} & env_of(agent).keys()
    settings = WorkerSettings(metrics_port=9464)
    pod = build_worker(raw_cluster(), "c-1", settings)["spec"]
    (agent,) = pod["containers"]
    assert agent["ports"] == [{"name": "metrics", "containerPort": 9464, "protocol": "TCP"}]
    assert env_of(agent)["TASKCTL_METRICS_PORT"] == "9464"
    (address,) = [one for one in agent["env"] if one["name"] == "POD_IP"]
    assert address["valueFrom"] == {"fieldRef": {"fieldPath": "status.podIP"}}
    assert not any("ports" in one for one in pod["initContainers"])
    plain, served = (
        template_hash(worker_template(raw_cluster(), s)) for s in (WorkerSettings(), settings)
    )
    assert plain != served, "workers made before are replaced"


def test_the_token_is_for_the_agent_and_for_tasks_that_are_to_have_it() -> None:
    """As the kubelet's own volume, but mounted where it is needed and nowhere else."""
    cluster = raw_cluster(workspace={})
    spec = build_worker(cluster, "c-1")["spec"]
    assert spec["automountServiceAccountToken"] is False
    (prepare,), (agent,) = spec["initContainers"], spec["containers"]
    assert "taskctl-token" in mounts_of(agent)
    assert "taskctl-token" not in mounts_of(prepare)
    assert "taskctl-token" not in {m["name"] for m in frame_of(cluster)["volumeMounts"]}
    (volume,) = [v for v in spec["volumes"] if v["name"] == "taskctl-token"]
    kinds = [next(iter(source)) for source in volume["projected"]["sources"]]
    assert sorted(kinds) == ["configMap", "downwardAPI", "serviceAccountToken"]
    named = raw_cluster(serviceAccountName="robot")
    assert build_worker(named, "c-1")["spec"]["serviceAccountName"] == "robot"
    mounts = {m["name"]: m["mountPath"] for m in frame_of(named)["volumeMounts"]}
    assert mounts["taskctl-token"] == TOKEN_PATH


def test_every_mount_has_a_volume() -> None:
    cluster = raw_cluster(
        workspace={},
        serviceAccountName="robot",
        volumes=[{"name": "data", "emptyDir": {}}],
        volumeMounts=[{"name": "data", "mountPath": "/data"}],
    )
    pod = build_worker(cluster, "c-1")
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    task_mounts = {mount["name"] for mount in frame_of(cluster)["volumeMounts"]}
    assert task_mounts == {"taskctl-runtime", "workspace", "data", "taskctl-token"}
    assert task_mounts <= volumes
    assert set(mounts_of(pod["spec"]["containers"][0])) <= volumes
    assert "taskctl-state" not in task_mounts, "the agent's memory is no task's business"


def test_restricted_by_default() -> None:
    pod = build_worker(raw_cluster(), "c-1")["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["initContainers"] + pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
    frame = frame_of(raw_cluster())
    assert frame["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "readOnlyRootFilesystem" not in frame["securityContext"], "tasks may write to theirs"


def test_template_has_the_last_word_on_security() -> None:
    cluster = raw_cluster(template={"securityContext": {"runAsUser": 7, "fsGroup": 8}})
    security = build_worker(cluster, "c-1")["spec"]["securityContext"]
    assert (security["runAsUser"], security["fsGroup"], security["runAsNonRoot"]) == (7, 8, True)
    root = raw_cluster(template={"securityContext": {"runAsUser": 0}})
    pod = build_worker(root, "c-1")["spec"]
    assert "runAsNonRoot" not in pod["securityContext"]
    assert "securityContext" not in pod["containers"][0]
    assert "securityContext" not in frame_of(root)


def test_one_node_for_a_claim_that_allows_no_more() -> None:
    given = {"nodeAffinity": {"x": 1}}
    cluster = raw_cluster(workspace={}, template={"affinity": given})
    affinity = build_worker(cluster, "c-1")["spec"]["affinity"]
    assert affinity["nodeAffinity"] == {"x": 1}
    (term,) = affinity["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["topologyKey"] == "kubernetes.io/hostname"
    many = raw_cluster(workspace={"pvc": {"accessModes": ["ReadWriteMany"]}})
    assert "affinity" not in build_worker(many, "c-1")["spec"]


MINE = {"claimName": "mine"}
ONE, ALL = ["ReadWriteOnce"], ["ReadWriteMany"]
VOLUMES = [
    {"name": "a", "persistentVolumeClaim": {"claimName": "data"}},
    {"name": "b", "emptyDir": {}},
    {"name": "c", "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ONE}}}},
]


@pytest.mark.parametrize(
    ("spec", "modes", "together"),
    [
        ({"workspace": MINE}, {"mine": ONE}, True),
        ({"workspace": MINE}, {"mine": ["ReadWriteOncePod"]}, True),
        ({"workspace": MINE}, {"mine": ALL}, False),
        ({"workspace": MINE}, {"mine": ["ReadOnlyMany"]}, False),
        ({"workspace": MINE}, {"mine": None}, True),
        ({"workspace": {"claimName": "mine", "enable": False}}, {}, None),
        ({"volumes": VOLUMES}, {"data": ONE}, True),
        ({"volumes": VOLUMES}, {"data": ALL}, False),
        ({"volumes": VOLUMES[1:]}, {}, None),
        ({"workspace": MINE, "volumes": VOLUMES}, {"mine": ALL, "data": ONE}, True),
        ({"workspace": MINE, "volumes": VOLUMES}, {"mine": ALL, "data": ALL}, False),
    ],
)
def test_workers_keep_together_for_every_claim_of_one_node(
    spec: dict[str, Any], modes: dict[str, list[str] | None], together: bool | None
) -> None:
    cluster = raw_cluster(**spec)
    names = named_claims(cluster)
    assert set(names) == set(modes)
    pod = build_worker(cluster, "c-1", sharing=sharing_of(modes[name] for name in names))["spec"]
    assert bool(pod.get("affinity", {}).get("podAffinity")) is (together is True)
    assert bool(pod.get("topologySpreadConstraints")) is (together is False)


def test_template_is_passed_on() -> None:
    template = {
        "nodeSelector": {"a": "b"},
        "tolerations": [{"key": "k"}],
        "imagePullSecrets": [{"name": "s"}],
        "resources": {"requests": {"cpu": "1"}},
    }
    spec = build_worker(raw_cluster(template=template), "c-1")["spec"]
    assert spec["nodeSelector"] == {"a": "b"}
    assert spec["tolerations"] == [{"key": "k"}]
    assert spec["imagePullSecrets"] == [{"name": "s"}]
    assert spec["containers"][0]["resources"] == {"requests": {"cpu": "1"}}


def test_fingerprint_follows_what_pods_are_made_of() -> None:
    base = template_hash(worker_template(raw_cluster()))
    assert template_hash(worker_template(raw_cluster(replicas=9, slotsPerWorker=2))) == base
    assert template_hash(worker_template(raw_cluster(workerImage="new"))) != base
    assert template_hash(worker_template(raw_cluster(workspace={}))) != base


# --- entry --------------------------------------------------------------------------


def test_entry_round_trip() -> None:
    task = view(spec={"image": "busybox"})
    entry = build_entry(task, TICKET, frame_of(raw_cluster(workspace={})))
    assert entry["name"] == container_name("uid-t", 2)
    assert entry["command"] == ["/taskctl/bin/taskctl-init"]
    assert entry["imagePullPolicy"] == "IfNotPresent"
    assert entry["terminationMessagePolicy"] == "File"
    env = env_of(entry)
    assert env["TASKCTL_NONCE"] == "0" * 32
    assert env["TASKCTL_SOCKET"] == "/taskctl/agent.sock"
    assert mounts_of(entry) == {
        "taskctl-runtime": ("/taskctl", True),
        "workspace": ("/workspace", False),
    }
    read = parse_entry(entry)
    assert read is not None
    assert (read.task_name, read.task_uid, read.attempt) == ("t", "uid-t", 2)
    assert (read.placed, read.image) == (NOW, "busybox")


def test_only_references_are_in_the_entry() -> None:
    secret = {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    task = view(spec={"env": [{"name": "PLAIN", "value": "x"}, secret]})
    env = env_of(build_entry(task, TICKET, {}))
    assert "PLAIN" not in env
    assert env["S"] == secret["valueFrom"]


def test_read_only_workspace() -> None:
    frame = frame_of(raw_cluster(workspace={}))
    entry = build_entry(view(spec={"readOnlyWorkspace": True}), TICKET, frame)
    assert mounts_of(entry)["workspace"] == ("/workspace", True)
    assert mounts_of(build_entry(view(), TICKET, frame))["workspace"] == ("/workspace", False)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "debugger"},
        {"name": "t-0123456789-2"},
        {"env": []},
        {"env": [{"name": "TASKCTL_TASK_UID", "value": "uid-t"}]},
    ],
)
def test_strangers_are_not_taken_for_ours(change: dict[str, Any]) -> None:
    assert parse_entry(build_entry(view(), TICKET, {}) | change) is None


def test_patch_holds_new_entries_and_the_uid() -> None:
    entry = build_entry(view(), TICKET, {})
    body = append_body("pod-1", [entry])
    assert body["metadata"] == {"uid": "pod-1"}
    assert body["spec"] == {"ephemeralContainers": [entry]}


def test_frame_that_cannot_be_read() -> None:
    assert parse_frame({"metadata": {}}) is None
    assert parse_frame({"metadata": {"annotations": {"taskctl.dev/task-frame": "{"}}}) is None


def template_of(**spec: Any) -> dict[str, Any]:
    return build_worker(raw_cluster(**spec), "c-1")


def test_what_the_template_says_reaches_the_pod() -> None:
    pod = template_of(
        template={
            "labels": {"team": "a"},
            "annotations": {"note": "x"},
            "priorityClassName": "high",
            "runtimeClassName": "gvisor",
            "imagePullPolicy": "Always",
        }
    )
    assert pod["metadata"]["labels"]["team"] == "a"
    assert pod["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "taskctl"
    assert pod["metadata"]["annotations"]["note"] == "x"
    assert (pod["spec"]["priorityClassName"], pod["spec"]["runtimeClassName"]) == ("high", "gvisor")
    own = pod["spec"]["initContainers"] + pod["spec"]["containers"]
    assert {container["imagePullPolicy"] for container in own} == {"Always"}
    frame = parse_frame(pod)
    assert frame is not None
    assert build_entry(view(), TICKET, frame)["imagePullPolicy"] == "Always"


def test_a_changed_label_makes_other_workers() -> None:
    plain, labelled = (
        worker_template(raw_cluster(template=template))
        for template in ({}, {"labels": {"team": "a"}})
    )
    assert template_hash(plain) != template_hash(labelled)


@pytest.mark.parametrize("own", [None, "mine"])
def test_the_queue_of_kueue_reaches_the_workers(own: str | None) -> None:
    key = "kueue.x-k8s.io/queue-name"
    cluster = raw_cluster(template={"labels": {key: own}} if own else {})
    cluster["metadata"]["labels"] = {key: "team-queue", "other": "x"}
    labels = build_worker(cluster, "c-1")["metadata"]["labels"]
    assert labels[key] == (own or "team-queue")
    assert "other" not in labels


def test_images_are_pulled_before_a_worker_serves() -> None:
    spec = template_of(images=["i:1", "i:2"])["spec"]
    prepare, *pulls = spec["initContainers"]
    assert prepare["name"] == "prepare", "taskctl-init has to be there"
    assert [(one["name"], one["image"]) for one in pulls] == [("pull-1", "i:1"), ("pull-2", "i:2")]
    for one in pulls:
        assert one["command"] == ["/taskctl/bin/taskctl-init", "version"]
        assert one["volumeMounts"][0]["readOnly"] is True
        assert one["securityContext"]["allowPrivilegeEscalation"] is False


MANY = {"pvc": {"accessModes": ["ReadWriteMany"]}}
ZONES = {"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}


@pytest.mark.parametrize(
    ("workspace", "given", "keys"),
    [
        ({}, None, []),
        (MANY, None, ["kubernetes.io/hostname"]),
        (MANY, [], []),
        (MANY, [ZONES], ["zone"]),
        ({}, [ZONES, {**ZONES, "labelSelector": {"matchLabels": {"a": "b"}}}], ["zone", "zone"]),
    ],
)
def test_workers_spread(workspace: Any, given: Any, keys: list[str]) -> None:
    template = {} if given is None else {"topologySpreadConstraints": given}
    spec = template_of(workspace=workspace, template=template)["spec"]
    found = spec.get("topologySpreadConstraints") or []
    assert [constraint["topologyKey"] for constraint in found] == keys
    assert all(constraint["labelSelector"]["matchLabels"] for constraint in found)
