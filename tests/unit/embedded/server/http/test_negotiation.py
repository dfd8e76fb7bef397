from __future__ import annotations

import pytest

from taskctl.embedded.server.http.negotiation import (
    Encoding,
    ObjectForm,
    negotiate,
    wants_aggregated_discovery,
)
from taskctl.embedded.server.refusals.errors import StatusError

KUBECTL_GET = (
    "application/json;as=Table;v=v1;g=meta.k8s.io,"
    "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", Encoding()),
        ("*/*", Encoding()),
        ("application/json", Encoding()),
        ("application/json; charset=utf-8", Encoding()),
        ("application/vnd.kubernetes.protobuf, application/json", Encoding()),
        (KUBECTL_GET, Encoding(ObjectForm.TABLE)),
        (
            "application/json;as=Table;v=v1beta1;g=meta.k8s.io",
            Encoding(ObjectForm.TABLE, "v1beta1"),
        ),
        ("application/json;as=Table;v=v9;g=meta.k8s.io,application/json", Encoding()),
        (
            "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
            Encoding(ObjectForm.PARTIAL),
        ),
        ("application/yaml", Encoding(yaml=True)),
    ],
)
def test_forms(accept: str, expected: Encoding) -> None:
    assert negotiate(accept) == expected


@pytest.mark.parametrize(
    "accept",
    ["image/png", "application/vnd.kubernetes.protobuf", "application/json;as=Novel;v=v1;g=x"],
)
def test_forms_that_cannot_be_made(accept: str) -> None:
    with pytest.raises(StatusError) as caught:
        negotiate(accept)
    assert caught.value.code == 406


def test_aggregated_discovery() -> None:
    asked = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
    assert wants_aggregated_discovery(asked) == "v2"
    assert wants_aggregated_discovery("application/json") is None
    beta = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
    assert wants_aggregated_discovery(beta) is None
    assert wants_aggregated_discovery(f"{beta},{asked}") == "v2"
