"""Tokens of service accounts, and questions about who may do what."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.conformance.samples import pod
from tests.conformance.target import Api, Json, Reply

AUTHENTICATION = "/apis/authentication.k8s.io/v1"
AUTHORIZATION = "/apis/authorization.k8s.io/v1"


async def ask(api: Api, account: str = "default", **spec: Any) -> Reply:
    """Ask for a token."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    return await api.create(api.core("serviceaccounts", account, "token"), body)


def claims(token: str) -> Json:
    part = token.split(".")[1]
    found: Json = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


async def review(api: Api, token: str, **spec: Any) -> Json:
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, **spec},
    }
    found: Json = (await api.create(f"{AUTHENTICATION}/tokenreviews", body)).ok()["status"]
    return found


async def status_with(api: Api, token: str) -> int:
    """Return how the server answers to whoever has only this token."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    path = f"{AUTHENTICATION}/selfsubjectreviews"
    return (await api.send("POST", path, review, authorization=f"Bearer {token}")).status


async def test_tokens_of_service_accounts(api: Api) -> None:
    made = (await ask(api, expirationSeconds=600)).ok()
    assert made["spec"]["expirationSeconds"] == 600
    assert made["status"]["expirationTimestamp"].endswith("Z")
    token = made["status"]["token"]
    said = claims(token)
    assert said["sub"] == f"system:serviceaccount:{api.namespace}:default"
    assert said["exp"] - said["iat"] == 600
    account = (await api.get(api.core("serviceaccounts", "default"))).ok()
    assert said["kubernetes.io"] == {
        "namespace": api.namespace,
        "serviceaccount": {"name": "default", "uid": account["metadata"]["uid"]},
    }
    found = await review(api, token)
    assert found["authenticated"] is True
    assert found["user"]["username"] == said["sub"]
    assert found["user"]["uid"] == account["metadata"]["uid"]
    assert f"system:serviceaccounts:{api.namespace}" in found["user"]["groups"]
    assert await status_with(api, token) == 201


async def test_tokens_for_somebody_else(api: Api) -> None:
    made = (await ask(api, audiences=["vault"])).ok()
    token = made["status"]["token"]
    assert claims(token)["aud"] == made["spec"]["audiences"] == ["vault"]
    assert "authenticated" not in await review(api, token)
    found = await review(api, token, audiences=["vault", "other"])
    assert (found["authenticated"], found["audiences"]) == (True, ["vault"])
    assert await status_with(api, token) == 401


async def test_tokens_bound_to_a_pod(api: Api) -> None:
    made = (await api.create(api.core("pods"), pod())).ok()
    reference = {"kind": "Pod", "apiVersion": "v1", "name": "p"}
    token = (await ask(api, boundObjectRef=reference)).ok()["status"]["token"]
    bound = claims(token)["kubernetes.io"]["pod"]
    assert bound == {"name": "p", "uid": made["metadata"]["uid"]}
    assert (await review(api, token))["authenticated"] is True
    reply = await ask(api, boundObjectRef={**reference, "uid": "other"})
    assert (
        "the UID in the bound object reference (other) does not match"
        in (reply.refused(409, "Conflict")["message"])
    )
    (await ask(api, boundObjectRef={**reference, "name": "nobody"})).refused(404, "NotFound")
    (await ask(api, boundObjectRef={**reference, "kind": "Foo"})).refused(400, "BadRequest")


async def test_tokens_that_are_not_made(api: Api) -> None:
    refusal = (await ask(api, expirationSeconds=5)).refused(422, "Invalid")
    assert "may not specify a duration less than 10 minutes" in refusal["message"]
    (await ask(api, account="nobody")).refused(404, "NotFound")
    path = api.core("serviceaccounts", "default", "token")
    (await api.create(path, {"kind": "Foo", "apiVersion": "v1"})).refused(400, "BadRequest")
    (await api.get(path)).refused(405, "MethodNotAllowed")


async def test_reviews_of_nothing(api: Api) -> None:
    assert "authenticated" not in await review(api, "x.y.z")
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {}}
    (await api.create(f"{AUTHENTICATION}/tokenreviews", body)).refused(400, "BadRequest")


async def test_access_reviews(api: Api) -> None:
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "create", "resource": "pods"}},
    }
    path = f"{AUTHORIZATION}/selfsubjectaccessreviews"
    assert (await api.create(path, body)).ok()["status"]["allowed"] is True
    refusal = (await api.create(path, {**body, "spec": {}})).refused(422, "Invalid")
    assert "exactly one of nonResourceAttributes or resourceAttributes" in refusal["message"]
    rules = {**body, "kind": "SelfSubjectRulesReview", "spec": {"namespace": "default"}}
    (await api.create(f"{AUTHORIZATION}/selfsubjectrulesreviews", rules)).ok()
    rules["spec"] = {}
    refusal = (await api.create(f"{AUTHORIZATION}/selfsubjectrulesreviews", rules)).refused(
        400, "BadRequest"
    )
    assert refusal["message"] == "no namespace on request"


async def test_access_reviews_of_others(api: Api) -> None:
    attributes = {"resourceAttributes": {"verb": "get", "resource": "pods"}}
    body: Json = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {**attributes, "user": "someone", "groups": ["system:masters"]},
    }
    path = f"{AUTHORIZATION}/subjectaccessreviews"
    assert (await api.create(path, body)).ok()["status"]["allowed"] is True
    refusal = (await api.create(path, {**body, "spec": attributes})).refused(422, "Invalid")
    assert refusal["message"] == (
        '.authorization.k8s.io "" is invalid: spec.user: Invalid value: "": at least one of user '
        "or group must be specified"
    )
    refusal = (await api.create(path, {**body, "spec": {}})).refused(422, "Invalid")
    assert [one["field"] for one in refusal["details"]["causes"]] == [
        "spec.resourceAttributes",
        "spec.user",
    ]


REVIEWS = [
    (AUTHORIZATION, "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    (AUTHORIZATION, "subjectaccessreviews", "SubjectAccessReview"),
    (AUTHORIZATION, "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
    (AUTHENTICATION, "selfsubjectreviews", "SelfSubjectReview"),
    (AUTHENTICATION, "tokenreviews", "TokenReview"),
]


@pytest.mark.parametrize(("prefix", "plural", "kind"), REVIEWS)
async def test_a_review_is_of_its_own_kind(api: Api, prefix: str, plural: str, kind: str) -> None:
    version = prefix.removeprefix("/apis/")
    for body, words in (
        (
            {"apiVersion": version, "kind": "FooAccessReview"},
            f'no kind "FooAccessReview" is registered for version "{version}"',
        ),
        (
            {"apiVersion": "v1", "kind": kind},
            f'no kind "{kind}" is registered for version "v1"',
        ),
    ):
        refusal = (await api.create(f"{prefix}/{plural}", body)).refused(400, "BadRequest")
        assert f"cannot be handled as a {kind}: {words}" in refusal["message"]
    (await api.send("POST", f"{prefix}/{plural}", "")).refused(400, "BadRequest")
    (await api.get(f"{prefix}/{plural}")).refused(405, "MethodNotAllowed")


async def test_a_review_for_another(api: Api) -> None:
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
    reply = await api.create(f"{AUTHORIZATION}/selfsubjectaccessreviews", body)
    assert reply.refused(400, "BadRequest")["message"] == (
        'SubjectAccessReview in version "v1" cannot be handled as a SelfSubjectAccessReview: '
        "converting (v1.SubjectAccessReview) to (authorization.SelfSubjectAccessReview): unknown "
        "conversion"
    )


async def test_bodies_of_subresources_are_of_their_kind(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    for path, version, kind in (
        (api.core("pods", "p", "binding"), "v1", "Binding"),
        (api.core("pods", "p", "eviction"), "policy/v1", "Eviction"),
        (
            api.core("serviceaccounts", "default", "token"),
            "authentication.k8s.io/v1",
            "TokenRequest",
        ),
    ):
        body = {"apiVersion": version, "kind": "FooAccessReview", "metadata": {"name": "p"}}
        refusal = (await api.create(path, body)).refused(400, "BadRequest")
        assert (
            f'FooAccessReview in version "{version.rpartition("/")[2]}" cannot be handled'
            in (refusal["message"])
        )
        other = {**body, "kind": kind, "apiVersion": "other/v1"}
        (await api.create(path, other)).refused(400, "BadRequest")
    older = {"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": {"name": "p"}}
    (await api.create(api.core("pods", "p", "eviction"), older, dryRun="All")).ok()
