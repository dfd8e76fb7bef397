"""Which reconcile a log line belongs to."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

# ``pod default/a #12``, or empty; the log's formatter puts it before the message.
RECONCILE_ID: Final[ContextVar[str]] = ContextVar("reconcile_id", default="")
