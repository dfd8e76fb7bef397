"""What people type."""

from __future__ import annotations

import asyncio
import json
import secrets
from pathlib import Path

import pytest
import yaml

from tests.conformance.programs import Kubectl
from tests.conformance.samples import NOBODY, config_map, pod
from tests.conformance.target import GROUP, WAIT_S, Api, Json, widget, widget_crd

pytestmark = pytest.mark.kubectl


def manifest(tmp_path: Path, *objects: Json) -> str:
    """Write objects to a file; return its name."""
    path = tmp_path / "manifest.yaml"
    path.write_text("---\n".join(yaml.safe_dump(obj) for obj in objects))
    return str(path)


async def test_get(api: Api, kubectl: Kubectl) -> None:
    (await api.create(api.widgets(), widget("a", size=7))).ok()
    lines = (await kubectl("get", "widgets")).out.splitlines()
    assert lines[0].split() == ["NAME", "SIZE", "STATE", "AGE"]
    assert lines[1].split()[:3] == ["a", "7", "New"]
    wide = (await kubectl("get", "wix", "-o", "wide")).out.splitlines()
    assert wide[0].split() == ["NAME", "SIZE", "STATE", "COLOR", "AGE"]
    assert wide[1].split()[3] == "red"


async def test_get_as_json_yaml_name_and_path(api: Api, kubectl: Kubectl) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    assert json.loads((await kubectl("get", "widget", "a", "-o", "json")).out)["spec"]["size"] == 1
    assert (
        yaml.safe_load((await kubectl("get", "widget", "a", "-o", "yaml")).out)["kind"] == "Widget"
    )
    assert (await kubectl("get", "widget", "-o", "name")).out == f"widget.{GROUP}/a\n"
    found = await kubectl("get", "widget", "a", "-o", "jsonpath={.status.state}")
    assert found.out == "New"


async def test_get_selected_and_sorted(api: Api, kubectl: Kubectl) -> None:
    for name, size in (("a", 3), ("b", 1), ("c", 2)):
        body = widget(name, size=size)
        body["metadata"]["labels"] = {"big": "yes" if size > 1 else "no"}
        (await api.create(api.widgets(), body)).ok()
    found = await kubectl("get", "widgets", "-l", "big=yes", "--no-headers")
    assert [line.split()[0] for line in found.out.splitlines()] == ["a", "c"]
    found = await kubectl("get", "widgets", "--sort-by=.spec.size", "--no-headers")
    assert [line.split()[0] for line in found.out.splitlines()] == ["b", "c", "a"]
    found = await kubectl("get", "widgets", "--field-selector", "metadata.name=b", "-o", "name")
    assert found.out == f"widget.{GROUP}/b\n"


async def test_get_nothing(api: Api, kubectl: Kubectl) -> None:
    assert "No resources found" in (await kubectl("get", "widgets")).err
    missing = await kubectl("get", "widget", "nobody", code=1)
    assert missing.err == f'Error from server (NotFound): widgets.{GROUP} "nobody" not found\n'


async def test_get_in_chunks(api: Api, kubectl: Kubectl) -> None:
    for index in range(7):
        (await api.create(api.widgets(), widget(f"w{index}"))).ok()
    found = await kubectl("get", "widgets", "--chunk-size=3", "-o", "name")
    assert len(found.out.splitlines()) == 7


async def test_get_and_watch(api: Api, tmp_path: Path, kubectl: Kubectl) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()

    async def act() -> None:
        await asyncio.sleep(1.0)
        (await api.patch(api.widgets("a", "status"), {"status": {"state": "Busy"}})).ok()
        (await api.create(api.widgets(), widget("b"))).ok()

    async with asyncio.TaskGroup() as group:
        group.create_task(act())
        shown = await kubectl("get", "widgets", "-w", "--request-timeout=4s", "--no-headers")
    rows = [line.split()[:3] for line in shown.out.splitlines()]
    assert rows == [["a", "1", "New"], ["a", "1", "Busy"], ["b", "1", "New"]]


async def test_apply(api: Api, tmp_path: Path, kubectl: Kubectl) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "m"},
        "data": {"a": "1", "b": "2"},
    }
    name = manifest(tmp_path, widget("a", target="t"), config)
    created = (await kubectl("apply", "-f", name)).out
    assert created == f"widget.{GROUP}/a created\nconfigmap/m created\n"
    again = (await kubectl("apply", "-f", name)).out
    assert again == f"widget.{GROUP}/a unchanged\nconfigmap/m unchanged\n"
    config["data"] = {"a": "3"}
    name = manifest(tmp_path, widget("a", size=2), config)
    changed = (await kubectl("apply", "-f", name)).out
    assert changed == f"widget.{GROUP}/a configured\nconfigmap/m configured\n"
    spec = (await api.get(api.widgets("a"))).ok()["spec"]
    assert spec["size"] == 2
    assert "target" not in spec
    assert (await api.get(api.core("configmaps", "m"))).ok()["data"] == {"a": "3"}


