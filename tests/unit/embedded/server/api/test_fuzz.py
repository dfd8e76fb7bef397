"""Bodies with wrong types in all places: each gets an answer that somebody has thought of."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.conformance.target import GROUP, Api, Json, embedded_target, widget, widget_crd

SAMPLES: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "protobuf/data" / "protobuf_samples.json").read_text()
)
WRONG: list[Any] = [
    None, True, 0, -1, 1.5, "", "x", "a/b", "\ud7ff", 2**70, [], {}, [None], [1], ["x"], [[]], [{}],
    {"a": None}, {"a": 1}, {"name": "x"}, {"x": {}},
]  # fmt: skip
PATHS = {
    "v1/Binding": "/api/v1/namespaces/default/bindings",
    "v1/ConfigMap": "/api/v1/namespaces/default/configmaps",
    "v1/Event": "/api/v1/namespaces/default/events",
    "v1/Namespace": "/api/v1/namespaces",
    "v1/Node": "/api/v1/nodes",
    "v1/PersistentVolume": "/api/v1/persistentvolumes",
    "v1/PersistentVolumeClaim": "/api/v1/namespaces/default/persistentvolumeclaims",
    "v1/Pod": "/api/v1/namespaces/default/pods",
    "v1/Secret": "/api/v1/namespaces/default/secrets",
    "v1/ServiceAccount": "/api/v1/namespaces/default/serviceaccounts",
    "authentication.k8s.io/v1/TokenReview": "/apis/authentication.k8s.io/v1/tokenreviews",
    "authorization.k8s.io/v1/SelfSubjectAccessReview": (
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    ),
    "authorization.k8s.io/v1/LocalSubjectAccessReview": (
        "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews"
    ),
    "coordination.k8s.io/v1/Lease": "/apis/coordination.k8s.io/v1/namespaces/default/leases",
    "events.k8s.io/v1/Event": "/apis/events.k8s.io/v1/namespaces/default/events",
    "rbac.authorization.k8s.io/v1/Role": (
        "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles"
    ),
    "storage.k8s.io/v1/StorageClass": "/apis/storage.k8s.io/v1/storageclasses",
    "widget": f"/apis/{GROUP}/v1/namespaces/default/widgets",
    "definition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
}
EACH = 60


def sample(kind: str) -> Json:
    if kind == "widget":
        return widget("w", color="red")
    if kind == "definition":
        return widget_crd("fuzz.taskctl.test", "things")
    body: Json = copy.deepcopy(SAMPLES[kind]["json"])
    body["metadata"] = {"name": "x", "labels": {"a": "b"}, "finalizers": ["a.b/c"]}
    return body


def spots(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in list(items):
        yield value, key
        if isinstance(one, dict | list):
            yield from spots(one)


def spoil(body: Json, random: Random) -> None:
    for _ in range(random.randint(1, 3)):
        found = list(spots(body))
        holder, key = random.choice(found)
        holder[key] = copy.deepcopy(random.choice(WRONG))


async def thought_of(api: Api, method: str, path: str, body: Any, media: str) -> None:
    text = json.dumps(body)
    query = {"fieldManager": "test"} if method == "PATCH" else {}
    reply = await api.send(method, path, text, content_type=media, **query)
    assert '"InternalError"' not in reply.text, f"{method} {path} {text}: {reply.text}"


@pytest.mark.parametrize("kind", sorted(PATHS))
async def test_every_answer_has_been_thought_of(kind: str, tmp_path: Path) -> None:
    random = Random(kind)
    async with embedded_target(tmp_path) as api:
        crd = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        (await api.create(crd, widget_crd())).ok()
        async with asyncio.timeout(60):
            for _ in range(EACH):
                body = sample(kind)
                spoil(body, random)
                await thought_of(api, "POST", PATHS[kind], body, "application/json")
                path = f"{PATHS[kind]}/{random.choice(('x', 'w'))}"
                await thought_of(api, "PUT", path, body, "application/json")
                media = random.choice(("merge-patch+json", "strategic-merge-patch+json"))
                await thought_of(api, "PATCH", path, body, f"application/{media}")
                await thought_of(api, "PATCH", path, body, "application/apply-patch+yaml")
                options = {"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": ["All"]}
                options[random.choice(("preconditions", "dryRun", "propagationPolicy"))] = (
                    random.choice(WRONG)
                )
                await thought_of(api, "DELETE", path, options, "application/json")
