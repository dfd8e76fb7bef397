"""How long ago something was, whatever becomes of the wall clock meanwhile.

Objects carry wall-clock times, written by other machines. A clock that is set, or is off, must
neither hold a Task up for as long nor have it given up too soon. So a stamp is compared with the
wall clock once, when it is first seen, and within what can be true; from then on the monotonic
clock counts.
"""

from __future__ import annotations

from collections.abc import Container, Hashable
from dataclasses import dataclass
from datetime import datetime

from taskctl.clock import Clock


@dataclass(frozen=True, slots=True)
class _Sight:
    stamp: datetime
    at_s: float
    age_s: float


class Ages:
    """Remembers when stamps were first seen.

    Args:
        clock: source of time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[Hashable, _Sight] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def age_s(self, key: Hashable, stamp: datetime, *, at_least_s: float = 0.0) -> float:
        """Return how many seconds ago the moment of a stamp was; negative: it is to come.

        Args:
            key: whose stamp it is; another stamp under the same key begins again.
            stamp: the moment.
            at_least_s: the least that the age can have been when the stamp was first seen: 0
                where it tells of something that has happened, -10 where it names a moment at most
                10 s ahead. What would be less is the fault of a clock.
        """
        now_s = self._clock.monotonic_s()
        sight = self._seen.get(key)
        if sight is None or sight.stamp != stamp:
            age_s = max((self._clock.now() - stamp).total_seconds(), at_least_s)
            sight = self._seen[key] = _Sight(stamp, now_s, age_s)
        return sight.age_s + now_s - sight.at_s

    def drop(self, key: Hashable) -> None:
        """Forget a stamp."""
        self._seen.pop(key, None)

    def keep(self, keys: Container[Hashable]) -> None:
        """Forget all other stamps."""
        for key in [key for key in self._seen if key not in keys]:
            del self._seen[key]
