"""Pods on the local node: what runs, what is reported, what is left behind."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taskctl.embedded.node.api import core_path
from taskctl.kube.interface import PatchType
from tests.embedded.node_world import NodeWorld, container_status, node_world

LOOP = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done"
WS = {"volumes": [{"name": "ws", "emptyDir": {}}]}
AT_WS = {"volumeMounts": [{"name": "ws", "mountPath": "/ws"}]}


@pytest.fixture
async def world() -> AsyncIterator[NodeWorld]:
    async with node_world() as world:
        yield world


async def test_a_pod_runs_is_ready_and_stops_in_good_order(world: NodeWorld) -> None:
    await world.pod("p", "sh", "-c", LOOP)
    pod = await world.ready("p")
    status = pod["status"]
    assert pod["spec"]["nodeName"] == "local"
    assert (status["phase"], status["podIP"], status["hostIP"]) == (
        "Running",
        "127.0.0.1",
        "127.0.0.1",
    )
    assert "running" in container_status(status, "main")["state"]
    assert await world.logs("p") == "up\n"
    files = world.options.paths.pod(pod["metadata"]["uid"])
    assert files.is_dir()
    await world.delete("pods", "p")
    await world.gone("pods", "p")

    async def left() -> bool:
        return files.exists()

    await world.until(left, lambda there: not there, "removed")
    assert [e["message"] for e in await world.events("Killing")] == ["Stopping containers main"]


async def test_environment_of_a_container(world: NodeWorld) -> None:
    await world.create("configmaps", "cm", data={"k": "from-map"})
    await world.create("secrets", "s", stringData={"k": "from-secret"})
    env = [
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['l']"}}},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "MAP", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "BOTH", "value": "$(NAME)-$(MAP)-$(NOTHING)-$$(NAME)"},
    ]
    await world.pod(
        "p",
        "sh",
        "-c",
        "echo $NAME $LABEL $NODE $MAP $SECRET $BOTH $0 $KUBERNETES_SERVICE_HOST; which taskctl",
        main={"env": env, "args": ["$(LABEL)"]},
        labels={"l": "v"},
        restartPolicy="Never",
    )
    pod = await world.until(
        lambda: world.get("pods", "p"), lambda p: p["status"]["phase"] == "Succeeded", "succeeded"
    )
    first = (await world.logs("p")).splitlines()[0]
    assert first == "p v local from-map from-secret p-from-map-$(NOTHING)-$(NAME) v 127.0.0.1"
    assert container_status(pod["status"], "main")["state"]["terminated"]["reason"] == "Completed"


async def test_service_account_token_is_mounted_and_good(world: NodeWorld) -> None:
    script = (
        "cd /var/run/secrets/kubernetes.io/serviceaccount; cat namespace; echo;"
        ' curl -s --cacert ca.crt -o /dev/null -w "%{http_code}"'
        ' -H "Authorization: Bearer $(cat token)"'
        " https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/api/v1/namespaces/default/pods/p"
    )
    await world.pod("p", "sh", "-c", script, restartPolicy="Never")
    await world.phase("p", "Succeeded")
    assert (await world.logs("p")).splitlines() == ["default", "200"]


async def test_the_data_directory_cannot_be_seen(world: NodeWorld) -> None:
    inside = {"name": "host", "hostPath": {"path": str(world.data_dir.parent)}}
    mount = {"volumeMounts": [{"name": "host", "mountPath": "/host"}]}
    token = world.options.paths.token_file
    script = f"cat {token}; ls -A /host/data | wc -l; ls /host"
    await world.pod("p", "sh", "-c", script, main=mount, volumes=[inside], restartPolicy="Never")
    await world.phase("p", "Succeeded")
    lines = (await world.logs("p")).splitlines()
    assert lines[1:] == ["0", "data"]
    assert token.read_text().strip() not in "".join(lines)


async def test_ephemeral_containers_run_once_beside_the_main_one(world: NodeWorld) -> None:
    pod = await world.pod("p", "sh", "-c", LOOP, **WS)
    await world.ready("p")
    for number in (1, 2, 3):
        await world.add("p", f"e{number}", "sh", "-c", f"echo {number} >> /ws/out; exit 4", **AT_WS)
    await world.add("p", "bad", "/no/such/program")
    for number in (1, 2, 3):
        ended = await world.state("p", f"e{number}", "terminated")
        assert ended["state"]["terminated"]["exitCode"] == 4
        assert ended["state"]["terminated"]["reason"] == "Error"
    bad = (await world.state("p", "bad", "terminated"))["state"]["terminated"]
    assert (bad["exitCode"], bad["reason"]) == (128, "StartError")
    assert "/no/such/program" in bad["message"]
    assert sorted((world.volume(pod, "ws") / "out").read_text().split()) == ["1", "2", "3"]
    assert (await world.get("pods", "p"))["status"]["phase"] == "Running"


async def test_a_crashing_container_is_restarted_with_back_off(world: NodeWorld) -> None:
    await world.pod("p", "sh", "-c", "echo run; exit 1")
    waiting = await world.state("p", "main", "waiting")
    while waiting["state"]["waiting"]["reason"] != "CrashLoopBackOff":
        waiting = await world.state("p", "main", "waiting")
    assert waiting["restartCount"] == 1  # the first restart comes at once
    assert waiting["lastState"]["terminated"]["exitCode"] == 1
    assert await world.logs("p", previous="true") == "run\n"
    await world.until(lambda: world.events("BackOff"), bool, "an event")


async def test_init_containers_run_in_order_before_the_others(world: NodeWorld) -> None:
    inits = [
        {"name": n, "image": "i", "command": ["sh", "-c", f"echo {n} >> /ws/out"], **AT_WS}
        for n in ("one", "two")
    ]
    pod = await world.pod(
        "p",
        "sh",
        "-c",
        "cat /ws/out",
        main=AT_WS,
        initContainers=inits,
        restartPolicy="Never",
        **WS,
    )
    await world.phase("p", "Succeeded")
    assert await world.logs("p") == "one\ntwo\n"
    assert (world.volume(pod, "ws") / "out").read_text() == "one\ntwo\n"


async def test_a_failed_init_container_fails_the_pod(world: NodeWorld) -> None:
    inits = [{"name": "i", "image": "i", "command": ["false"]}]
    await world.pod("p", "true", initContainers=inits, restartPolicy="Never")
    pod = await world.phase("p", "Failed")
    assert "waiting" in container_status(pod["status"], "main")["state"]


async def test_the_end_of_the_main_container_ends_ephemeral_ones(world: NodeWorld) -> None:
    await world.pod(
        "p",
        "sh",
        "-c",
        "while [ ! -e /ws/go ]; do sleep 0.02; done",
        main=AT_WS,
        restartPolicy="Never",
        **WS,
    )
    await world.ready("p")
    await world.add(
        "p", "e", "sh", "-c", "trap 'exit 5' TERM; touch /ws/go; sleep 60 & wait", **AT_WS
    )
    ended = await world.state("p", "e", "terminated")
    assert ended["state"]["terminated"]["exitCode"] == 5
    await world.phase("p", "Succeeded")


async def test_termination_message_is_reported(world: NodeWorld) -> None:
    await world.pod(
        "p", "sh", "-c", "printf why > /dev/termination-log; exit 1", restartPolicy="Never"
    )
    pod = await world.phase("p", "Failed")
    assert container_status(pod["status"], "main")["state"]["terminated"]["message"] == "why"


async def test_what_cannot_be_started_says_why_and_recovers(world: NodeWorld) -> None:
    env = [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "late", "key": "k"}}}]
    await world.pod("p", "sh", "-c", "echo $X", main={"env": env}, restartPolicy="Never")
    waiting = await world.state("p", "main", "waiting")
    while waiting["state"]["waiting"]["reason"] == "ContainerCreating":
        waiting = await world.state("p", "main", "waiting")
    assert waiting["state"]["waiting"]["reason"] == "CreateContainerConfigError"
    assert 'secret "late" not found' in waiting["state"]["waiting"]["message"]
    await world.create("secrets", "late", stringData={"k": "here"})
    await world.phase("p", "Succeeded")
    assert await world.logs("p") == "here\n"


async def test_an_invalid_image_name_keeps_the_container_waiting(world: NodeWorld) -> None:
    await world.pod("p", "true", main={"image": "UPPER/Case"})
    waiting = await world.state("p", "main", "waiting")
    while waiting["state"]["waiting"]["reason"] == "ContainerCreating":
        waiting = await world.state("p", "main", "waiting")
    assert waiting["state"]["waiting"]["reason"] == "InvalidImageName"


async def test_volumes_the_node_cannot_mount_are_told(world: NodeWorld) -> None:
    volume = {"name": "far", "nfs": {"server": "nfs.example", "path": "/"}}
    await world.pod("p", "true", volumes=[volume])
    events = await world.until(lambda: world.events("FailedMount"), bool, "an event")
    assert "mount it on the host yourself" in events[0]["message"]
    assert (await world.get("pods", "p"))["status"]["phase"] == "Pending"


async def test_config_and_secret_volumes(world: NodeWorld) -> None:
    await world.create("configmaps", "cm", data={"a": "1", "b": "2"})
    await world.create("secrets", "s", stringData={"k": "hidden"})
    volumes = [
        {"name": "c", "configMap": {"name": "cm", "items": [{"key": "b", "path": "x/y"}]}},
        {"name": "s", "secret": {"secretName": "s", "defaultMode": 0o400}},
        {
            "name": "d",
            "downwardAPI": {
                "items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
            },
        },
    ]
    mounts = [{"name": v["name"], "mountPath": f"/v/{v['name']}"} for v in volumes]
    script = "cat /v/c/x/y /v/s/k; cat /v/d/labels; touch /v/c/no"
    await world.pod(
        "p",
        "sh",
        "-c",
        script,
        main={"volumeMounts": mounts},
        volumes=volumes,
        labels={"l": "v"},
        restartPolicy="Never",
    )
    await world.phase("p", "Failed")  # the last command: these volumes are read-only
    assert '2hiddenl="v"' in (await world.logs("p")).splitlines()


async def test_parts_of_volumes(world: NodeWorld) -> None:
    """The key of a ConfigMap is a link, too; one that leads out of a volume is not followed."""
    await world.create("configmaps", "cm", data={"a": "config"})
    volumes = [{"name": "c", "configMap": {"name": "cm"}}, {"name": "e", "emptyDir": {}}]
    whole = [{"name": "e", "mountPath": "/e"}]
    parts = [
        {"name": "c", "mountPath": "/etc/x/a.conf", "subPath": "a"},
        {"name": "e", "mountPath": "/work", "subPath": "deep/er"},
    ]
    script = "cat /etc/x/a.conf && echo made > /work/f && ln -s /etc /e/out && cat /e/deep/er/f"
    pod = await world.pod(
        "p",
        "sh",
        "-c",
        script,
        main={"volumeMounts": parts + whole},
        volumes=volumes,
        restartPolicy="Never",
    )
    await world.phase("p", "Succeeded")
    assert await world.logs("p") == "configmade\n"
    assert (world.volume(pod, "e") / "out").is_symlink()
    (world.volume(pod, "e") / "out").unlink()
    source = [{"name": "h", "hostPath": {"path": str(world.volume(pod, "e"))}}]
    (world.volume(pod, "e") / "out").symlink_to("/etc")
    outside = [{"name": "h", "mountPath": "/x", "subPath": "out"}]
    await world.pod("q", "ls", "/x", main={"volumeMounts": outside}, volumes=source)
    waiting = await world.state("q", "main", "waiting")
    while waiting["state"]["waiting"]["reason"] == "ContainerCreating":
        waiting = await world.state("q", "main", "waiting")
    assert waiting["state"]["waiting"]["reason"] == "CreateContainerConfigError"
    assert "out of its volume" in waiting["state"]["waiting"]["message"]


async def test_claims_get_a_directory_that_pods_share(world: NodeWorld) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    volumes = [{"name": "ws", "persistentVolumeClaim": {"claimName": "data"}}]
    await world.pod(
        "a", "sh", "-c", "echo shared > /ws/f", main=AT_WS, volumes=volumes, restartPolicy="Never"
    )
    await world.create("persistentvolumeclaims", "data", spec=spec)
    await world.phase("a", "Succeeded")
    claim = await world.get("persistentvolumeclaims", "data")
    assert claim["status"]["phase"] == "Bound"
    assert claim["status"]["capacity"] == {"storage": "1Gi"}
    await world.pod("b", "cat", "/ws/f", main=AT_WS, volumes=volumes, restartPolicy="Never")
    await world.phase("b", "Succeeded")
    assert await world.logs("b") == "shared\n"
    directory = world.data_dir / "volumes" / "default" / "data"
    assert (directory / "f").read_text() == "shared\n"
    for name in ("a", "b"):
        await world.delete("pods", name)
        await world.gone("pods", name)
    await world.delete("persistentvolumeclaims", "data")

    async def there() -> bool:
        return directory.exists()

    await world.until(there, lambda yes: not yes, "removed")

    async def volumes_left() -> list[object]:
        return list((await world.api.get(core_path("persistentvolumes")))["items"])

    await world.until(volumes_left, lambda items: not items, "no volumes")


async def test_no_pod_starts_on_a_claim_that_is_being_deleted(world: NodeWorld) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    volumes = [{"name": "ws", "persistentVolumeClaim": {"claimName": "data"}}]
    await world.create("persistentvolumeclaims", "data", spec=spec)
    await world.pod("a", "sleep", "60", main=AT_WS, volumes=volumes)
    await world.ready("a")
    first = await world.get("persistentvolumeclaims", "data")
    await world.delete("persistentvolumeclaims", "data")
    await world.pod(
        "b", "sh", "-c", "echo new > /ws/f", main=AT_WS, volumes=volumes, restartPolicy="Never"
    )
    words = 'persistentvolumeclaim "data" is being deleted'
    await world.until(
        lambda: world.events("FailedScheduling"),
        lambda events: any(words in event["message"] for event in events),
        "told why",
    )
    await world.delete("pods", "a")
    await world.gone("persistentvolumeclaims", "data")
    await world.create("persistentvolumeclaims", "data", spec=spec)
    await world.phase("b", "Succeeded")
    second = await world.get("persistentvolumeclaims", "data")
    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    volume = await world.api.get(core_path("persistentvolumes", name=second["spec"]["volumeName"]))
    assert (Path(volume["spec"]["hostPath"]["path"]) / "f").read_text() == "new\n"


async def test_pods_wait_for_a_node_that_matches(world: NodeWorld) -> None:
    await world.pod("p", "sleep", "60", nodeSelector={"disk": "fast"})
    events = await world.until(lambda: world.events("FailedScheduling"), bool, "an event")
    assert "didn't match" in events[0]["message"]
    pod = await world.get("pods", "p")
    assert pod["status"]["conditions"][0]["reason"] == "Unschedulable"
    label = {"metadata": {"labels": {"disk": "fast"}}}
    await world.api.patch(core_path("nodes", name="local"), label)
    await world.ready("p")


async def test_the_node_object_and_its_lease(world: NodeWorld) -> None:
    await world.pod("p", "sleep", "60")
    await world.ready("p")
    node = await world.api.get(core_path("nodes", name="local"))
    ready = next(c for c in node["status"]["conditions"] if c["type"] == "Ready")
    assert ready["status"] == "True"
    assert node["status"]["nodeInfo"]["kernelVersion"] == os.uname().release
    assert stat.S_IMODE(world.options.paths.node_socket.stat().st_mode) == 0o600
    path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/local"
    lease = await world.api.get(path)
    assert lease["spec"]["holderIdentity"] == "local"


async def test_following_a_log_ends_with_the_container(world: NodeWorld) -> None:
    script = "for i in 1 2 3; do echo $i; sleep 0.1; done"
    await world.pod("p", "sh", "-c", script, restartPolicy="Never")
    await world.until(lambda: world.logs("p"), lambda text: "1\n" in text, "begun")
    assert await world.logs("p", follow="true") == "1\n2\n3\n"
    assert await world.logs("p", tailLines="1") == "3\n"
    assert await world.logs("p", limitBytes="3") == "1\n2"
    stamped = await world.logs("p", timestamps="true", tailLines="2")
    assert [line.split(" ")[1] for line in stamped.splitlines()] == ["2", "3"]


async def test_image_roots_cover_the_host(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "counter").write_text("#!/bin/sh\necho counted\n")
    (tmp_path / "app" / "counter").chmod(0o755)
    async with node_world(image_roots={"counter": tmp_path}) as world:
        image = {"image": "counter:latest"}
        await world.pod("p", "/app/counter", main=image, restartPolicy="Never")
        await world.phase("p", "Succeeded")
        assert await world.logs("p") == "counted\n"
        events = await world.until(lambda: world.events("ImageNotUnpacked"), bool, "an event")
        assert len(events) == 1


async def test_fields_without_effect_are_told(world: NodeWorld) -> None:
    probe = {"livenessProbe": {"exec": {"command": ["true"]}}}
    await world.pod("p", "sleep", "60", main=probe)
    events = await world.until(lambda: world.events("FieldsNotApplied"), bool, "an event")
    assert "spec.containers[].livenessProbe" in events[0]["message"]


async def test_a_finalizer_keeps_the_stopped_pod_visible(world: NodeWorld) -> None:
    await world.pod("p", "sh", "-c", LOOP)
    await world.ready("p")
    path = core_path("pods", "default", "p")
    await world.api.patch(path, {"metadata": {"finalizers": ["example.com/pin"]}})
    await world.add("p", "e", "sh", "-c", "trap 'exit 6' TERM; echo up; sleep 60 & wait")
    await world.until(lambda: world.logs("p", "e"), lambda text: "up" in text, "started")
    await world.delete("pods", "p")
    ended = await world.state("p", "e", "terminated")
    assert ended["state"]["terminated"]["exitCode"] == 6
    await world.state("p", "main", "terminated")
    await world.api.patch(path, {"metadata": {"finalizers": None}}, PatchType.MERGE)
    await world.gone("pods", "p")
