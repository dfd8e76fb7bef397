"""Refusals as exceptions, and the Kubernetes ``Status`` object each of them turns into.

The sentences are those of k8s.io/apimachinery ``pkg/api/errors``: clients show them to people,
and a few (kubectl, informers) compare them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import orjson

Json = dict[str, Any]


class Resource(NamedTuple):
    """What a collection holds: API group ("" for the core group) and plural name."""

    group: str
    plural: str

    @property
    def qualified(self) -> str:
        """The resource as error sentences name it, for example ``tasks.taskctl.dev``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


class FieldProblem(Protocol):
    """One thing wrong with one field (:class:`..schema.FieldError` fits)."""

    @property
    def path(self) -> str:
        """Path of the field, for example ``spec.image``."""
        ...

    @property
    def reason(self) -> str:
        """Cause type, for example ``FieldValueRequired``."""
        ...

    @property
    def message(self) -> str:
        """What is wrong, for example ``Required value``."""
        ...


class StatusError(Exception):
    """A request is refused.

    Attributes:
        code: HTTP status.
        reason: ``Status.reason``, machine-readable; empty where Kubernetes gives none.
        message: for people.
        details: ``Status.details``, or None.
        retry_after_s: seconds for the ``Retry-After`` header, or None.
        continue_token: for another try at the rest of a list.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: Json | None = None,
        retry_after_s: int | None = None,
        continue_token: str = "",
    ) -> None:
        super().__init__(message)
        self.continue_token = continue_token
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.retry_after_s = retry_after_s

    def body(self) -> Json:
        """Return the ``Status`` object."""
        status: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {"continue": self.continue_token} if self.continue_token else {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            status["reason"] = self.reason
        if self.details is not None or self.retry_after_s is not None:
            status["details"] = dict(self.details or {})
            if self.retry_after_s is not None:
                status["details"]["retryAfterSeconds"] = self.retry_after_s
        status["code"] = self.code
        return status

    def encode(self) -> bytes:
        """Return the ``Status`` object as JSON."""
        return orjson.dumps(self.body())


class StorageError(StatusError):
    """507: a write cannot be stored at present, and has had no effect."""

    def __init__(self, why: str) -> None:
        message = f"the write cannot be stored: {why}. Make room on the disk of the data directory"
        super().__init__(507, "InsufficientStorage", message, retry_after_s=2)


def success(resource: Resource, name: str, uid: str) -> Json:
    """Return the ``Status`` of a deletion that left nothing behind."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {**_details(resource, name), "uid": uid},
    }


def _details(resource: Resource, name: str) -> Json:
    details: Json = {}
    if name:
        details["name"] = name
    if resource.group:
        details["group"] = resource.group
    details["kind"] = resource.plural
    return details


def not_found(resource: Resource, name: str) -> StatusError:
    """404: no such object."""
    return StatusError(
        404,
        "NotFound",
        f'{resource.qualified} "{name}" not found',
        details=_details(resource, name),
    )


def unknown_path() -> StatusError:
    """404: no such path or resource."""
    return StatusError(
        404, "NotFound", "the server could not find the requested resource", details={}
    )


def already_exists(resource: Resource, name: str) -> StatusError:
    """409 on create: the name is taken."""
    return StatusError(
        409,
        "AlreadyExists",
        f'{resource.qualified} "{name}" already exists',
        details=_details(resource, name),
    )


def generate_name_exhausted(resource: Resource, name: str) -> StatusError:
    """409 on create with generateName: every suffix tried was taken."""
    return StatusError(
        409,
        "AlreadyExists",
        f'{resource.qualified} "{name}" already exists, the server was not able to generate '
        "a unique name for the object",
        details=_details(resource, name),
        retry_after_s=1,
    )


_MODIFIED = (
    "the object has been modified; please apply your changes to the latest version and try again"
)


def conflict(resource: Resource, name: str, why: str = _MODIFIED) -> StatusError:
    """409: the object is not the one, or not the version, the client has read."""
    return StatusError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {resource.qualified} "{name}": {why}',
        details=_details(resource, name),
    )


def apply_conflict(message: str, causes: Sequence[FieldProblem]) -> StatusError:
    """409 on server-side apply: fields belong to other managers."""
    return StatusError(409, "Conflict", message, details={"causes": _causes(causes)})


def _causes(errors: Sequence[FieldProblem]) -> list[Json]:
    return [{"reason": e.reason, "message": e.message, "field": e.path} for e in errors]


