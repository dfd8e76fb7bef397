"""``Task.status.tree``: what taskctl keeps about the tree below a root."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from taskctl.api.meta import MicroTime, StatusModel


class TreeStatus(StatusModel):
    """What taskctl keeps about a tree; on roots only."""

    run: Annotated[
        int | None,
        Field(
            ge=1,
            description="How often the tree has been run: 2 after the first `taskctl retry` of a "
            "tree that had ended. Absent: once.",
        ),
    ] = None
    since: Annotated[
        MicroTime | None,
        Field(
            description="When this run of the tree began; `treeTimeoutSeconds` counts from then. "
            "Absent in the first run, which begins with the creation of the root."
        ),
    ] = None
    timed_out: Annotated[
        MicroTime | None,
        Field(
            description="When this run of the tree had lasted longer than `treeTimeoutSeconds`. "
            "What has not ended is stopped since then, with the reason TreeTimeout."
        ),
    ] = None
