"""Values that are stored otherwise than they were written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conformance.conftest import install
from tests.conformance.target import Api, Json, plain_definition, widget

GROUP = "values.taskctl.test"
FINALIZER_MESSAGE = "name is neither a standard finalizer name nor is it fully qualified"


def definition() -> Json:
    spec = {
        "whole": {"type": "integer"},
        "number": {"type": "number"},
        "either": {"x-kubernetes-int-or-string": True},
        "any": {"x-kubernetes-preserve-unknown-fields": True},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
    }
    return plain_definition(GROUP, "Gauge", spec)


async def create(api: Api, spec: str, media: str = "application/json") -> Any:
    await install(api, definition(), f"/apis/{GROUP}/v1/gauges")
    head = f'{{"apiVersion": "{GROUP}/v1", "kind": "Gauge", "metadata": {{"name": "g"}}, "spec": '
    path = api.path(f"/apis/{GROUP}/v1", "gauges")
    return await api.send("POST", path, head + spec + "}", content_type=media)


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ('{"whole": 1.0}', '{"whole": 1}'),
        ('{"whole": 1e3}', '{"whole": 1000}'),
        ('{"whole": -0.0}', '{"whole": 0}'),
        ('{"whole": 9223372036854775807}', '{"whole": 9223372036854775807}'),
        ('{"number": 1.0}', '{"number": 1}'),
        ('{"number": 1e3}', '{"number": 1000}'),
        ('{"number": 0.5}', '{"number": 0.5}'),
        ('{"number": 1e-7}', '{"number": 1e-7}'),
        ('{"either": 1.0}', '{"either": 1}'),
        ('{"any": {"a": [1.0, 1E2, {"b": 0.1e1}]}}', '{"any": {"a": [1, 100, {"b": 1}]}}'),
        ('{"map": {"a": null, "b": "x"}}', '{"map": {"b": "x"}}'),
        ('{"any": {"a": null}}', '{"any": {"a": null}}'),
    ],
)
async def test_numbers_of_custom_resources(api: Api, written: str, stored: str) -> None:
    made = (await create(api, written)).ok()
    assert json.dumps(made["spec"]) == stored.replace("1e-7", "1e-07")


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ('{"any": 9223372036854775808}', 9223372036854775808),
        ('{"any": -9223372036854775809}', -9223372036854775809),
        ('{"any": 18446744073709551616}', 18446744073709551616),
        ('{"any": 123456789012345678901234567890}', 123456789012345678901234567890),
        ('{"number": 9223372036854775808}', 9223372036854775808),
    ],
)
async def test_integers_beyond_64_bits_become_floats(api: Api, written: str, stored: int) -> None:
    """Whoever cannot live with that must refuse them before they are sent."""
    made = (await create(api, written)).ok()
    (found,) = made["spec"].values()
    assert float(found) == float(stored)


@pytest.mark.parametrize(
    "spec",
    [
        '{"whole": 1.5}', '{"whole": 9223372036854775808}', '{"whole": "1"}', '{"whole": true}',
        '{"either": 1.5}', '{"map": {"a": 1}}',
    ],
)  # fmt: skip
async def test_numbers_that_are_refused(api: Api, spec: str) -> None:
    (await create(api, spec)).refused(422, "Invalid")


async def test_a_number_that_no_float_holds(api: Api) -> None:
    (await create(api, '{"number": 1e400}')).refused(400, "BadRequest")


async def test_patches_are_settled_too(api: Api) -> None:
    (await create(api, '{"whole": 1}')).ok()
    path = api.path(f"/apis/{GROUP}/v1", "gauges", "g")
    merge = "application/merge-patch+json"
    after = await api.send("PATCH", path, '{"spec": {"any": 2.0}}', content_type=merge)
    assert '"any":2' in after.text.replace(" ", "")
    assert "2.0" not in after.text


async def dry(api: Api, path: str, body: Any) -> Json:
    reply = await api.send("POST", path, body, dryRun="All")
    return reply.ok()


def pod(**container: Any) -> Json:
    main = {"name": "c", "image": "i", **container}
    return {"metadata": {"name": "p"}, "spec": {"containers": [main]}}


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("1024Mi", "1Gi"), ("0.5", "500m"), ("1000m", "1"), ("1.5Gi", "1536Mi"), (1, "1"),
        (0.5, "500m"), (1000000, "1M"), ("100u", "1m"), ("1e3", "1e3"), ("5Gi", "5Gi"),
        (None, "0"),
    ],
)  # fmt: skip
async def test_quantities(api: Api, written: Any, stored: str) -> None:
    body = pod(resources={"limits": {"memory": written}, "requests": {"memory": written}})
    made = await dry(api, api.core("pods"), body)
    assert made["spec"]["containers"][0]["resources"]["limits"] == {"memory": stored}
    claim = {
        "metadata": {"name": "c"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": written or "1"}},
        },
    }
    made = await dry(api, api.core("persistentvolumeclaims"), claim)
    found = made["spec"]["resources"]["requests"]["storage"]
    assert found == (stored if written else "1")


async def test_a_size_limit_is_a_quantity(api: Api) -> None:
    body = pod()
    body["spec"]["volumes"] = [{"name": "v", "emptyDir": {"sizeLimit": "0.0001"}}]
    made = await dry(api, api.core("pods"), body)
    assert made["spec"]["volumes"][0]["emptyDir"] == {"sizeLimit": "100u"}


@pytest.mark.parametrize("memory", ["1K", "1 Gi", "x", "", True, [], {}])
async def test_what_is_no_quantity(api: Api, memory: Any) -> None:
    body = pod(resources={"limits": {"memory": memory}})
    assert (await api.create(api.core("pods"), body, dryRun="All")).status in (400, 422)


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("aGVs\nbG8=", "aGVsbG8="),
        ("aGVs\r\nbG8=\n", "aGVsbG8="),
        ("\naGVsbG8=", "aGVsbG8="),
        ("aGVsbG9=", "aGVsbG8="),
        ("", ""),
        (None, ""),
    ],
)
async def test_base64(api: Api, written: Any, stored: str) -> None:
    body = {"metadata": {"name": "s"}, "data": {"a": written}}
    assert (await dry(api, api.core("secrets"), body))["data"] == {"a": stored}
    body = {"metadata": {"name": "s"}, "binaryData": {"a": written}}
    assert (await dry(api, api.core("configmaps"), body))["binaryData"] == {"a": stored}


@pytest.mark.parametrize(
    "written", ["aGVs bG8=", "aGVsbG8", "a", "aGVsbG8==", "====", "aGVs_G8-", 1, True, "aGVs\tbG8="]
)
async def test_what_is_no_base64(api: Api, written: Any) -> None:
    for plural, name in (("secrets", "data"), ("configmaps", "binaryData")):
        body = {"metadata": {"name": "s"}, name: {"a": written}}
        (await api.create(api.core(plural), body)).refused(400, "BadRequest")


async def test_null_in_maps_and_lists(api: Api) -> None:
    null = {"a": None, "b": "x"}
    empty = {"a": "", "b": "x"}
    body: Json = {"metadata": {"name": "m", "labels": null, "annotations": null}, "data": null}
    made = await dry(api, api.core("configmaps"), body)
    assert made["data"] == made["metadata"]["labels"] == made["metadata"]["annotations"] == empty
    body = {"metadata": {"name": "s"}, "stringData": null}
    assert (await dry(api, api.core("secrets"), body))["data"] == {"a": "", "b": "eA=="}
    body = pod(args=["a", None], env=[{"name": "A", "value": None}], image="i")
    body["spec"]["nodeSelector"] = null
    made = await dry(api, api.core("pods"), body)
    assert made["spec"]["nodeSelector"] == empty
    assert made["spec"]["containers"][0]["args"] == ["a", ""]
    assert made["spec"]["containers"][0]["env"] == [{"name": "A"}]
    body = {"metadata": {"name": f"s-{api.namespace}"}, "provisioner": "a/b", "parameters": null}
    made = await dry(api, "/apis/storage.k8s.io/v1/storageclasses", body)
    assert made["parameters"] == empty


@pytest.mark.parametrize("port", ["80.0", "8e1", "80.5", '"80"'])
async def test_integers_of_built_in_kinds_have_no_point(api: Api, port: str) -> None:
    text = json.dumps(pod(ports=[{"containerPort": "PORT"}])).replace('"PORT"', port)
    (await api.send("POST", api.core("pods"), text)).refused(400, "BadRequest")


@pytest.mark.parametrize(
    ("finalizers", "custom", "builtin"),
    [
        (["a.b/c"], True, True),
        (["foregroundDeletion"], True, True),
        (["orphan"], True, True),
        (["kubernetes"], True, True),
        (["a.b/c", "a.b/c"], True, True),
        (["plain"], True, False),
        ([""], False, False),
        ([None], False, False),
        (["a b"], False, False),
        (["a.b/"], False, False),
        (["/c"], False, False),
        (["A.b/c"], False, False),
        (["foregroundDeletion", "orphan"], False, False),
    ],
)
async def test_finalizers(api: Api, finalizers: list[Any], custom: bool, builtin: bool) -> None:
    metadata = {"name": "f", "finalizers": finalizers}
    body = {**widget("f"), "metadata": metadata}
    reply = await api.create(api.widgets(), body, dryRun="All")
    assert reply.status == (201 if custom else 422), reply.text
    reply = await api.create(api.core("configmaps"), {"metadata": metadata}, dryRun="All")
    assert reply.status == (201 if builtin else 422), reply.text
    if custom and not builtin:
        assert (
            f'metadata.finalizers[0]: Invalid value: "plain": {FINALIZER_MESSAGE}'
            in (reply.json["message"])
        )
