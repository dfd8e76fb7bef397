"""Where a child hangs in the tree that grew below a root."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from taskctl.api.meta import Name, SpecModel

MAX_SPAWN_KEY = 1024
_MAX_UID = 128


class Lineage(SpecModel):
    """Where a child hangs in its tree.

    It stands in the spec because that cannot be changed, and names the child itself, so that a
    copy of the object under another name is not taken for a member of the tree. The labels and
    annotations that tell the same are for people's selectors; nothing is decided by them.
    """

    task: Annotated[Name, Field(description="Name of the child itself.")]
    root: Annotated[Name, Field(description="Name of the tree's root Task.")]
    root_uid: Annotated[
        str, Field(alias="rootUID", min_length=1, max_length=_MAX_UID, description="Its UID.")
    ]
    parent: Annotated[Name, Field(description="Name of the Task that made this one.")]
    parent_uid: Annotated[
        str, Field(alias="parentUID", min_length=1, max_length=_MAX_UID, description="Its UID.")
    ]
    depth: Annotated[int, Field(ge=1, description="Level in the tree; the root has 0.")]
    key: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_SPAWN_KEY,
            description="Key of the child, unique among the children of its parent.",
        ),
    ]
