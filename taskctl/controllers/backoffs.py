"""How long back-offs still last, on a clock that cannot be set.

``status.nextAttemptTime`` is a wall-clock time, written by the agent of some node. How far ahead
it is, is asked once, when it is first seen, and is never taken for more than the longest that the
Task's own back-off can be: neither a clock that was set back nor two that differ hold a Task up.
"""

from __future__ import annotations

from taskctl.clock import Clock
from taskctl.policy.retry import longest_delay_s, parse_retry
from taskctl.policy.view import TaskView


class Backoffs:
    """The back-offs of Tasks that wait for another attempt.

    Args:
        clock: source of time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until_s: dict[str, tuple[object, float]] = {}

    def __len__(self) -> int:
        return len(self._until_s)

    def left_s(self, view: TaskView) -> float:
        """Return the seconds until a Task's back-off ends; 0: there is none, or it has ended."""
        stamp, until = view.status.get("nextAttemptTime"), view.next_attempt_time
        if until is None:
            self._until_s.pop(view.uid, None)
            return 0.0
        now_s = self._clock.monotonic_s()
        known = self._until_s.get(view.uid)
        if known is None or known[0] != stamp:
            longest_s = longest_delay_s(parse_retry(view.spec), view.failures, view.infra_failures)
            ahead_s = (until - self._clock.now()).total_seconds()
            known = self._until_s[view.uid] = (stamp, now_s + min(max(ahead_s, 0.0), longest_s))
        return max(known[1] - now_s, 0.0)

    def drop(self, uid: str) -> None:
        """Forget a Task that waits for nothing any more."""
        self._until_s.pop(uid, None)
