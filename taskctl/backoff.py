"""How long to wait after a failure: the one shape that all retries share; no clock, no chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# 2**62 first pauses are past any limit, and the cap keeps the power a small number.
_MAX_DOUBLINGS: Final = 62

# Where one waits for itself alone, and may come back on the second.
EXACT: Final = (1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that double from failure to failure, up to a limit.

    Attributes:
        first_s: seconds to wait after the first failure.
        limit_s: no pause is longer before it is spread.
        spread: the least and the most that a pause is multiplied with, so that clients that failed
            together do not come back together. ``EXACT`` for neither.
    """

    first_s: float
    limit_s: float
    spread: tuple[float, float]

    def pause_s(self, failures: int, chance: float = 0.0) -> float:
        """Return the seconds to wait after so many failures in a row; 0 after none.

        Args:
            failures: how many, the last one included.
            chance: a number from 0 to 1 that picks a place in the spread.
        """
        if failures <= 0:
            return 0.0
        least, most = self.spread
        base_s = min(self.first_s * 2.0 ** min(failures - 1, _MAX_DOUBLINGS), self.limit_s)
        return base_s * (least + (most - least) * chance)
