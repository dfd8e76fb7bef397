from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from taskctl.embedded.server.access.auth import ADMIN, Authenticator
from taskctl.embedded.server.core import Core, open_collection
from taskctl.embedded.server.kinds.registry import Registry
from taskctl.embedded.server.refusals.errors import Resource, StatusError
from taskctl.embedded.server.storage.hub import Hub
from taskctl.embedded.server.storage.store import Store
from tests.unit.clocks import SetClock

ACCOUNTS, PODS = Resource("", "serviceaccounts"), Resource("", "pods")


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def core(clock: SetClock) -> Core:
    core = Core(Store(clock), Registry(), Hub(), clock)
    for kind in core.registry.all():
        open_collection(core, kind)
    for resource, kind_name, name in (
        (ACCOUNTS, "ServiceAccount", "robot"),
        (PODS, "Pod", "worker"),
    ):
        metadata = {"name": name, "namespace": "ns"}
        core.store.create(
            resource, {"apiVersion": "v1", "kind": kind_name, "metadata": metadata, "spec": {}}
        )
    return core


@pytest.fixture
def authenticator(core: Core) -> Authenticator:
    return Authenticator(core, "the-admin-token", b"signing key")


def issue(authenticator: Authenticator, **spec: Any) -> str:
    token: str = authenticator.issue("ns", "robot", {"spec": spec})["status"]["token"]
    return token


def test_the_administrator(authenticator: Authenticator) -> None:
    assert authenticator.authenticate("Bearer the-admin-token") is ADMIN
    assert authenticator.authenticate("bearer  the-admin-token") is ADMIN


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Bearer wrong", "the-admin-token", "Basic !!!",
     "Basic YW55b25lOnRoZS1hZG1pbi10b2tlbg==",
     "Digest the-admin-token", "Bearer a.b.c", "Bearer ü", "Bearer ..", "Bearer x."],
)  # fmt: skip
def test_everybody_else(authenticator: Authenticator, header: str | None) -> None:
    with pytest.raises(StatusError) as caught:
        authenticator.authenticate(header)
    assert (caught.value.code, caught.value.reason) == (401, "Unauthorized")


def test_a_service_account(authenticator: Authenticator, core: Core) -> None:
    made = authenticator.issue("ns", "robot", {"spec": {"expirationSeconds": 600}})
    assert made["status"]["expirationTimestamp"] == "2030-01-01T00:10:00Z"
    user = authenticator.authenticate(f"Bearer {made['status']['token']}")
    assert user.name == "system:serviceaccount:ns:robot"
    assert user.uid == core.store.require(ACCOUNTS, "ns", "robot").uid
    assert "system:serviceaccounts:ns" in user.groups


def test_a_token_for_somebody_else(authenticator: Authenticator) -> None:
    token = issue(authenticator, audiences=["vault"])
    with pytest.raises(StatusError):
        authenticator.authenticate(f"Bearer {token}")
    user = authenticator.authenticate(f"Bearer {token}", ["store", "vault"])
    assert user.name == "system:serviceaccount:ns:robot"


def test_tokens_expire(authenticator: Authenticator, clock: SetClock) -> None:
    token = issue(authenticator, expirationSeconds=600)
    clock.pass_s(599)
    authenticator.authenticate(f"Bearer {token}")
    clock.pass_s(1)
    with pytest.raises(StatusError):
        authenticator.authenticate(f"Bearer {token}")


def test_tokens_die_with_the_account(authenticator: Authenticator, core: Core) -> None:
    token = issue(authenticator)
    core.store.delete(ACCOUNTS, "ns", "robot")
    with pytest.raises(StatusError):
        authenticator.authenticate(f"Bearer {token}")


def test_bound_tokens_die_with_the_pod(authenticator: Authenticator, core: Core) -> None:
    uid = core.store.require(PODS, "ns", "worker").uid
    token = issue(authenticator, boundObjectRef={"kind": "Pod", "name": "worker", "uid": uid})
    authenticator.authenticate(f"Bearer {token}")
    core.store.delete(PODS, "ns", "worker")
    with pytest.raises(StatusError):
        authenticator.authenticate(f"Bearer {token}")


def test_changed_tokens_are_refused(authenticator: Authenticator) -> None:
    head, claims, signature = issue(authenticator).split(".")
    content = orjson.loads(base64.urlsafe_b64decode(claims + "=="))
    content["exp"] += 10**6
    longer = base64.urlsafe_b64encode(orjson.dumps(content)).decode().rstrip("=")
    for token in (f"{head}.{longer}.{signature}", f"{head}.{claims}.", f"{head}.{claims}"):
        with pytest.raises(StatusError):
            authenticator.authenticate(f"Bearer {token}")


def test_tokens_of_another_server_are_refused(authenticator: Authenticator, core: Core) -> None:
    other = Authenticator(core, "x", b"another key")
    with pytest.raises(StatusError):
        authenticator.authenticate(f"Bearer {issue(other)}")


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"expirationSeconds": 5}, 422),
        ({"expirationSeconds": "long"}, 422),
        ({"boundObjectRef": {"kind": "Secret", "name": "s"}}, 400),
        ({"boundObjectRef": {"kind": "Pod", "name": "nobody"}}, 404),
        ({"boundObjectRef": {"kind": "Pod", "name": "worker", "uid": "other"}}, 409),
    ],
)
def test_requests_that_are_refused(
    authenticator: Authenticator, spec: dict[str, Any], code: int
) -> None:
    with pytest.raises(StatusError) as caught:
        issue(authenticator, **spec)
    assert caught.value.code == code
    with pytest.raises(StatusError) as caught:
        authenticator.issue("ns", "nobody", {})
    assert caught.value.code == 404
