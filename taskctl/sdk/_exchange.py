"""What a request to the agent is on any transport: frames, answers, back-off. No I/O."""

from __future__ import annotations

import os
import time

from taskctl import wire
from taskctl.errors import TaskctlError, WireError
from taskctl.sdk.errors import AgentAway, SdkError, Unsendable, refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Final, TypeVar

    from taskctl.wire import Message

    T = TypeVar("T")
    # A piece of work that needs answers of the agent: yields requests, is sent the answers.
    # A request is a map with `op`; the answer to `attach` is that of the connection.
    Operation = Generator[Message, Message, T]

ATTACH: Final[Message] = {"op": "attach"}
FIRST_DELAY_S: Final = 0.02
CHILD_S: Final = 0.25  # of a busy API server for one child, its input included
MAX_DELAY_S: Final = 1.0


class Away(TaskctlError):
    """The connection is broken or the answer was ``unavailable``: try again."""


class SpawnLater(Away):
    """The tree grows as fast as it may (``limits.spawnRate``): try again after a while.

    Attributes:
        refusal: what to raise where there is no time for that.
        after_s: seconds.
    """

    def __init__(self, refusal: SdkError, after_s: float) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal
        self.after_s = after_s


def encode_attach(token: str) -> bytes:
    """Return the frame that opens a connection."""
    return wire.encode({"id": 1, "op": "attach", "v": wire.VERSION, "token": token})


def encode_request(request: Message, number: int) -> bytes:
    """Return the frame of a request.

    Args:
        request: a map with ``op``.
        number: its id; rising on a connection, above 1.

    Raises:
        Unsendable: it does not fit a frame, or holds what msgpack cannot say.
    """
    try:
        return wire.encode({**request, "id": number})
    except WireError as error:
        raise Unsendable(
            f"{request['op']}: {error}; write it to a file in the workspace"
        ) from error


def check_answer(op: str, answer: Message) -> Message:
    """Return the answer if it says yes.

    Raises:
        Away: try again.
        SdkError: the agent refused.
    """
    if answer.get("ok") is True:
        return answer
    code, message = str(answer.get("error", "bad_frame")), str(answer.get("message", ""))
    if code in ("unavailable", "bad_frame"):
        raise Away(message)
    refusal, after_s = refused(op, code, message), answer.get("retry_after_s")
    if isinstance(after_s, float | int) and after_s > 0:
        raise SpawnLater(refusal, float(after_s))
    raise refusal


def deadline_of(request: Message, deadline_s: float) -> float:
    """Return how many seconds a request may take: longer where it is about many children.

    The agent answers when all of them exist, and an API server that is busy takes minutes for a
    thousand.

    Args:
        request: to the agent.
        deadline_s: for one that is about one thing.
    """
    count = len(request.get("tasks") or request.get("uids") or ())
    return deadline_s + CHILD_S * max(0, count - 1)


class Patience:
    """Back-off with jitter up to a deadline.

    Args:
        op: what is asked for, for the error.
        deadline_s: seconds from now.
    """

    def __init__(self, op: str, deadline_s: float) -> None:
        self._op = op
        self._deadline_s = deadline_s
        self._end_s = time.monotonic() + deadline_s
        self._next_s = FIRST_DELAY_S
        self._reason = ""

    def left_s(self) -> float:
        """Return the seconds left, at least a little."""
        return max(0.001, self._end_s - time.monotonic())

    def delay_s(self, error: Exception) -> float:
        """Return how long to wait before the next try.

        Raises:
            AgentAway: the deadline would pass.
            LimitExceeded: the same, while the tree grows as fast as it may.
        """
        random_unit = int.from_bytes(os.urandom(2), "big") / 65536  # `random` is slow to import
        if isinstance(error, SpawnLater):
            delay_s = error.after_s * (1 + random_unit / 4)
            if time.monotonic() + delay_s >= self._end_s:
                raise error.refusal
            return delay_s
        delay_s = self._next_s * (0.5 + random_unit)
        self._next_s = min(2 * self._next_s, MAX_DELAY_S)
        now_s = time.monotonic()
        if now_s < self._end_s or not self._reason:  # later on it is only that time was up
            self._reason = str(error)
        if now_s + delay_s >= self._end_s:
            raise AgentAway(
                f"{self._op}: the agent did not answer within {self._deadline_s:g} s "
                f"({self._reason}); try again later"
            ) from error
        return delay_s
