"""The last line of a tree that is watched: states, progress, rate, what is left, time. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from taskctl.api.states import TaskState
from taskctl.cli.durations import moment, short_age
from taskctl.cli.forest import TreeNode, all_views, wall_s
from taskctl.cli.output import Style, paint
from taskctl.cli.render_tree import GLYPHS, TreeStyle
from taskctl.cli.tables import STATE_STYLES
from taskctl.cli.terminal import bar, columns
from taskctl.cli.treeplan import INTEREST
from taskctl.policy.view import TaskView

RATE_WINDOW_S: Final = 10.0
_BAR_MIN, _BAR_MAX = 5, 20
_SPARE: Final = 2


def render_status(roots: Sequence[TreeNode], style: TreeStyle) -> str:
    """Return the status bar: no more than ``style.width`` columns unless that is very few.

    What is left is reckoned from the tasks that there are now: while tasks create tasks, it grows.
    """
    views = all_views(roots)
    counts = Counter(view.state for view in views)
    done = sum(count for state, count in counts.items() if state.terminal)
    per_s = rate_per_s(views, style.now)
    parts = [_states(counts, style), f"{done}/{len(views)}"]
    if per_s:
        parts.append(f"{per_s:.3g}/s" if per_s < 1000 else f"{per_s:.0f}/s")
        if done < len(views):
            parts.append(f"ETA {short_age((len(views) - done) / per_s + 0.5)}")
    wall = wall_s(views, style.now)
    if wall is not None:
        parts.append(short_age(wall))
    room = style.width - columns("  ".join(parts)) - _SPARE
    if views and room >= _BAR_MIN:
        cells = min(room, _BAR_MAX)
        drawn = bar(done / len(views), cells, unicode=style.unicode)
        bar_style = Style.BAD if counts[TaskState.FAILED] else Style.GOOD
        parts.insert(1, paint(drawn, bar_style, colour=style.colour))
    return "  ".join(parts)


def rate_per_s(views: Sequence[TaskView], now: datetime) -> float:
    """Return how many tasks ended per second recently; 0 if none did."""
    wall = wall_s(views, now)
    # A young tree has not had the whole time.
    window_s = min(RATE_WINDOW_S, wall if wall is not None else RATE_WINDOW_S)
    return len(ended_since(views, now, RATE_WINDOW_S)) / max(window_s, 1.0)


def ended_since(views: Sequence[TaskView], now: datetime, window_s: float) -> list[TaskView]:
    """Return the tasks that ended no longer than ``window_s`` seconds ago."""
    since = now - timedelta(seconds=window_s)
    return [view for view in views if (time := _end(view)) is not None and time >= since]


def _end(view: TaskView) -> datetime | None:
    return (moment(view, "exited") or moment(view, "observed")) if view.state.terminal else None


def _states(counts: Counter[TaskState], style: TreeStyle) -> str:
    parts = [
        paint(
            f"{GLYPHS[state][0 if style.unicode else 1]}{counts[state]}",
            STATE_STYLES[state],
            colour=style.colour,
        )
        for state in INTEREST
        if counts[state]
    ]
    return " ".join(parts) or "no tasks yet"
