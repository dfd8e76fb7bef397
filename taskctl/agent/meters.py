"""What an agent counts of its own doings: plain numbers, read when somebody asks for metrics.

Nothing here holds the name of a task, its command or what it wrote: whoever can reach the pod
may read the metrics, the tasks of the same worker included.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import Final

from taskctl.agent.refusals import ErrorCode

# Requests of docs/protocol.md; a task may send any word, which must not become a label.
OPERATIONS: Final = frozenset(
    (
        *("hello", "next", "exited", "attach"),
        *("input", "sources", "children", "results", "list", "cancel", "spawn", "output"),
        *("progress", "info"),
    )
)
OTHER: Final = "(other)"


class ClaimOutcome(StrEnum):
    """What became of a container that asked what to run."""

    WON = "won"  # the attempt is this container's
    LOST = "lost"  # the attempt does not count any more, or another container is to run it


class Meters:
    """Counters of one life of an agent; they begin at 0 with each.

    Attributes:
        starts: runs told to begin, by whether the container was parked (``standby``, ``own``).
        claims: by what became of them.
        outcomes: exits by the state that was recorded; ``Dropped``: no longer wanted.
        requests: frames from taskctl-init and from tasks, by operation.
        refusals: requests answered with an error, by its code.
        api: requests to the API server, by verb, resource and status.
        handovers: parked containers that were given a task.
        children: child Tasks created.
        log_bytes: what ended runs had left in their logs.
        connections: open on the socket.
    """

    def __init__(self) -> None:
        self.starts: Counter[str] = Counter({"own": 0, "standby": 0})
        self.claims: Counter[str] = Counter({one.value: 0 for one in ClaimOutcome})
        self.outcomes: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.api: Counter[tuple[str, str, str]] = Counter()
        self.handovers = 0
        self.children = 0
        self.log_bytes = 0
        self.connections = 0

    def on_request(self, operation: str) -> None:
        """Count a frame by what it asks for."""
        self.requests[operation if operation in OPERATIONS else OTHER] += 1

    def on_refusal(self, code: ErrorCode) -> None:
        """Count a request that was answered with an error."""
        self.refusals[code.value] += 1

    def on_api_request(self, *, verb: str, resource: str, code: int, duration_s: float) -> None:
        """Serve as ``ClientSettings.observer``."""
        del duration_s
        self.api[verb, resource, str(code)] += 1
