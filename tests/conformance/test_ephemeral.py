"""``pods/ephemeralcontainers``: what may be added, and that nothing else changes."""

from __future__ import annotations

import pytest

from tests.conformance.samples import (
    FINALIZER,
    add,
    bind,
    entry_names,
    ephemeral,
    pod,
)
from tests.conformance.target import APPLY, JSON_PATCH, MERGE, STRATEGIC, Api, Json

A = {"name": "A", "value": "1"}
B = {"name": "B", "value": "2"}


def path(api: Api, name: str = "p") -> str:
    return api.core("pods", name, "ephemeralcontainers")


async def test_appending(api: Api) -> None:
    before = (await api.create(api.core("pods"), pod())).ok()
    mount = {"name": "work", "mountPath": "/w"}
    made = (await add(api, ephemeral("one", volumeMounts=[mount]))).ok()
    assert made["kind"] == "Pod"
    assert made["spec"]["ephemeralContainers"] == [
        {
            **ephemeral("one"),
            "resources": {},
            "volumeMounts": [mount],
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "imagePullPolicy": "IfNotPresent",
        }
    ]
    assert made["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]
    assert made["metadata"]["generation"] == 2
    found = (await api.get(path(api))).ok()
    assert (found["kind"], entry_names(found)) == ("Pod", ["one"])


async def test_new_ones_go_to_the_front(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    (await add(api, ephemeral("one"))).ok()
    assert entry_names((await add(api, ephemeral("two"))).ok()) == ["two", "one"]
    both = (await add(api, ephemeral("three"), ephemeral("four"))).ok()
    assert entry_names(both) == ["three", "four", "two", "one"]
    mixed = (await add(api, ephemeral("one"), ephemeral("five"))).ok()
    assert sorted(entry_names(mixed)) == ["five", "four", "one", "three", "two"]


async def test_appending_the_same_again_changes_nothing(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    first = (await add(api, ephemeral("one", env=[A, B]))).ok()
    for env in ([A, B], [A], [B], []):
        again = (await add(api, ephemeral("one", env=env))).ok()
        assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"], env
    assert again["spec"]["ephemeralContainers"][0]["env"] == [A, B]
    empty = (await api.patch(path(api), {}, STRATEGIC)).ok()
    assert empty["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


@pytest.mark.parametrize(
    "change",
    [{"command": ["false"]}, {"image": "x:2"}, {"env": [B, A]}, {"env": [A, {"name": "C"}]}],
)
async def test_existing_ones_may_not_change(api: Api, change: Json) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    (await add(api, ephemeral("one", env=[A, B]))).ok()
    reply = await add(api, ephemeral("new"), ephemeral("one", **change))
    # After that sentence comes a comparison.
    assert reply.refused(422, "Invalid")["message"].startswith(
        'Pod "p" is invalid: spec.ephemeralContainers: Forbidden: existing ephemeral containers '
        '"one" may not be changed\n'
    )
    assert entry_names((await api.get(path(api))).ok()) == ["one"]


async def test_existing_ones_may_not_go(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    (await add(api, ephemeral("one"))).ok()
    sentence = (
        'Pod "p" is invalid: spec.ephemeralContainers: Forbidden: existing ephemeral containers '
        '"one" may not be removed\n'
    )
    replies = [
        await add(api, ephemeral("two"), kind=MERGE),
        await api.patch(path(api), {"spec": {"ephemeralContainers": None}}, MERGE),
        await add(api, {"$patch": "delete", "name": "one"}),
        await add(api, {"$patch": "replace"}, ephemeral("two")),
        await api.patch(
            path(api), [{"op": "remove", "path": "/spec/ephemeralContainers/0"}], JSON_PATCH
        ),
    ]
    body = (await api.get(path(api))).ok()
    del body["spec"]["ephemeralContainers"]
    replies.append(await api.put(path(api), body))
    for reply in replies:
        assert reply.refused(422, "Invalid")["message"] == sentence


async def test_appending_by_json_patch_and_put(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    last = "/spec/ephemeralContainers/-"
    append = [{"op": "add", "path": last, "value": ephemeral("one")}]
    # There is no list yet that something could be appended to.
    refusal = (await api.patch(path(api), append, JSON_PATCH)).refused(422, "Invalid")
    assert refusal["message"] == ("the server rejected our request due to an error in our request")
    first = [{"op": "add", "path": "/spec/ephemeralContainers", "value": [ephemeral("one")]}]
    assert entry_names((await api.patch(path(api), first, JSON_PATCH)).ok()) == ["one"]
    append = [{"op": "add", "path": last, "value": ephemeral("two")}]
    assert entry_names((await api.patch(path(api), append, JSON_PATCH)).ok()) == ["one", "two"]
    body = (await api.get(path(api))).ok()
    body["spec"]["ephemeralContainers"].append(ephemeral("three"))
    assert entry_names((await api.put(path(api), body)).ok()) == ["one", "two", "three"]


async def test_their_order_is_free(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    (await add(api, ephemeral("one"), ephemeral("two"))).ok()
    body = (await api.get(path(api))).ok()
    body["spec"]["ephemeralContainers"].reverse()
    assert entry_names((await api.put(path(api), body)).ok()) == ["two", "one"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            ephemeral("x", ports=[{"containerPort": 1}]),
            "[0].ports: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            ephemeral("x", resources={"limits": {"cpu": "1"}}),
            "[0].resources: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            ephemeral("x", livenessProbe={"exec": {"command": ["a"]}}),
            "[0].livenessProbe: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            ephemeral("x", readinessProbe={"exec": {"command": ["a"]}}),
            "[0].readinessProbe: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            ephemeral("x", startupProbe={"exec": {"command": ["a"]}}),
            "[0].startupProbe: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            ephemeral("x", lifecycle={"preStop": {"exec": {"command": ["a"]}}}),
            "[0].lifecycle: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            ephemeral("x", resizePolicy=[{"resourceName": "cpu", "restartPolicy": "NotRequired"}]),
            "[0].resizePolicy: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            ephemeral("x", volumeMounts=[{"name": "work", "mountPath": "/w", "subPath": "s"}]),
            "[0].volumeMounts[0].subPath: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            ephemeral("x", volumeMounts=[{"name": "work", "mountPath": "/w", "subPathExpr": "s"}]),
            "[0].volumeMounts[0].subPathExpr: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            ephemeral("x", volumeMounts=[{"name": "none", "mountPath": "/w"}]),
            '[0].volumeMounts[0].name: Not found: "none"',
        ),
        (
            ephemeral("x", volumeMounts=[{"name": "work", "mountPath": "/w"}] * 2),
            '[0].volumeMounts[1].mountPath: Invalid value: "/w": must be unique',
        ),
        (ephemeral("main"), '[0].name: Duplicate value: "main"'),
        (ephemeral("first"), '[0].name: Duplicate value: "first"'),
        (ephemeral("Bad_Name"), '[0].name: Invalid value: "Bad_Name": a lowercase RFC 1123 label'),
        (ephemeral("a" * 64), ": must be no more than 63 characters"),
        (ephemeral(""), "[0].name: Required value"),
        ({"name": "x", "command": ["true"]}, "[0].image: Required value"),
        (
            ephemeral("x", targetContainerName="nobody"),
            '[0].targetContainerName: Not found: "nobody"',
        ),
        (
            ephemeral("x", imagePullPolicy="Sometimes"),
            '[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", '
            '"IfNotPresent", "Never"',
        ),
        (
            ephemeral("x", env=[{"name": "a=b", "value": "1"}]),
            '[0].env[0].name: Invalid value: "a=b": a valid environment variable name must consist '
            "only of printable ASCII characters other than '='",
        ),
        (
            ephemeral(
                "x",
                env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.nothing"}}}],
            ),
            '[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: "metadata.nothing": error '
            "converting fieldPath: field label not supported: metadata.nothing",
        ),
        (
            ephemeral("x", env=[{"name": "A", "valueFrom": {}}]),
            '[0].env[0].valueFrom: Invalid value: "": must specify one of: `fieldRef`, ',
        ),
        (
            ephemeral("x", envFrom=[{}]),
            '[0].envFrom: Invalid value: "": must specify one of: `configMapRef` or `secretRef`',
        ),
        (
            ephemeral("x", securityContext={"runAsUser": -1}),
            "[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, "
            "inclusive",
        ),
        (
            ephemeral("x", volumeDevices=[{"name": "work", "devicePath": "/d"}]),
            '[0].volumeDevices[0].name: Invalid value: "work": can only use volume source type of '
            "PersistentVolumeClaim or Ephemeral for block mode",
        ),
    ],
)
async def test_what_an_entry_may_not_have(api: Api, entry: Json, message: str) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    refusal = (await add(api, entry)).refused(422, "Invalid")
    assert refusal["message"].startswith('Pod "p" is invalid: spec.ephemeralContainers[0].')
    assert message in refusal["message"]


async def test_what_an_entry_may_have(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    entries = [
        ephemeral("a", targetContainerName="main", tty=True, stdin=True, workingDir="/x"),
        ephemeral("b", targetContainerName="first", imagePullPolicy="Never"),
        ephemeral("c", securityContext={"runAsUser": 0, "privileged": True}),
        ephemeral("d", envFrom=[{"configMapRef": {"name": "m"}}]),
        ephemeral("e", volumeMounts=[{"name": "work", "mountPath": "/w", "readOnly": True}]),
        ephemeral("f", terminationMessagePolicy="FallbackToLogsOnError"),
    ]
    made = (await add(api, *entries)).ok()
    assert entry_names(made) == ["a", "b", "c", "d", "e", "f"]


async def test_names_are_unique_among_them_too(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    (await add(api, ephemeral("one"))).ok()
    again = {"op": "add", "path": "/spec/ephemeralContainers/-", "value": ephemeral("one")}
    refusal = (await api.patch(path(api), [again], JSON_PATCH)).refused(422, "Invalid")
    assert 'spec.ephemeralContainers[1].name: Duplicate value: "one"' in refusal["message"]
    target = ephemeral("two", targetContainerName="one")
    refusal = (await add(api, target)).refused(422, "Invalid")
    assert (
        'spec.ephemeralContainers[0].targetContainerName: Not found: "one"' in (refusal["message"])
    )


async def test_entries_of_a_wrong_type(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    refusal = (await add(api, ephemeral("x", command="true"))).refused(422, "Invalid")
    assert refusal["message"].startswith(
        ' "" is invalid: patch: Invalid value: "map[spec:map[ephemeralContainers:[map['
        'command:true image:example.test/tool:1 name:x]]]]": '
    )
    (await add(api, ephemeral("one"))).ok()
    reply = await add(api, {"image": "x"})
    assert (reply.status, reply.json["message"]) == (
        500,
        "map: map[image:x] does not contain declared merge key: name",
    )


async def test_unknown_fields_of_an_entry(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    reply = await add(api, ephemeral("one", foo=1))
    assert "foo" not in reply.ok()["spec"]["ephemeralContainers"][0]
    assert reply.warnings == ['299 - "unknown field \\"spec.ephemeralContainers[0].foo\\""']
    body = {"spec": {"ephemeralContainers": [ephemeral("two", foo=1)]}}
    strict = await api.patch(path(api), body, STRATEGIC, fieldValidation="Strict")
    assert strict.refused(422, "Invalid")["message"].endswith(
        'strict decoding error: unknown field "spec.ephemeralContainers[0].foo"'
    )
    strict = await api.patch(path(api), {"spec": {"foo": 1}}, MERGE, fieldValidation="Strict")
    assert strict.refused(422, "Invalid")["message"].endswith(
        'strict decoding error: unknown field "spec.foo"'
    )


async def test_a_pod_cannot_be_created_with_them(api: Api) -> None:
    body = pod(ephemeralContainers=[ephemeral("one")])
    refusal = (await api.create(api.core("pods"), body)).refused(422, "Invalid")
    assert "spec.ephemeralContainers: Forbidden: cannot be set on create" in refusal["message"]


async def test_they_cannot_come_through_the_pod_itself(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    body = {"spec": {"ephemeralContainers": [ephemeral("one")]}}
    for kind in (STRATEGIC, MERGE):
        reply = await api.patch(api.core("pods", "p"), body, kind)
        assert reply.refused(422, "Invalid")["message"].startswith(
            'Pod "p" is invalid: spec: Forbidden: pod updates may not change fields other than '
        )
    whole = (await api.get(api.core("pods", "p"))).ok()
    whole["spec"].update(body["spec"])
    (await api.put(api.core("pods", "p"), whole)).refused(422, "Invalid")
    # Through the status they are just left out.
    status = (await api.patch(api.core("pods", "p", "status"), body, STRATEGIC)).ok()
    assert entry_names(status) == []


async def test_nothing_else_comes_through_the_subresource(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    body = {
        "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}, "finalizers": [FINALIZER]},
        "spec": {"hostname": "h", "ephemeralContainers": [ephemeral("one")]},
        "status": {"phase": "Failed"},
    }
    made = (await api.patch(path(api), body, STRATEGIC)).ok()
    assert entry_names(made) == ["one"]
    assert "hostname" not in made["spec"]
    assert made["status"]["phase"] == "Pending"
    assert not {"labels", "annotations", "finalizers"} & set(made["metadata"])


async def test_the_uid_guards_an_append(api: Api) -> None:
    made = (await api.create(api.core("pods"), pod())).ok()
    wrong = "11111111-2222-3333-4444-555555555555"
    refusal = (await add(api, ephemeral("one"), uid=wrong)).refused(422, "Invalid")
    assert refusal["message"] == (
        f'Pod "p" is invalid: metadata.uid: Invalid value: "{wrong}": field is immutable'
    )
    (await add(api, ephemeral("one"), uid=made["metadata"]["uid"])).ok()


async def test_the_version_guards_an_append(api: Api) -> None:
    made = (await api.create(api.core("pods"), pod())).ok()
    version = made["metadata"]["resourceVersion"]
    later = (await add(api, ephemeral("one"), resourceVersion=version)).ok()
    refusal = (await add(api, ephemeral("two"), resourceVersion=version)).refused(409, "Conflict")
    assert refusal["message"] == (
        'Operation cannot be fulfilled on pods "p": the object has been modified; please apply '
        "your changes to the latest version and try again"
    )
    (await add(api, ephemeral("two"), resourceVersion=later["metadata"]["resourceVersion"])).ok()
    made["spec"]["ephemeralContainers"] = [ephemeral("three")]
    (await api.put(path(api), made)).refused(409, "Conflict")


async def test_the_name_must_be_that_of_the_url(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    refusal = (await add(api, ephemeral("one"), name="q")).refused(400, "BadRequest")
    assert refusal["message"] == "the name of the object (q) does not match the name on the URL (p)"
    body = {"spec": {"ephemeralContainers": [ephemeral("one")]}}
    (await api.patch(path(api, "nobody"), body, STRATEGIC)).refused(404, "NotFound")
    (await api.create(path(api), pod())).refused(405, "MethodNotAllowed")
    (await api.delete(path(api))).refused(405, "MethodNotAllowed")


async def test_dry_runs(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    body = {"spec": {"ephemeralContainers": [ephemeral("one")]}}
    assert entry_names((await api.patch(path(api), body, STRATEGIC, dryRun="All")).ok()) == ["one"]
    assert entry_names((await api.get(path(api))).ok()) == []


async def test_server_side_apply(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()

    def config(*entries: Json) -> Json:
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p"},
            "spec": {"ephemeralContainers": list(entries)},
        }

    one, two = ephemeral("one"), ephemeral("two")
    (await api.patch(path(api), config(one), APPLY, fieldManager="m")).ok()
    # An applier that leaves out what it applied before asks for its removal.
    refusal = (await api.patch(path(api), config(two), APPLY, fieldManager="m")).refused(
        422, "Invalid"
    )
    assert 'existing ephemeral containers "one" may not be removed' in refusal["message"]
    both = (await api.patch(path(api), config(one, two), APPLY, fieldManager="m")).ok()
    assert sorted(entry_names(both)) == ["one", "two"]


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
async def test_appending_to_a_finished_pod(api: Api, phase: str) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    status = {"status": {"phase": phase}}
    (await api.patch(api.core("pods", "p", "status"), status, STRATEGIC)).ok()
    (await add(api, ephemeral("one"))).ok()


async def test_appending_to_a_pod_that_is_being_deleted(api: Api) -> None:
    body = pod()
    body["metadata"]["finalizers"] = [FINALIZER]
    (await api.create(api.core("pods"), body)).ok()
    (await bind(api)).ok()
    (await api.delete(api.core("pods", "p"))).ok()
    assert entry_names((await add(api, ephemeral("one"))).ok()) == ["one"]
    (await api.patch(api.core("pods", "p"), {"metadata": {"finalizers": None}}, MERGE)).ok()
    await api.delete(api.core("pods", "p"), {"gracePeriodSeconds": 0})


async def test_an_ended_container_does_not_come_back(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    (await add(api, ephemeral("one"))).ok()
    status = api.core("pods", "p", "status")
    ended = {"name": "one", "image": "i", "imageID": "", "ready": False, "restartCount": 0}
    done = {**ended, "state": {"terminated": {"exitCode": 0}}}
    body = {"status": {"ephemeralContainerStatuses": [done]}}
    (await api.patch(status, body, STRATEGIC)).ok()
    again = {**ended, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
    body = {"status": {"ephemeralContainerStatuses": [again]}}
    refusal = (await api.patch(status, body, STRATEGIC)).refused(422, "Invalid")
    assert (
        "status.ephemeralContainerStatuses[0].state: Forbidden: may not be transitioned to "
        "non-terminated state"
    ) in refusal["message"]
