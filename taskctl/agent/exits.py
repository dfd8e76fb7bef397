"""Reading an ``exited`` request, or an exit record, which is the same map; no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from taskctl.agent import fields
from taskctl.agent.fields import bad
from taskctl.agent.runmessage import from_micros
from taskctl.constants import LOG_TAIL_BYTES, MESSAGE_LIMIT_CHARS, Reason
from taskctl.policy.outcome import ExitReport
from taskctl.wire import Message

_REASONS: Final = frozenset(
    {
        "",
        Reason.TIMEOUT.value,
        Reason.MEMORY_LIMIT.value,
        Reason.CANCELLED.value,
        Reason.COMMAND_NOT_FOUND.value,
        Reason.START_ERROR.value,
        Reason.SIGNALLED.value,
    }
)
_SIGNAL_EXIT_BASE: Final = 128
_MAX_MESSAGE: Final = 1024 * 1024  # it may name a long path; what is too much is cut
# 9999-12-31, the last day that has a name.
_MAX_US: Final = 253_402_300_799_999_999


@dataclass(frozen=True, slots=True)
class Exit:
    """A checked exit.

    Attributes:
        uid: of the Task.
        report: the rest; what only the agent knows is not filled in yet.
        prepared: what became of a command that was prepared in its container; empty: there was
            none.
    """

    uid: str
    report: ExitReport
    prepared: str = ""

    @property
    def exit_code(self) -> int:
        """What taskctl-init exits with, as a shell would: 128 + n for signal n."""
        if self.report.signal:
            return _SIGNAL_EXIT_BASE + self.report.signal
        return self.report.code


def parse_exit(message: Message) -> Exit:
    """Return the exit that a message or record tells of.

    Raises:
        Refusal: ``bad_request``, naming the field.
    """
    reason = fields.optional_text(message, "reason", max_chars=64)
    if reason not in _REASONS:
        raise bad("reason", f"{reason!r} is none of {', '.join(sorted(filter(None, _REASONS)))}")
    started_us = fields.integer(message, "started_us", high=_MAX_US, default=0)
    exited_us = fields.integer(message, "exited_us", high=_MAX_US, default=0)
    report = ExitReport(
        attempt=fields.integer(message, "attempt", low=1),
        code=fields.integer(message, "code", high=255),
        signal=fields.integer(message, "signal", high=127, default=0),
        reason=reason,
        message=fields.optional_text(message, "message", max_chars=_MAX_MESSAGE)[
            :MESSAGE_LIMIT_CHARS
        ],
        started=from_micros(started_us) if started_us else None,
        exited=from_micros(exited_us) if exited_us else None,
        user_s=fields.integer(message, "user_us", default=0) / 1e6,
        system_s=fields.integer(message, "system_us", default=0) / 1e6,
        max_rss_bytes=fields.integer(message, "max_rss_kb", high=2**50, default=0) * 1024,
        tail=fields.optional_bytes(message, "tail", max_bytes=LOG_TAIL_BYTES),
    )
    return Exit(
        uid=fields.text(message, "uid", max_chars=128),
        report=report,
        prepared=fields.optional_text(message, "prepared", max_chars=16),
    )
