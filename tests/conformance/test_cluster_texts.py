"""Variables in the volumes of a TaskCluster are refused with their field by the API server itself.

The definition is the real one, under another group: the API server must find it cheap enough.
"""

from __future__ import annotations

from typing import Any

from tests.conformance.conftest import install
from tests.conformance.samples import real_definition
from tests.conformance.target import Api, Json

GROUP = "texts.taskctl.test"


def cluster(spec: Json) -> Json:
    return {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "TaskCluster",
        "metadata": {"generateName": "c-"},
        "spec": spec,
    }


def volume(**source: Any) -> Json:
    return {"volumes": [{"name": "v", **source}]}


GOOD: list[Json] = [
    {"user": "joe", "workspace": {"hostPath": {"path": "/s/${USER}-${NAMESPACE}/${CLUSTER}"}}},
    {"workspace": {"hostPath": {"path": "/s/$${HOME}/$x$"}}},
    {"workspace": {"claimName": "c-$${USER}"}},
    {"user": "Joe_2@example.com", **volume(nfs={"server": "s", "path": "/${USER}"})},
    {"workspace": {"mountPath": "/a..b/..c"}},
]
BAD: list[tuple[Json, str]] = [
    ({"workspace": {"hostPath": {"path": "/${HOME}"}}}, "spec.workspace.hostPath.path"),
    ({"workspace": {"nfs": {"server": "s", "path": "/${USER"}}}, "spec.workspace.nfs.path"),
    ({"workspace": {"nfs": {"server": "s", "path": "/a/../b"}}}, "spec.workspace.nfs.path"),
    ({"workspace": {"mountPath": "/x/../taskctl"}}, "spec.workspace.mountPath"),
    ({"workspace": {"mountPath": "/${user}"}}, "spec.workspace.mountPath"),
    ({"workspace": {"claimName": "c-${X}"}}, "spec.workspace.claimName"),
    (volume(hostPath={"path": "/${X}"}), "spec.volumes[0].hostPath.path"),
    (volume(hostPath={"path": "/.."}), "spec.volumes[0].hostPath.path"),
    (volume(nfs={"server": "s", "path": "/${X}"}), "spec.volumes[0].nfs.path"),
    (
        volume(persistentVolumeClaim={"claimName": "${X}"}),
        "spec.volumes[0].persistentVolumeClaim.claimName",
    ),
    (
        volume(hostPath={"path": "/v"}) | {"volumeMounts": [{"name": "v", "mountPath": "/${X}"}]},
        "spec.volumeMounts[0].mountPath",
    ),
    ({"workspace": {"claimName": "c-${USER}"}}, "spec.user"),
    (volume(hostPath={"path": "/$$${USER}"}), "spec.user"),
    ({"user": ""}, "spec.user"),
    ({"user": ".."}, "spec.user"),
    ({"user": "a/b"}, "spec.user"),
    ({"user": "a..b"}, "spec.user"),
]


async def test_variables_in_volumes(api: Api) -> None:
    path = f"/apis/{GROUP}/v1alpha1/namespaces/{api.namespace}/taskclusters"
    await install(api, real_definition("taskclusters", GROUP), path)
    for spec in GOOD:
        (await api.create(path, cluster(spec), dryRun="All")).ok()
    for spec, field in BAD:
        refusal = (await api.create(path, cluster(spec), dryRun="All")).refused(422, "Invalid")
        fields = [cause["field"] for cause in refusal["details"]["causes"]]
        assert field in fields, (spec, fields)
