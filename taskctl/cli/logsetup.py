"""The log of a component: one line per record, as text or JSON, on stderr."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from enum import StrEnum

from taskctl.cli.terminal import escape_in_json
from taskctl.kube.logcontext import RECONCILE_ID
from taskctl.safetext import visible

# Chatty below this level, and not ours.
_QUIET = ("asyncio", "aiohttp", "kubernetes_asyncio")


class LogFormat(StrEnum):
    """``--log-format``."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """``--log-level``."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def set_up_logging(level: LogLevel, format_: LogFormat) -> None:
    """Configure the root logger of this process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if format_ is LogFormat.JSON else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.INFO, logging.getLevelName(level.upper())))


def _moment(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


class TextFormatter(logging.Formatter):
    """``2026-11-21T09:20:55.123Z INFO  taskctl.agent.main: serving pod=c-1``.

    A traceback follows on lines of its own, indented.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text."""
        # It may hold names and messages of objects, and users read it on a terminal.
        message = visible(record.getMessage()).replace("\n", "\n    ")
        context = RECONCILE_ID.get()
        where = f" [{context}]" if context else ""
        line = f"{_moment(record)} {record.levelname:<5} {record.name}:{where} {message}"
        if record.exc_info:
            trace = visible(self.formatException(record.exc_info))
            line += "\n    " + trace.replace("\n", "\n    ")
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        entry = {
            "time": _moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if context := RECONCILE_ID.get():
            entry["reconcile"] = context
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return escape_in_json(json.dumps(entry, ensure_ascii=False))
