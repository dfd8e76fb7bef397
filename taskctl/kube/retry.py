"""Which requests are sent again, and when; no I/O.

A request is sent again where the server cannot have acted on it (no connection came
about, or it answered 429), or where acting twice does no harm: reads, and writes that the
caller declared idempotent. Everything else is the caller's business: the outcome of a
create that timed out is unknown, and only the caller knows how to find out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from taskctl.backoff import Backoff
from taskctl.errors import ApiError, Throttled, Unavailable
from taskctl.kube.requests import Request, Verb

# 500 is left out: the server has judged the request and would judge it the same way again.
_PASSING_STATUSES: Final = frozenset({0, 502, 503, 504, 507})
REQUEST_BACKOFF: Final = Backoff(0.1, 3.0, (0.5, 1.5))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently.

    Attributes:
        attempts: in all, the first included.
        backoff: pauses of our own choosing; the server may ask for more.
    """

    attempts: int = 4
    backoff: Backoff = REQUEST_BACKOFF

    def delay_s(
        self, request: Request, error: ApiError, *, attempt: int, sent: bool, chance: float
    ) -> float | None:
        """Decide on another attempt.

        Args:
            request: what was asked.
            error: what came of it.
            attempt: number of the attempt that failed, from 1.
            sent: whether any of the request may have reached the server.
            chance: a number in [0, 1), for jitter.

        Returns:
            Seconds to wait before sending it again; None where it must not be.
        """
        if attempt >= self.attempts or request.verb in (Verb.WATCH, Verb.LOG):
            return None  # the reader of a stream resumes it, as it knows where it was
        if not self._may_repeat(request, error, sent=sent):
            return None
        pause_s = self.backoff.pause_s(attempt, chance)
        # Never earlier than the server asks, nor all clients at the same moment.
        return max(error.retry_after_s * (1.0 + 0.25 * chance), pause_s)

    @staticmethod
    def _may_repeat(request: Request, error: ApiError, *, sent: bool) -> bool:
        if isinstance(error, Throttled):
            return True  # refused before it was looked at
        if not isinstance(error, Unavailable):
            return False
        if not sent:
            return True
        return request.idempotent and error.status in _PASSING_STATUSES