async def test_apply_on_the_server(api: Api, tmp_path: Path, kubectl: Kubectl) -> None:
    name = manifest(tmp_path, widget("a", target="t"))
    applied = (await kubectl("apply", "--server-side", "-f", name)).out
    assert applied == f"widget.{GROUP}/a serverside-applied\n"
    (await api.patch(api.widgets("a"), {"spec": {"size": 9}}, fieldManager="other")).ok()
    refused = await kubectl("apply", "--server-side", "-f", name, code=1)
    assert 'Apply failed with 1 conflict: conflict with "other"' in refused.err
    assert ".spec.size" in refused.err
    await kubectl("apply", "--server-side", "--force-conflicts", "-f", name)
    assert (await api.get(api.widgets("a"))).ok()["spec"]["size"] == 1


async def test_apply_says_what_is_wrong(api: Api, tmp_path: Path, kubectl: Kubectl) -> None:
    refused = await kubectl("apply", "-f", manifest(tmp_path, widget("a", colour="red")), code=1)
    if kubectl.program.minor >= 25:  # the server is asked to be strict
        assert 'unknown field "spec.colour"' in refused.err
    else:  # checked against the server's OpenAPI document, version 2
        assert 'unknown field "colour" in test.taskctl.conformance.v1.Widget.spec' in refused.err
    refused = await kubectl("apply", "-f", manifest(tmp_path, widget("a", color="blue")), code=1)
    assert 'spec.color: Unsupported value: "blue": supported values: "red", "green"' in refused.err


async def test_diff_and_dry_run(api: Api, tmp_path: Path, kubectl: Kubectl) -> None:
    name = manifest(tmp_path, widget("a"))
    shown = (await kubectl("apply", "--dry-run=server", "-f", name)).out
    assert shown == f"widget.{GROUP}/a created (server dry run)\n"
    (await api.get(api.widgets("a"))).refused(404, "NotFound")


async def test_create_and_delete(api: Api, tmp_path: Path, kubectl: Kubectl) -> None:
    name = manifest(tmp_path, widget("a"))
    assert (await kubectl("create", "-f", name)).out == f"widget.{GROUP}/a created\n"
    twice = await kubectl("create", "-f", name, code=1)
    assert "AlreadyExists" in twice.err
    assert '"a" deleted' in (await kubectl("delete", "-f", name)).out
    (await api.get(api.widgets("a"))).refused(404, "NotFound")
    gone = await kubectl("delete", "widget", "a", "--ignore-not-found")
    assert gone.out == ""


async def test_delete_waits_for_finalizers(api: Api, kubectl: Kubectl) -> None:
    body = widget("a")
    body["metadata"]["finalizers"] = ["test.taskctl.test/hold"]
    (await api.create(api.widgets(), body)).ok()
    async with asyncio.TaskGroup() as group:
        deleting = group.create_task(kubectl("delete", "widget", "a"))
        await api.until(api.widgets("a"), lambda body: "deletionTimestamp" in body["metadata"])
        await asyncio.sleep(0.3)
        assert not deleting.done()
        (await api.patch(api.widgets("a"), {"metadata": {"finalizers": None}})).ok()
    assert '"a" deleted' in deleting.result().out


async def test_delete_all(api: Api, kubectl: Kubectl) -> None:
    for name in ("a", "b"):
        (await api.create(api.widgets(), widget(name))).ok()
    await kubectl("delete", "widgets", "--all")
    assert (await api.get(api.widgets())).ok()["items"] == []


async def test_wait_for_a_condition(api: Api, kubectl: Kubectl) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(
            kubectl("wait", "--for=condition=Ready", "widget/a", f"--timeout={WAIT_S}s")
        )
        await asyncio.sleep(0.7)
        for value in ("False", "True"):
            status = {"status": {"conditions": [{"type": "Ready", "status": value}]}}
            (await api.patch(api.widgets("a", "status"), status)).ok()
    assert waiting.result().out == f"widget.{GROUP}/a condition met\n"
    late = await kubectl("wait", "--for=condition=Other", "widget/a", "--timeout=1s", code=1)
    assert "timed out waiting for the condition" in late.err


