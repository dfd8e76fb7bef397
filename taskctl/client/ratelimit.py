"""The client's own request rate limit.

Python clients have none, and every service account of a cluster shares one priority
level of the API server (workload-low), so a busy controller must hold itself back.
"""

from __future__ import annotations

from taskctl.client.timing import SYSTEM_TIMING, Timing
from taskctl.errors import ConfigError


class TokenBucket:
    """A token bucket that lends: a caller takes its token now and learns how long to wait.

    Waiters are thereby served in the order they came, without a queue.

    Args:
        qps: tokens a second; 0 means no limit.
        burst: tokens when full.
        timing: clock and sleep.

    Raises:
        ConfigError: a negative rate, or a burst under 1.
    """

    def __init__(self, qps: float, burst: int, timing: Timing = SYSTEM_TIMING) -> None:
        if qps < 0:
            raise ConfigError(f"qps is {qps}; it must be 0 (no limit) or more")
        if burst < 1:
            raise ConfigError(f"burst is {burst}; it must be 1 or more")
        self._qps = qps
        self._burst = float(burst)
        self._timing = timing
        self._tokens = float(burst)
        self._filled_at_s = timing.clock.monotonic_s()

    def reserve_s(self) -> float:
        """Take a token, and return the seconds to wait before using it."""
        if self._qps == 0:
            return 0.0
        now = self._timing.clock.monotonic_s()
        gained = (now - self._filled_at_s) * self._qps
        self._tokens = min(self._burst, self._tokens + gained)
        self._filled_at_s = now
        self._tokens -= 1.0
        return max(0.0, -self._tokens / self._qps)

    def give_back(self) -> None:
        """Return a token that was reserved and not used."""
        self._tokens = min(self._burst, self._tokens + 1.0)

    async def acquire(self, max_wait_s: float | None = None) -> bool:
        """Wait for a token.

        Args:
            max_wait_s: the longest wait worth its while; None for any.

        Returns:
            Whether there is a token; False at once where the wait would be longer.
        """
        wait_s = self.reserve_s()
        if max_wait_s is not None and wait_s > max_wait_s:
            self.give_back()
            return False
        if wait_s > 0:
            try:
                await self._timing.sleep(wait_s)
            except BaseException:
                self.give_back()  # the caller was cancelled and sends nothing
                raise
        return True
