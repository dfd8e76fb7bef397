"""What is logged of requests that are not HTTP.

aiohttp logs an exception for each, with a traceback and the bytes that it stumbled over: the
Authorization header, say. Here it is a line that says what kind of fault it was.
"""

from __future__ import annotations

import logging

from aiohttp.http_exceptions import HttpProcessingError

log = logging.getLogger(__name__)


class _WithoutContent(logging.Filter):
    """Takes the client's bytes out of records about malformed requests."""

    def filter(self, record: logging.LogRecord) -> bool:
        fault = record.exc_info[1] if record.exc_info else None
        if isinstance(fault, HttpProcessingError):
            record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
            record.msg, record.args = "a malformed request: %s", (type(fault).__name__,)
            record.exc_info = record.exc_text = None
        return True


def request_logger() -> logging.Logger:
    """Return the logger for aiohttp's server."""
    if not any(isinstance(one, _WithoutContent) for one in log.filters):
        log.addFilter(_WithoutContent())
    return log
