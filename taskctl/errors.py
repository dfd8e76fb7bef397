"""The one exception tree.

::

    TaskctlError
    ├── ConfigError            a setting, file or argument is wrong; says which, and the remedy
    ├── WireError              a frame on the agent's socket that breaks docs/protocol.md
    ├── TerminalError          retrying cannot help
    └── ApiError               the API server said no, or could not be reached
        ├── BadRequest         400, 405, 406, 413, 415
        ├── Unauthorized       401
        ├── Forbidden          403
        ├── NotFound           404
        ├── AlreadyExists      409, reason AlreadyExists
        ├── Conflict           409: the object has changed since it was read
        ├── Gone               410: the resourceVersion is too old; list again
        ├── Invalid            422
        ├── Throttled          429
        └── Unavailable        5xx, no connection, deadline passed: the outcome is unknown

Transport errors never leave :mod:`taskctl.kube`; they are the ``__cause__`` of these.
"""

from __future__ import annotations

# This is loaded in every task, also by Python 3.8: no dataclasses, no typing (10 ms).


class TaskctlError(Exception):
    """Root of every error that taskctl raises on purpose."""


class ConfigError(TaskctlError):
    """A setting, file or argument is wrong. The message names it and says the remedy."""


class WireError(TaskctlError):
    """A message on the agent's socket breaks the protocol (docs/protocol.md)."""


class TerminalError(TaskctlError):
    """Retrying cannot help; the reconciler records it and waits for a change."""


class Cause:
    """One entry of ``Status.details.causes``.

    Attributes:
        field: path of the offending field, for example ``spec.replicas``.
        reason: machine-readable, for example ``FieldValueInvalid``.
        message: for people.
    """

    __slots__ = ("field", "message", "reason")

    def __init__(self, field: str, reason: str, message: str) -> None:
        self.field = field
        self.reason = reason
        self.message = message

    def _key(self) -> tuple[str, str, str]:
        return self.field, self.reason, self.message

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cause) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"Cause(field={self.field!r}, reason={self.reason!r}, message={self.message!r})"


class ApiError(TaskctlError):
    """The API server refused a request, or could not be reached.

    Attributes:
        message: the server's sentence, capped at 2 KiB.
        status: HTTP status; 0 when there was no response.
        reason: ``Status.reason``, for example ``Invalid``; empty when unknown.
        causes: field-level causes.
        retry_after_s: seconds the server asked to wait; 0 when it did not say.
    """

    def __init__(
        self,
        message: str,
        status: int = 0,
        reason: str = "",
        causes: tuple[Cause, ...] = (),
        retry_after_s: float = 0.0,
    ) -> None:
        super().__init__(message, status, reason, causes, retry_after_s)
        self.message = message
        self.status = status
        self.reason = reason
        self.causes = causes
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message


class BadRequest(ApiError):
    """400, 405, 406, 413 or 415: the request itself is malformed."""


class Unauthorized(ApiError):
    """401: no valid credentials."""


class Forbidden(ApiError):
    """403: the credentials do not allow this."""


class NotFound(ApiError):
    """404."""


class AlreadyExists(ApiError):
    """409 on create: the name is taken."""


class Conflict(ApiError):
    """409 on update: read and decide again."""


class Gone(ApiError):
    """410: the resourceVersion or continue token is too old; list again."""


class Invalid(ApiError):
    """422: the object breaks a rule of its schema or kind."""


class Throttled(ApiError):
    """429: wait ``retry_after_s`` and try again."""


class Unavailable(ApiError):
    """5xx, no connection or a passed deadline. The outcome of a write is unknown."""


# A 409 on create is AlreadyExists: Status.reason tells; other codes are by their class.
ERROR_BY_STATUS: dict[int, type[ApiError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    405: BadRequest,
    406: BadRequest,
    409: Conflict,
    410: Gone,
    413: BadRequest,
    415: BadRequest,
    422: Invalid,
    429: Throttled,
}