async def test_wait_for_the_end(api: Api, kubectl: Kubectl) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    async with asyncio.TaskGroup() as group:
        group.create_task(kubectl("wait", "--for=delete", "widget/a", f"--timeout={WAIT_S}s"))
        await asyncio.sleep(0.7)
        (await api.delete(api.widgets("a"))).ok()


async def test_wait_for_a_value(api: Api, kubectl: Kubectl) -> None:
    kubectl.needs(23, "wait knows no JSONPath")
    (await api.create(api.widgets(), widget("a"))).ok()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(
            kubectl(
                "wait", "--for=jsonpath={.status.state}=Done", "widget/a", f"--timeout={WAIT_S}s"
            )
        )
        await asyncio.sleep(0.7)
        (await api.patch(api.widgets("a", "status"), {"status": {"state": "Done"}})).ok()
    assert waiting.result().out == f"widget.{GROUP}/a condition met\n"


async def happen(api: Api) -> None:
    """Make a widget, and an event about it."""
    made = (await api.create(api.widgets(), widget("a", size=7))).ok()
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "a.1", "namespace": api.namespace},
        "involvedObject": {
            "apiVersion": f"{GROUP}/v1",
            "kind": "Widget",
            "name": "a",
            "namespace": api.namespace,
            "uid": made["metadata"]["uid"],
        },
        "reason": "Tested",
        "message": "it was seen to work",
        "type": "Normal",
        "count": 1,
        "firstTimestamp": made["metadata"]["creationTimestamp"],
        "lastTimestamp": made["metadata"]["creationTimestamp"],
        "source": {"component": "test"},
    }
    (await api.create(api.core("events"), event)).ok()


async def test_describe_with_events(api: Api, kubectl: Kubectl) -> None:
    await happen(api)
    shown = (await kubectl("describe", "widget", "a")).out
    assert "Size:   7" in shown
    assert "Tested" in shown
    assert "it was seen to work" in shown
    listed = (await kubectl("get", "events")).out
    assert "Tested" in listed
    assert "widget/a" in listed


async def test_events_of_an_object(api: Api, kubectl: Kubectl) -> None:
    kubectl.needs(26, "there is no such command")
    await happen(api)
    assert "it was seen to work" in (await kubectl("events", "--for", "widget/a")).out


