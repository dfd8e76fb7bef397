"""What a refusal to append containers means."""

from __future__ import annotations

import pytest

from taskctl.errors import (
    ApiError,
    BadRequest,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Throttled,
    Unauthorized,
    Unavailable,
)
from taskctl.placement.refusals import (
    AppendVerdict,
    explain_forbidden,
    is_missing_right,
    judge_append,
)

RBAC = Forbidden(
    'pods "w-1" is forbidden: User "system:serviceaccount:t:c" cannot patch resource '
    '"pods/ephemeralcontainers" in API group "" in the namespace "ns"',
    403,
)
POD_SECURITY = Forbidden(
    'pods "w-1" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true', 403
)
WEBHOOK = BadRequest('admission webhook "images.example" denied the request: not allowed', 400)
POLICY = Invalid(
    "ValidatingAdmissionPolicy 'no-debug' with binding 'all' denied request: no containers", 422
)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (NotFound("gone", 404), AppendVerdict.UNKNOWN),
        (Conflict("changed", 409), AppendVerdict.CONFLICT),
        (BadRequest("Request entity too large: limit is 3145728", 413), AppendVerdict.TOO_LARGE),
        (Unavailable("etcdserver: request is too large", 500), AppendVerdict.TOO_LARGE),
        (
            Unavailable(
                "rpc error: code = ResourceExhausted desc = trying to send message larger than max "
                "(2100000 vs. 2097152)",
                500,
            ),
            AppendVerdict.TOO_LARGE,
        ),
        (Invalid("spec.ephemeralContainers[0].image: Invalid value", 422), AppendVerdict.ENTRY),
        (BadRequest("the body is malformed", 400), AppendVerdict.ENTRY),
        (RBAC, AppendVerdict.FORBIDDEN),
        (POD_SECURITY, AppendVerdict.FORBIDDEN),
        (WEBHOOK, AppendVerdict.FORBIDDEN),
        (POLICY, AppendVerdict.FORBIDDEN),
        (Throttled("slow down", 429), AppendVerdict.THROTTLED),
        (Unavailable("the connection broke"), AppendVerdict.UNKNOWN),
        (Unavailable("internal error", 500), AppendVerdict.UNKNOWN),
        (Unauthorized("who are you?", 401), AppendVerdict.OTHER),
    ],
)
def test_verdicts(error: ApiError, verdict: AppendVerdict) -> None:
    assert judge_append(error) is verdict


def test_an_answer_that_never_came_is_not_about_size() -> None:
    assert (
        judge_append(Unavailable("message larger than max, says our proxy"))
        is AppendVerdict.UNKNOWN
    )


def test_only_a_missing_right_is_the_same_for_every_entry() -> None:
    assert is_missing_right(RBAC)
    assert not any(map(is_missing_right, (POD_SECURITY, WEBHOOK, POLICY)))


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (RBAC, "right to patch pods/ephemeralcontainers"),
        (POD_SECURITY, "pod-security.kubernetes.io/enforce"),
        (WEBHOOK, "allow it for pods/ephemeralcontainers"),
        (POLICY, "allow it for pods/ephemeralcontainers"),
        (Forbidden("no", 403), "Ask whoever runs the cluster"),
    ],
)
def test_the_remedy_is_named(error: ApiError, remedy: str) -> None:
    text = explain_forbidden(error)
    assert error.message in text
    assert remedy in text
