"""Which images the Tasks of a TaskCluster may name (``spec.allowedImages``)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache


def is_allowed(image: str, patterns: Sequence[str] | None) -> bool:
    """Whether an image may be used.

    Args:
        image: as the Task, or the defaults of its TaskCluster, write it.
        patterns: of the TaskCluster; ``*`` stands for any text. None: all images may be used.
    """
    return patterns is None or any(_matcher(one).fullmatch(image) for one in patterns)


@lru_cache(maxsize=1024)
def _matcher(pattern: str) -> re.Pattern[str]:
    # Stars in a row say no more than one, and would make a search that fails very long.
    parts = re.split(r"[*]+", pattern)
    return re.compile(".*".join(re.escape(part) for part in parts), re.DOTALL)
