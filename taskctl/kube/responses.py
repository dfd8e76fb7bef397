"""From an HTTP answer to an object or an error of :mod:`taskctl.errors`; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from taskctl.errors import (
    ERROR_BY_STATUS,
    AlreadyExists,
    ApiError,
    BadRequest,
    Cause,
    Gone,
    Unavailable,
)

ERROR_BODY_LIMIT_BYTES: Final = 256 * 1024
_MESSAGE_LIMIT_CHARS: Final = 2048
_CAUSES_LIMIT: Final = 64
_REASON_TOO_LARGE_RV: Final = "ResourceVersionTooLarge"


def decode_object(body: bytes, what: str) -> dict[str, Any]:
    """Decode the body of a successful answer.

    Args:
        body: JSON.
        what: the request in words, for the error.

    Raises:
        Unavailable: the body is not a JSON object, so it is not from an API server.
    """
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Unavailable(f"{what}: the answer is not JSON; {_WRONG_SERVER}") from error
    if not isinstance(decoded, dict):
        raise Unavailable(f"{what}: the answer is not a JSON object; {_WRONG_SERVER}")
    return decoded


_WRONG_SERVER: Final = "check that the address is a Kubernetes API server's, not a proxy's"


def error_from_response(
    status: int, headers: Mapping[str, str], body: bytes, what: str
) -> ApiError:
    """Return the error that an answer of 300 or above stands for.

    Args:
        status: HTTP status.
        headers: of the answer; case-insensitive mapping.
        body: at most ``ERROR_BODY_LIMIT_BYTES`` of it.
        what: the request in words; opens the message where the server sent no Status.
    """
    retry_after_s = _retry_after_s(headers)
    decoded = _decode_status(body)
    if decoded is not None:
        return error_from_status(decoded, http_status=status, retry_after_s=retry_after_s)
    hint = f"; {_WRONG_SERVER}" if status < 400 or status in (404, 405) else ""
    message = f"{what}: HTTP {status} without a Status from the API server{hint}"
    return _class_for(status, "")(message, status=status, retry_after_s=retry_after_s)


def error_from_status(
    status_object: Mapping[str, Any], *, http_status: int = 0, retry_after_s: float = 0.0
) -> ApiError:
    """Return the error for a ``Status`` object, from a body or an ERROR event.

    Args:
        status_object: ``{"kind": "Status", "code": ..., "reason": ...}``.
        http_status: used where the object has no code.
        retry_after_s: from the Retry-After header; the object's own figure is the
            fallback.
    """
    code = _as_int(status_object.get("code")) or http_status
    reason = str(status_object.get("reason") or "")
    details = status_object.get("details")
    details = details if isinstance(details, dict) else {}
    message = str(status_object.get("message") or reason or f"HTTP {code}")
    return _class_for(code, reason)(
        _cap(message),
        status=code,
        reason=reason,
        causes=_causes(details.get("causes")),
        retry_after_s=retry_after_s or float(_as_int(details.get("retryAfterSeconds"))),
    )


def is_resource_version_too_large(error: ApiError) -> bool:
    """Whether the server does not know so new a version: it lags, or was restored."""
    if any(cause.reason == _REASON_TOO_LARGE_RV for cause in error.causes):
        return True
    return isinstance(error, Unavailable) and "Too large resource version" in error.message


def _decode_status(body: bytes) -> dict[str, Any] | None:
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if isinstance(decoded, dict) and decoded.get("kind") == "Status":
        return decoded
    return None


def _class_for(code: int, reason: str) -> type[ApiError]:
    if code == 409 and reason == "AlreadyExists":
        return AlreadyExists
    # An ERROR event may carry `Expired` with an odd code; the meaning is in the reason.
    if reason in ("Expired", "Gone"):
        return Gone
    known = ERROR_BY_STATUS.get(code)
    if known is not None:
        return known
    return BadRequest if 300 <= code < 500 else Unavailable


def _causes(raw: Any) -> tuple[Cause, ...]:
    if not isinstance(raw, list):
        return ()
    return tuple(
        Cause(
            field=str(entry.get("field") or ""),
            reason=str(entry.get("reason") or ""),
            message=_cap(str(entry.get("message") or "")),
        )
        for entry in raw[:_CAUSES_LIMIT]
        if isinstance(entry, dict)
    )


def _retry_after_s(headers: Mapping[str, str]) -> float:
    # Kubernetes sends whole seconds; the date form that HTTP also allows is not used.
    return float(_as_int(headers.get("Retry-After", "")))


def _as_int(value: Any) -> int:
    try:
        return max(0, int(value))
    except (TypeError, ValueError):
        return 0


def _cap(text: str) -> str:
    return text if len(text) <= _MESSAGE_LIMIT_CHARS else text[: _MESSAGE_LIMIT_CHARS - 1] + "…"
