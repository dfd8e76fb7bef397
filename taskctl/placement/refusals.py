"""What an API server's refusal to append containers to a worker means, and what to do.

==================  =========================================================================
answer              verdict
==================  =========================================================================
404                 look: the pod is gone, or this server cannot do it at all
409                 again, a few times: the server gave up merging with the kubelet's writes
413, or a text on   the pod (or the batch) has become too large: one by one, then elsewhere
size with any code
400, 422            an entry is at fault, or the pod is another one: one by one
403, or a text on   a policy of the cluster, or a missing right: one by one, then hold the
admission           task back, ever longer, and say why on it
429                 everybody slower; the client has repeated it already
5xx, no answer      unknown: read the pod
==================  =========================================================================

Sources: an over-large object is refused by the API server with 413 (request body), by etcd with
``etcdserver: request is too large`` and by its client with ``trying to send message larger than
max``, both of which arrive as code 500. Admission webhooks choose their own code, 400 by
default (webhook/errors/statuserror.go); a ValidatingAdmissionPolicy answers 422 by default.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from taskctl.errors import (
    ApiError,
    BadRequest,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Throttled,
    Unavailable,
)

_TOO_LARGE: Final = re.compile(
    r"request (entity )?(is )?too large|message larger than max", re.IGNORECASE
)
_ADMISSION: Final = re.compile(
    r"admission webhook .* denied the request|ValidatingAdmissionPolicy .* denied request",
    re.DOTALL,
)
_NO_RIGHT: Final = re.compile(r"cannot (patch|update) resource")


class AppendVerdict(StrEnum):
    """What to do about a refused append; see the module."""

    CONFLICT = "Conflict"
    ENTRY = "Entry"
    FORBIDDEN = "Forbidden"
    TOO_LARGE = "TooLarge"
    THROTTLED = "Throttled"
    UNKNOWN = "Unknown"
    OTHER = "Other"


def judge_append(error: ApiError) -> AppendVerdict:
    """Return what a failed append means."""
    if error.status == 413 or (error.status and _TOO_LARGE.search(error.message)):
        return AppendVerdict.TOO_LARGE
    if isinstance(error, Forbidden) or _ADMISSION.search(error.message):
        return AppendVerdict.FORBIDDEN
    if isinstance(error, Invalid | BadRequest):
        return AppendVerdict.ENTRY
    if isinstance(error, Conflict):
        return AppendVerdict.CONFLICT
    if isinstance(error, Throttled):
        return AppendVerdict.THROTTLED
    if isinstance(error, Unavailable | NotFound):
        return AppendVerdict.UNKNOWN
    return AppendVerdict.OTHER


def is_missing_right(error: ApiError) -> bool:
    """Whether the controller itself lacks a right: then no entry fares better than another."""
    return isinstance(error, Forbidden) and bool(_NO_RIGHT.search(error.message))


def explain_forbidden(error: ApiError) -> str:
    """Return a sentence for the Task's status: what the server said, and the remedy."""
    if is_missing_right(error):
        remedy = (
            "Give the controller's account the right to patch pods/ephemeralcontainers "
            "(`taskctl install` brings the roles)."
        )
    elif "PodSecurity" in error.message:
        remedy = (
            "Give spec.template.securityContext of the TaskCluster what the standard asks for, "
            "or lower the namespace's label pod-security.kubernetes.io/enforce."
        )
    elif _ADMISSION.search(error.message):
        remedy = (
            "A policy of the cluster refuses this container; change the Task's image, or have "
            "whoever runs the cluster allow it for pods/ephemeralcontainers."
        )
    else:
        remedy = "Ask whoever runs the cluster; the task is tried again now and then."
    return f"The API server does not allow the task's container: {error.message} {remedy}"
