"""A tree of tasks as lines of text. Pure.

A tree may have thousands of nodes and be thousands deep. So lines are given out breadth
first until the budget is spent; what is left out is counted where it would stand. And a
chain (each task makes one more) is drawn downwards, not to the right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from taskctl.api.conditions import find_condition
from taskctl.api.states import ConditionStatus, ConditionType, TaskState
from taskctl.cli.durations import precise
from taskctl.cli.forest import Node, Stage, all_views, latency_stages, run_s, wall_s
from taskctl.cli.output import paint, table
from taskctl.cli.tables import STATE_STYLES
from taskctl.cli.terminal import columns, one_line, shorten
from taskctl.constants import Reason
from taskctl.policy.view import TaskView

_GLYPHS = {
    TaskState.PENDING: ("○", "."),
    TaskState.SCHEDULED: ("◔", ":"),
    TaskState.RUNNING: ("●", "*"),
    TaskState.SUCCEEDED: ("✔", "+"),
    TaskState.FAILED: ("✘", "x"),
    TaskState.CANCELLED: ("⊘", "-"),
    TaskState.SKIPPED: ("↷", "~"),
}
# What people look for first when not everything can be shown.
_INTEREST = (
    TaskState.FAILED,
    TaskState.RUNNING,
    TaskState.SCHEDULED,
    TaskState.PENDING,
    TaskState.CANCELLED,
    TaskState.SUCCEEDED,
    TaskState.SKIPPED,
)
_UNDER_WAY = frozenset({TaskState.SCHEDULED, TaskState.RUNNING})
_QUIET_REASONS = frozenset(
    {
        Reason.COMPLETED,
        Reason.STARTED,
        Reason.CANCELLED,
        Reason.STOPPED,
        Reason.QUEUED,
        Reason.SKIPPED,
    }
)
CHILDREN_SHOWN = 12
CAUSE_CHARS_MIN = 20
LINE_CHARS = 160
CHAIN_HEAD, CHAIN_TAIL = 5, 3


@dataclass(frozen=True, slots=True)
class TreeStyle:
    """How to draw.

    Attributes:
        now: for the durations of what still runs.
        max_lines: budget for the tree itself; 0 means no limit, and everything is shown.
        colour: whether to colour.
        unicode: False draws in ASCII.
        width: columns that a line should not exceed for what it says of a failure.
    """

    now: datetime
    max_lines: int = 100
    colour: bool = False
    unicode: bool = True
    width: int = LINE_CHARS


@dataclass(slots=True)
class _Branch:
    """What is shown of a node's children.

    Attributes:
        shown: children with a line of their own.
        hidden: states of everything below that has none.
        hidden_at: before which of ``shown`` the hidden ones stand.
    """

    shown: list[Node]
    hidden: Counter[TaskState]
    hidden_at: int


def render_forest(roots: Sequence[Node], style: TreeStyle) -> list[str]:
    """Return the lines of one or more trees, without the summary."""
    lines: list[str] = []
    shown = list(roots)
    if style.max_lines and len(shown) > style.max_lines:
        shown = shown[-style.max_lines :]
        skipped: Counter[TaskState] = Counter()
        for node in roots[: -style.max_lines]:
            skipped.update(node.whole)
        lines.append(_left_out("", "", skipped, style))
    budget = max(1, style.max_lines // max(1, len(shown))) if style.max_lines else 0
    for root in shown:
        lines += _render_tree(root, budget, style)
    return lines


def render_standstill(roots: Sequence[Node], clusters: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return why nothing runs, if nothing does: the TaskClusters that are not ready.

    Args:
        roots: the trees.
        clusters: raw TaskClusters of the namespace.
    """
    views = all_views(roots)
    if any(view.state in _UNDER_WAY for view in views):
        return []
    wanted = {view.cluster for view in views if view.state is TaskState.PENDING}
    lines = []
    for cluster in clusters:
        name = cluster["metadata"]["name"]
        conditions = (cluster.get("status") or {}).get("conditions")
        ready = find_condition(conditions, ConditionType.READY)
        if name in wanted and ready is not None and ready.get("status") != ConditionStatus.TRUE:
            lines.append(f"TaskCluster {name} is not ready: {ready.get('message', '')}".rstrip())
    return sorted(lines)


