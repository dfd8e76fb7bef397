"""Which reconcile a log line belongs to."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Final

RECONCILE_ID: Final[ContextVar[str]] = ContextVar("reconcile_id", default="")


class ReconcileFilter(logging.Filter):
    """Puts ``record.reconcile`` on every record: ``[task default/a #12] ``, or nothing.

    Add it to a handler, and ``%(reconcile)s`` to its format before the message.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Mark the record; lets all pass."""
        reconcile_id = RECONCILE_ID.get()
        record.reconcile = f"[{reconcile_id}] " if reconcile_id else ""
        return True