async def test_describe_pod(api: Api, kubectl: Kubectl) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    shown = (await kubectl("describe", "pod", "p")).out
    assert "example.test/main:1" in shown
    assert "Pending" in shown
    lines = (await kubectl("get", "pods")).out.splitlines()
    assert lines[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert lines[1].split()[:4] == ["p", "0/1", "Pending", "0"]


async def test_apply_to_a_pod(api: Api, tmp_path: Path, kubectl: Kubectl) -> None:
    body: Json = {"apiVersion": "v1", "kind": "Pod", **pod()}
    assert (await kubectl("apply", "-f", manifest(tmp_path, body))).out == "pod/p created\n"
    made = (await api.get(api.core("pods", "p"))).ok()
    await kubectl("apply", "-f", manifest(tmp_path, body))
    again = (await api.get(api.core("pods", "p"))).ok()
    assert again["metadata"]["generation"] == made["metadata"]["generation"] == 1
    body["metadata"]["labels"] = {"a": "b"}
    body["spec"]["containers"][0]["image"] = "example.test/main:2"
    assert (await kubectl("apply", "-f", manifest(tmp_path, body))).out == "pod/p configured\n"
    made = (await api.get(api.core("pods", "p"))).ok()
    assert made["spec"]["containers"][0]["image"] == "example.test/main:2"
    assert made["metadata"]["labels"] == {"a": "b"}
    body["spec"]["hostname"] = "h"
    refused = await kubectl("apply", "-f", manifest(tmp_path, body), code=1)
    assert "pod updates may not change fields other than" in refused.err
    await kubectl("delete", "pod", "p", "--grace-period=0", "--force")
    (await api.get(api.core("pods", "p"))).refused(404, "NotFound")


async def test_apply_from_client_to_server_side(api: Api, tmp_path: Path, kubectl: Kubectl) -> None:
    """What kubectl's own apply has set, its server-side apply takes over without force."""
    config = config_map("m", a="1", b="2")
    await kubectl("apply", "-f", manifest(tmp_path, config))
    config["data"] = {"a": "3", "b": "2"}
    await kubectl("apply", "--server-side", "-f", manifest(tmp_path, config))
    assert (await api.get(api.core("configmaps", "m"))).ok()["data"] == {"a": "3", "b": "2"}


async def test_apply_of_a_definition(api: Api, tmp_path: Path, kubectl: Kubectl) -> None:
    group = f"g{secrets.token_hex(3)}.taskctl.test"
    crd = widget_crd(group, "gadgets")
    name = f"customresourcedefinition.apiextensions.k8s.io/gadgets.{group}"
    try:
        applied = await kubectl("apply", "-f", manifest(tmp_path, crd))
        assert applied.out == f"{name} created\n"
        await kubectl("wait", "--for=condition=Established", name, f"--timeout={WAIT_S}s")
        made = {**widget("a"), "apiVersion": f"{group}/v1", "kind": "Gadget"}
        # The document with the new kind's schema may take a second.
        await api.until(api.path(f"/apis/{group}/v1", "gadgets"), lambda body: True)
        await kubectl("create", "-f", manifest(tmp_path, made), "--validate=false")
        shown = await kubectl("get", f"gadgets.{group}", "--no-headers")
        assert shown.out.split()[:3] == ["a", "1", "New"]
        again = await kubectl("apply", "-f", manifest(tmp_path, crd))
        assert again.out == f"{name} unchanged\n"
    finally:
        await kubectl("delete", name, "--ignore-not-found")


async def test_apply_from_a_pipe(api: Api, kubectl: Kubectl) -> None:
    text = json.dumps(config_map("m", a="1"))
    assert (await kubectl("apply", "-f", "-", stdin=text)).out == "configmap/m created\n"
    shown = (await kubectl("apply", "view-last-applied", "configmap", "m", "-o", "json")).out
    assert json.loads(shown)["data"] == {"a": "1"}


async def test_diff(api: Api, tmp_path: Path, kubectl: Kubectl) -> None:
    config = config_map("m", a="1")
    name = manifest(tmp_path, config)
    await kubectl("apply", "-f", name)
    assert (await kubectl("diff", "-f", name)).out == ""
    shown = await kubectl("diff", "-f", manifest(tmp_path, config_map("m", a="2")), code=1)
    assert '-  a: "1"\n+  a: "2"' in shown.out


async def test_run(api: Api, kubectl: Kubectl) -> None:
    overrides = json.dumps({"apiVersion": "v1", "spec": {"schedulerName": NOBODY}})
    await kubectl("run", "p", "--image=i:1", "--restart=Never", f"--overrides={overrides}")
    spec = (await api.get(api.core("pods", "p"))).ok()["spec"]
    assert (spec["containers"][0]["image"], spec["restartPolicy"]) == ("i:1", "Never")


async def test_version_and_raw_paths(api: Api, kubectl: Kubectl) -> None:
    shown = json.loads((await kubectl("version", "-o", "json")).out)
    assert int(shown["serverVersion"]["minor"].rstrip("+")) >= 32
    assert (await kubectl("get", "--raw", "/readyz")).out == "ok"


async def test_get_in_columns_of_ones_own(api: Api, kubectl: Kubectl) -> None:
    (await api.create(api.widgets(), widget("a", size=7))).ok()
    shown = await kubectl("get", "widgets", "-o", "custom-columns=N:.metadata.name,S:.spec.size")
    assert [line.split() for line in shown.out.splitlines()] == [["N", "S"], ["a", "7"]]
    everywhere = (await kubectl("get", "widgets", "-A", "--no-headers")).out.splitlines()
    assert [api.namespace, "a"] in [line.split()[:2] for line in everywhere]
    (await api.create(api.core("configmaps"), config_map("m", a="1"))).ok()
    items = yaml.safe_load((await kubectl("get", "configmaps", "-o", "yaml")).out)["items"]
    assert {item["kind"] for item in items} == {"ConfigMap"}


async def test_explain(api: Api, kubectl: Kubectl) -> None:
    shown = (await kubectl("explain", "widget.spec.size")).out
    assert "FIELD: size <integer>" in " ".join(shown.split())
    shown = (await kubectl("explain", "widget")).out
    assert "A thing of a size and a color." in shown
    shown = (await kubectl("explain", "pod.spec.ephemeralContainers")).out
    assert "targetContainerName" in shown
    shown = (await kubectl("explain", "widget", "--recursive")).out
    assert "parts" in shown


async def test_api_resources_and_versions(api: Api, kubectl: Kubectl) -> None:
    lines = (await kubectl("api-resources")).out.splitlines()
    rows = {line.split()[0]: line.split() for line in lines}
    assert rows["widgets"] == ["widgets", "wix", f"{GROUP}/v1", "true", "Widget"]
    assert {"pods", "nodes", "namespaces", "events", "customresourcedefinitions"} <= set(rows)
    assert f"{GROUP}/v1" in (await kubectl("api-versions")).out.split()


async def test_edit_like_commands(api: Api, kubectl: Kubectl) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    await kubectl("label", "widget", "a", "x=y")
    await kubectl("annotate", "widget", "a", "note=hello")
    await kubectl("patch", "widget", "a", "--type=merge", "-p", '{"spec":{"size":4}}')
    await kubectl(
        "patch", "widget", "a", "--type=json", "-p",
        '[{"op":"replace","path":"/spec/color","value":"green"}]',
    )  # fmt: skip
    made = (await api.get(api.widgets("a"))).ok()
    assert made["metadata"]["labels"] == {"x": "y"}
    assert made["metadata"]["annotations"]["note"] == "hello"
    assert made["spec"] == {"size": 4, "color": "green"}
    await kubectl("label", "widget", "a", "x-")
    await kubectl("label", "widget", "a", "z=1", "--overwrite")
    assert (await api.get(api.widgets("a"))).ok()["metadata"]["labels"] == {"z": "1"}


async def test_patch_of_a_status(api: Api, kubectl: Kubectl) -> None:
    kubectl.needs(24, "there is no --subresource")
    (await api.create(api.widgets(), widget("a"))).ok()
    await kubectl(
        "patch", "widget", "a", "--subresource=status", "--type=merge", "-p",
        '{"status":{"host":"h"}}',
    )  # fmt: skip
    assert (await api.get(api.widgets("a"))).ok()["status"]["host"] == "h"


async def test_replace(api: Api, tmp_path: Path, kubectl: Kubectl) -> None:
    (await api.create(api.widgets(), widget("a", target="t"))).ok()
    await kubectl("replace", "-f", manifest(tmp_path, widget("a", size=6)))
    assert (await api.get(api.widgets("a"))).ok()["spec"] == {"size": 6, "color": "red"}


async def test_create_shorthands(api: Api, kubectl: Kubectl) -> None:
    await kubectl("create", "configmap", "m", "--from-literal=a=1")
    await kubectl("create", "secret", "generic", "s", "--from-literal=k=v")
    await kubectl("create", "serviceaccount", "robot")
    assert (await api.get(api.core("configmaps", "m"))).ok()["data"] == {"a": "1"}
    assert (await api.get(api.core("secrets", "s"))).ok()["data"] == {"k": "dg=="}
    role = ("--verb=get,list", "--resource=pods")
    await kubectl("create", "role", "reader", *role)
    await kubectl("create", "rolebinding", "b", "--role=reader", "--serviceaccount=default:robot")
    made = (await api.get(api.path("/apis/rbac.authorization.k8s.io/v1", "roles", "reader"))).ok()
    assert made["rules"] == [{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}]


async def test_create_token(api: Api, kubectl: Kubectl) -> None:
    kubectl.needs(24, "there is no such command")
    token = (await kubectl("create", "token", "default")).out.strip()
    assert token.count(".") == 2


async def test_namespaces(api: Api, kubectl: Kubectl) -> None:
    name = f"{api.namespace}-more"
    await kubectl("create", "namespace", name)
    assert name in (await kubectl("get", "namespaces")).out
    assert "deleted" in (await kubectl("delete", "namespace", name)).out
    (await api.get(f"/api/v1/namespaces/{name}")).refused(404, "NotFound")


async def test_auth(api: Api, kubectl: Kubectl) -> None:
    assert (await kubectl("auth", "can-i", "create", "pods")).out == "yes\n"
    assert "Resources" in (await kubectl("auth", "can-i", "--list")).out


async def test_whoami(api: Api, kubectl: Kubectl) -> None:
    kubectl.needs(27, "there is no such command")
    assert (await kubectl("auth", "whoami")).out.startswith("ATTRIBUTE")


async def test_debug_adds_an_ephemeral_container(api: Api, kubectl: Kubectl) -> None:
    kubectl.needs(22, "it sends a kind that Kubernetes has given up")
    (await api.create(api.core("pods"), pod())).ok()
    await kubectl("debug", "p", "--image=tool:1", "--container=looking", "--attach=false")
    spec = (await api.get(api.core("pods", "p"))).ok()["spec"]
    assert [one["name"] for one in spec["ephemeralContainers"]] == ["looking"]