def invalid(group: str, kind: str, name: str, errors: Sequence[FieldProblem]) -> StatusError:
    """422: the object breaks rules of its schema or kind.

    Args:
        group: API group, "" for core.
        kind: the kind, for example ``Task``; "" where the refusal is about a patch.
        name: the object's name.
        errors: at least one.
    """
    qualified = f"{kind}.{group}" if group else kind
    sentences = [f"{e.path}: {e.message}" for e in errors]
    text = sentences[0] if len(sentences) == 1 else "[" + ", ".join(sentences) + "]"
    details: Json = {"name": name} if name else {}
    if group:
        details["group"] = group
    if kind:
        details["kind"] = kind
    details["causes"] = _causes(errors)
    return StatusError(422, "Invalid", f'{qualified} "{name}" is invalid: {text}', details=details)


def unclassified(message: str) -> StatusError:
    """500 without a reason: what Kubernetes answers where it passes on an error of a library.

    The fault is the client's all the same.
    """
    return StatusError(500, "", message)


def bad_request(message: str) -> StatusError:
    """400: the request is malformed."""
    return StatusError(400, "BadRequest", message)


def unauthorized() -> StatusError:
    """401: no token, or one that is not ours."""
    return StatusError(401, "Unauthorized", "Unauthorized")


def forbidden(
    resource: Resource, name: str, why: str, *, causes: list[Json] | None = None
) -> StatusError:
    """403: understood, and refused."""
    details = _details(resource, name)
    if causes:
        details["causes"] = causes
    return StatusError(
        403, "Forbidden", f'{resource.qualified} "{name}" is forbidden: {why}', details=details
    )


def method_not_allowed(why: str = "") -> StatusError:
    """405: the path has no such verb."""
    message = "the server does not allow this method on the requested resource"
    return StatusError(405, "MethodNotAllowed", f"{message}: {why}" if why else message, details={})


def precondition_failed(resource: Resource, kind: str, name: str, why: str) -> StatusError:
    """409 on delete: the object is not the one that the client means.

    Kubernetes names the kind here, where other conflicts name the resource.
    """
    found = conflict(Resource(resource.group, kind), name, why)
    qualified = f"{kind}.{resource.group}" if resource.group else kind
    found.message = f'Operation cannot be fulfilled on {qualified} "{name}": {why}'
    return found


def not_acceptable(types: str) -> StatusError:
    """406: none of the representations asked for can be made."""
    return StatusError(
        406,
        "NotAcceptable",
        f"only the following media types are accepted: {types}",
    )


def unsupported_media_type(types: str) -> StatusError:
    """415: the body is in a form this server does not read."""
    return StatusError(
        415,
        "UnsupportedMediaType",
        f"the body of the request was in an unknown format - accepted media types include: {types}",
    )


def too_large(limit_bytes: int) -> StatusError:
    """413: the request's body or the resulting object is too big."""
    return StatusError(
        413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit_bytes}"
    )


def expired_watch(revision: int, oldest: int) -> StatusError:
    """410: the watch's start lies before the kept history."""
    return StatusError(410, "Expired", f"too old resource version: {revision} ({oldest})")


def expired_list() -> StatusError:
    """410: the list's revision lies before the kept history."""
    return StatusError(410, "Expired", "The resourceVersion for the provided list is too old.")


def expired_page(token: str) -> StatusError:
    """410: the snapshot that a page belongs to lies before the kept history.

    Args:
        token: with it the list continues, with the objects as they are now.
    """
    return StatusError(
        410,
        "Expired",
        "The provided continue parameter is too old to display a consistent list result. You can "
        "start a new list without the continue parameter, or use the continue token in this "
        "response to retrieve the remainder of the results. Continuing with the provided token "
        "results in an inconsistent list - objects that were created, modified, or deleted "
        "between the time the first chunk was returned and now may show up in the list.",
        continue_token=token,
    )


def future_revision(revision: int, current: int) -> StatusError:
    """504: the client has seen a revision that this server has not."""
    return StatusError(
        504,
        "Timeout",
        f"Timeout: Too large resource version: {revision}, current: {current}",
        details={
            "causes": [
                {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
            ]
        },
        retry_after_s=1,
    )


def internal(message: str) -> StatusError:
    """500: the fault is here."""
    return StatusError(500, "InternalError", f"Internal error occurred: {message}")


def not_implemented(message: str) -> StatusError:
    """501: Kubernetes can do this, this server cannot."""
    return StatusError(501, "NotImplemented", message)


def unavailable(message: str) -> StatusError:
    """503: try again later."""
    return StatusError(503, "ServiceUnavailable", message, retry_after_s=1)


def too_many_requests(why: str, retry_after_s: int) -> StatusError:
    """429: a limit of the server has been reached that others' work will free again."""
    return StatusError(429, "TooManyRequests", why, retry_after_s=retry_after_s)