def render_summary(roots: Sequence[Node], style: TreeStyle) -> list[str]:
    """Return the counts by state and the latency receipt."""
    views = all_views(roots)
    counts = Counter(view.state for view in views)
    wall = wall_s(views, style.now)
    head = f"{len(views)} task{'' if len(views) == 1 else 's'}: {count_text(counts, style)}"
    lines = [head + (f", in {precise(wall)}" if wall is not None else "")]
    stages = latency_stages(views)
    if stages:
        lines += ["", _stage_table(stages, style)]
        gaps = next((stage for stage in stages if stage.name == "created → user code"), None)
        if gaps is not None and len(views) > 1:
            lines.append(
                f"Sum of gaps (time that tasks waited to run): {precise(gaps.sum_s)} "
                f"over {gaps.count} tasks."
            )
        if any(stage.coarse for stage in stages):
            lines.append(
                "Kubernetes notes creations in whole seconds: what counts from one may be up to "
                "1 s too long."
            )
    return lines


def count_text(counts: Counter[TaskState], style: TreeStyle) -> str:
    """Return ``3 Succeeded, 1 Failed``, those in front that people look for first."""
    parts = [
        paint(f"{counts[state]} {state}", STATE_STYLES[state], colour=style.colour)
        for state in _INTEREST
        if counts[state]
    ]
    return ", ".join(parts) or "none"


def _stage_table(stages: Sequence[Stage], style: TreeStyle) -> str:
    rows = [
        [
            stage.name if style.unicode else stage.name.replace("→", "->"),
            precise(stage.p50_s),
            precise(stage.p99_s),
            precise(stage.sum_s),
        ]
        for stage in stages
    ]
    return table(["latency", "p50", "p99", "sum"], rows)


# --- drawing ------------------------------------------------------------------------


def _render_tree(root: Node, budget: int, style: TreeStyle) -> list[str]:
    plan = _plan(root, budget)
    lines: list[str] = []
    # (node, prefix of its line, prefix of the lines below it, what to print instead)
    stack: list[tuple[Node | None, str, str, Counter[TaskState]]] = [(root, "", "", Counter())]
    while stack:
        node, prefix, below, hidden = stack.pop()
        if node is None:
            lines.append(_left_out(prefix, "", hidden, style))
            continue
        branch = plan.get(id(node))
        collapsed = node.counts if branch is None else Counter()
        line = prefix + _label(node, collapsed, style)
        lines.append(line + _cause(node.view, style.width - columns(line)))
        if branch is not None:
            stack += reversed(_below(branch, below, style))
    return lines


def _below(
    branch: _Branch, prefix: str, style: TreeStyle
) -> list[tuple[Node | None, str, str, Counter[TaskState]]]:
    """Return the entries for what stands below a node, top first."""
    tee, corner, bar = ("├─ ", "└─ ", "│  ") if style.unicode else ("|- ", "`- ", "|  ")
    arrow = "↳ " if style.unicode else "> "
    entries: list[tuple[Node | None, Counter[TaskState]]] = [
        (child, Counter()) for child in branch.shown
    ]
    if branch.hidden:
        entries.insert(branch.hidden_at, (None, branch.hidden))
    if len(entries) == 1 and entries[0][0] is not None:
        return [(entries[0][0], prefix + arrow, prefix, Counter())]
    result = []
    for number, (child, hidden) in enumerate(entries):
        last = number + 1 == len(entries)
        lead = corner if last else tee
        result.append((child, prefix + lead, prefix + ("   " if last else bar), hidden))
    return result


