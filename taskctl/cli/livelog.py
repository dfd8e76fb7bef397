"""The logs of tasks on stderr, for as long as one waits for them."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from taskctl.cli.access import Session
from taskctl.cli.loggroup import LogGroup
from taskctl.cli.logprint import LogRequest
from taskctl.cli.logsink import ChunkWriter, LineWriter, PlainWriter


@asynccontextmanager
async def stderr_logs(session: Session, *, several: bool) -> AsyncIterator[LogGroup]:
    """Open a group of logs that go to stderr; what is not printed at the end is left out.

    Stdout is for the names and results of tasks, which programs read.

    Args:
        session: client and namespace.
        several: each line gets the name of its task in front.
    """
    filtered = sys.stderr.isatty()

    def writer_for(task: dict[str, Any]) -> ChunkWriter:
        if several:
            return LineWriter(f"{task['metadata']['name']} | ", filtered=filtered, err=True)
        return PlainWriter(filtered=filtered, err=True)

    group = LogGroup(session, writer_for, LogRequest(follow=True, filtered=filtered))
    try:
        yield group
    finally:
        await group.close()
