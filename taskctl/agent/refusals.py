"""The error answers of docs/protocol.md, as one exception."""

from __future__ import annotations

from enum import StrEnum

from taskctl.constants import MESSAGE_LIMIT_CHARS
from taskctl.errors import ApiError, TaskctlError, Unavailable
from taskctl.wire import VERSION, Message


class ErrorCode(StrEnum):
    """``error`` in a response."""

    BAD_FRAME = "bad_frame"
    BAD_REQUEST = "bad_request"
    VERSION = "version"
    NOT_IDENTIFIED = "not_identified"
    UNKNOWN_CONTAINER = "unknown_container"
    NONCE_USED = "nonce_used"
    BAD_TOKEN = "bad_token"
    SUPERSEDED = "superseded"
    TOO_LARGE = "too_large"
    NO_WORKSPACE = "no_workspace"
    LIMIT = "limit"
    CONFLICT = "conflict"
    REJECTED = "rejected"
    UNAVAILABLE = "unavailable"


class Refusal(TaskctlError):
    """A request is answered with an error; the connection stays open.

    Attributes:
        code: which one.
        message: for people; names the field and the remedy.
        retry_after_s: seconds after which the same may be asked for with success; or None.
    """

    def __init__(
        self, code: ErrorCode, message: str, *, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s

    def answer(self, request_id: int) -> Message:
        """Return the response."""
        response: Message = {
            "id": request_id,
            "ok": False,
            "error": self.code.value,
            "message": self.message[:MESSAGE_LIMIT_CHARS],  # it may quote what was sent
        }
        if self.code is ErrorCode.VERSION:
            response["supported"] = [VERSION]
        if self.retry_after_s is not None:
            response["retry_after_s"] = self.retry_after_s
        return response


def from_api(error: ApiError) -> Refusal:
    """Turn what the API server said into an answer for a task."""
    if isinstance(error, Unavailable):
        return Refusal(
            ErrorCode.UNAVAILABLE, f"the API server cannot be reached, try again later: {error}"
        )
    return Refusal(ErrorCode.REJECTED, f"the API server refused: {error}")
