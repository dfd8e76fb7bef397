"""Bodies in protobuf: all fields of all kinds, and what is particular to some of them.

``data/protobuf_samples.json`` holds the samples that the Go module k8s.io/api publishes for
checks of compatibility (``testdata/HEAD``): each kind with every field filled, as protobuf and as
JSON, both written by Go.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.embedded.server.http.negotiation import Encoding, negotiate
from taskctl.embedded.server.kinds.builtin import BUILTINS
from taskctl.embedded.server.kinds.virtual import EVICTION, TOKEN_REQUEST, VIRTUAL_KINDS
from taskctl.embedded.server.protobuf import decode as protobuf
from taskctl.embedded.server.protobuf import encode as protobuf_encode
from taskctl.embedded.server.protobuf.tables import message_of
from tests.unit.embedded.server.http.test_bodies import envelope, part

SAMPLES: dict[str, Any] = json.loads(
    (Path(__file__).parent / "data" / "protobuf_samples.json").read_text()
)


@pytest.mark.parametrize("kind", sorted(SAMPLES))
def test_every_field_of_every_kind(kind: str) -> None:
    body = base64.b64decode(SAMPLES[kind]["protobuf"])
    assert protobuf.decode(body) == SAMPLES[kind]["json"]


@pytest.mark.parametrize("kind", sorted(SAMPLES))
def test_what_is_written_can_be_read(kind: str) -> None:
    obj = SAMPLES[kind]["json"]
    assert protobuf.decode(protobuf_encode.encode_object(obj)) == obj


def test_whatever_can_be_written_can_be_read() -> None:
    for kind in BUILTINS:
        if not kind.read_only:
            assert message_of(kind.api_version, kind.kind), kind
    for virtual in (*VIRTUAL_KINDS, EVICTION, TOKEN_REQUEST):
        assert message_of(virtual.api_version, virtual.kind), virtual
    for api_version in ("v1", "coordination.k8s.io/v1", "meta.k8s.io/v1"):
        assert message_of(api_version, "DeleteOptions")


def test_zeros_that_json_has() -> None:
    """Go writes all zeros of values; in JSON some are left out, and some are not."""
    status = part(1, b"c") + part(4, 0) + part(5, 0) + part(6, b"") + part(7, b"") + part(8, b"")
    pod = part(1, part(1, b"p") + part(8, b"")) + part(3, part(8, status) + part(1, b""))
    assert protobuf.decode(envelope("v1", "Pod", pod)) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "status": {
            "containerStatuses": [
                {"name": "c", "ready": False, "restartCount": 0, "image": "", "imageID": ""}
            ]
        },
    }


def test_a_definition_with_all_its_alternatives() -> None:
    schema = {
        "type": "object",
        "$ref": "#/x",
        "properties": {
            "a": {"type": "array", "items": {"type": "string"}},
            "b": {"additionalProperties": False, "default": {"x": [1, None]}},
            "c": {"additionalProperties": {"type": "integer"}, "enum": ["q", 1, True]},
            "d": {"x-kubernetes-preserve-unknown-fields": False, "maximum": 0.5},
            "e": {"items": [{"type": "string"}, {"type": "integer"}]},
            "f": {"dependencies": {"g": ["h", "i"], "j": {"type": "string"}}},
        },
    }
    names = {"plural": "things", "kind": "Thing"}
    version = {
        "name": "v1", "served": True, "storage": False, "schema": {"openAPIV3Schema": schema}
    }  # fmt: skip
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.x.test"},
        "spec": {"group": "x.test", "scope": "Cluster", "names": names, "versions": [version]},
    }
    assert protobuf.decode(protobuf_encode.encode_object(crd)) == crd


def test_times_of_a_lease() -> None:
    spec = part(1, b"me") + part(3, part(1, 1_767_225_600) + part(2, 123_456_789))
    found = protobuf.decode(envelope("coordination.k8s.io/v1", "Lease", part(2, spec)))
    assert found["spec"] == {"holderIdentity": "me", "acquireTime": "2026-01-01T00:00:00.123456Z"}


def test_fields_of_a_later_kubernetes_are_skipped() -> None:
    raw = part(2, part(1, b"a") + part(2, b"1")) + part(99, b"later") + part(98, 7)
    assert protobuf.decode(envelope("v1", "ConfigMap", raw))["data"] == {"a": "1"}


def test_messages_in_messages_have_an_end() -> None:
    message = b""
    for _ in range(5000):
        message = part(28, message)
    crd = part(2, part(7, part(1, b"v1") + part(4, part(1, message))))
    with pytest.raises(protobuf.UnreadableError, match="nested"):
        protobuf.decode(envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", crd))


def test_fields_are_counted() -> None:
    with pytest.raises(protobuf.UnreadableError, match="fields"):
        protobuf.decode(envelope("v1", "ServiceAccount", part(2, b"") * 400_000))


@given(st.sampled_from(sorted(SAMPLES)), st.data())
def test_damaged_bodies_are_refused_or_read(kind: str, data: st.DataObject) -> None:
    body = bytearray(base64.b64decode(SAMPLES[kind]["protobuf"]))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(4, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        protobuf.decode(bytes(body[: data.draw(st.integers(0, len(body)))]))
    except protobuf.UnreadableError:
        return


@pytest.mark.parametrize(
    ("accept", "found"),
    [
        (protobuf.MEDIA_TYPE, Encoding(protobuf=True)),
        (f"{protobuf.MEDIA_TYPE},application/json", Encoding()),
        (f"{protobuf.MEDIA_TYPE}, */*", Encoding()),
        (f"{protobuf.MEDIA_TYPE},application/yaml", Encoding(yaml=True)),
    ],
)
def test_protobuf_is_answered_where_nothing_else_is_taken(accept: str, found: Encoding) -> None:
    assert negotiate(accept, protobuf=True) == found
