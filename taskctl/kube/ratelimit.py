"""The client's own request rate limit.

Python clients have none, and every service account of a cluster shares one priority
level of the API server (workload-low), so a busy controller must hold itself back; and when
the server asks it to, all of it.
"""

from __future__ import annotations

from taskctl.errors import ConfigError
from taskctl.kube.limits import MAX_BURST, MAX_QPS
from taskctl.kube.timing import SYSTEM_TIMING, Timing


class TokenBucket:
    """A token bucket that lends: a caller takes its token now and learns how long to wait.

    Waiters are thereby served in the order they came, without a queue.

    Args:
        qps: tokens a second; 0 means no limit.
        burst: tokens when full.
        timing: clock and sleep.

    Raises:
        ConfigError: the rate is negative or no number, the burst is under 1, or one is too large.
    """

    def __init__(self, qps: float, burst: int, timing: Timing = SYSTEM_TIMING) -> None:
        if not 0 <= qps <= MAX_QPS:  # nor is it true of NaN
            raise ConfigError(f"qps is {qps}; it must be 0 (no limit) to {MAX_QPS:,.0f}")
        if not 1 <= burst <= MAX_BURST:
            raise ConfigError(f"burst is {burst}; it must be 1 to {MAX_BURST:,}")
        self._qps = qps
        self._burst = float(burst)
        self._timing = timing
        self._tokens = float(burst)
        # Up to when tokens were counted in; ahead of the time while the bucket is closed.
        self._filled_at_s = timing.clock.monotonic_s()

    def pause(self, seconds: float) -> None:
        """Hand out nothing for so many seconds, then continue at the rate, without a burst.

        For when the server says that it is overloaded (429): what one request was told holds
        for those after it. Of overlapping pauses the one that ends last counts.
        """
        now = self._timing.clock.monotonic_s()
        self._fill(now)
        self._tokens = min(self._tokens, 0.0)
        self._filled_at_s = max(self._filled_at_s, now + seconds)

    def _fill(self, now_s: float) -> None:
        gained = max(0.0, now_s - self._filled_at_s) * self._qps
        self._tokens = min(self._burst, self._tokens + gained)
        self._filled_at_s = max(self._filled_at_s, now_s)

    def _closed_s(self) -> float:
        return max(0.0, self._filled_at_s - self._timing.clock.monotonic_s())

    def reserve_s(self) -> float:
        """Take a token, and return the seconds to wait before using it."""
        if self._qps == 0:
            return self._closed_s()
        self._fill(self._timing.clock.monotonic_s())
        self._tokens -= 1.0
        return self._closed_s() + max(0.0, -self._tokens / self._qps)

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
        try:
            while wait_s > 0:
                await self._timing.sleep(wait_s)
                # A pause that began meanwhile holds for those that wait already, too; and they
                # shall not all come at the moment it ends.
                wait_s = self._closed_s() * (1.0 + 0.5 * self._timing.random())
        except BaseException:
            self.give_back()  # the caller was cancelled and sends nothing
            raise
        return True