def _label(node: Node, collapsed: Counter[TaskState], style: TreeStyle) -> str:
    view = node.view
    glyph = _GLYPHS[view.state][0 if style.unicode else 1]
    state_style = STATE_STYLES[view.state]
    parts = [
        paint(glyph, state_style, colour=style.colour),
        one_line(view.name),
        paint(str(view.state), state_style, colour=style.colour),
    ]
    details = []
    reason = view.status.get("reason")
    if reason and reason not in _QUIET_REASONS:
        code = view.status.get("exitCode")
        said = f"{reason} {code}" if reason == Reason.NON_ZERO_EXIT else str(reason)
        details.append(one_line(said))
    duration = run_s(view, style.now)
    if duration is not None:
        details.append(precise(duration))
    if view.attempt > 1:
        details.append(f"attempt {view.attempt}")
    if collapsed:
        details.append(f"below: {count_text(collapsed, style)}")
    text = " ".join(parts)
    return f"{text}  {', '.join(details)}" if details else text


def _cause(view: TaskView, max_chars: int) -> str:
    """Return ``: ValueError: …`` for a failed Task: the last line of its message."""
    lines = str(view.status.get("message") or "").strip().splitlines()
    if view.state is not TaskState.FAILED or not lines:
        return ""
    if len(lines) == 1 and view.status.get("reason") == Reason.NON_ZERO_EXIT:
        return ""  # the sentence says no more than the exit code
    return f": {shorten(one_line(lines[-1]), max(CAUSE_CHARS_MIN, max_chars - 2))}"


def _left_out(prefix: str, lead: str, hidden: Counter[TaskState], style: TreeStyle) -> str:
    dots = "…" if style.unicode else "..."
    return f"{prefix}{lead}{dots} {hidden.total()} more: {count_text(hidden, style)}"


# --- choosing -----------------------------------------------------------------------


def _plan(root: Node, budget: int) -> dict[int, _Branch]:
    """Decide breadth first whose children get lines; by the identity of the node.

    A node without an entry is drawn with the counts of what lies below it.
    """
    plan: dict[int, _Branch] = {}
    left = budget - 1
    level = [root]
    while level:
        following: list[Node] = []
        for node in level:
            if not node.children:
                continue
            branch = _select(node.children, CHILDREN_SHOWN if budget else len(node.children))
            cost = len(branch.shown) + bool(branch.hidden)
            if budget and cost > left:
                continue
            left -= cost
            plan[id(node)] = branch
            following += branch.shown
        level = following
    if budget:
        _shorten_chain(root, plan, budget)
    return plan


def _select(children: list[Node], limit: int) -> _Branch:
    if len(children) <= limit:
        return _Branch(children, Counter(), 0)
    rank = {state: number for number, state in enumerate(_INTEREST)}
    chosen = sorted(children, key=lambda child: min(rank[s] for s in child.whole))[: limit - 1]
    keep = {id(child) for child in chosen}
    hidden: Counter[TaskState] = Counter()
    for child in children:
        if id(child) not in keep:
            hidden.update(child.whole)
    shown = [child for child in children if id(child) in keep]
    return _Branch(shown, hidden, len(shown))


def _shorten_chain(root: Node, plan: dict[int, _Branch], budget: int) -> None:
    """Of a chain that is longer than the budget, show the beginning and the end."""
    chain = [root]
    while len(chain[-1].children) == 1:
        chain.append(chain[-1].children[0])
    if len(chain) <= budget or len(chain) <= CHAIN_HEAD + CHAIN_TAIL + 1:
        return
    plan.clear()
    head_shown = max(CHAIN_HEAD, budget - CHAIN_TAIL - 2)
    head, tail = chain[:head_shown], chain[-CHAIN_TAIL:]
    hidden = Counter(node.view.state for node in chain[head_shown:-CHAIN_TAIL])
    for upper, lower in (*pairwise(head), *pairwise(tail)):
        plan[id(upper)] = _Branch([lower], Counter(), 0)
    if tail[-1].children:
        plan[id(tail[-1])] = _select(tail[-1].children, CHILDREN_SHOWN)
    plan[id(head[-1])] = _Branch([tail[0]], hidden, 0)
