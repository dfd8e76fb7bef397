"""A tree of tasks as lines of text. Pure.

A tree may have thousands of nodes and be thousands deep: what gets a line is decided in
:mod:`taskctl.cli.treeplan`. A chain (each task makes one more) is drawn downwards, not to the
right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from taskctl.api.conditions import condition_is, find_condition
from taskctl.api.states import ConditionStatus, ConditionType, DeliveryState, TaskState
from taskctl.cli.durations import precise, run_s
from taskctl.cli.forest import Stage, TreeNode, all_views, latency_stages, wall_s
from taskctl.cli.output import Style, counted, paint, table
from taskctl.cli.tables import STATE_STYLES
from taskctl.cli.terminal import bar, columns, one_line, shorten
from taskctl.cli.treeplan import INTEREST, TOP, Branch, plan
from taskctl.constants import Reason
from taskctl.policy.labels import key_of, label_of
from taskctl.policy.status import FINE
from taskctl.policy.view import TaskView

GLYPHS = {
    TaskState.PENDING: ("○", "."),
    TaskState.SCHEDULED: ("◔", ":"),
    TaskState.RUNNING: ("●", "*"),
    TaskState.SUCCEEDED: ("✔", "+"),
    TaskState.FAILED: ("✘", "x"),
    TaskState.CANCELLED: ("⊘", "-"),
    TaskState.SKIPPED: ("↷", "~"),
}
_UNDER_WAY = frozenset({TaskState.SCHEDULED, TaskState.RUNNING})
_URL_CHARS = 60
_LIKE = {
    DeliveryState.OWED: TaskState.PENDING,
    DeliveryState.SENT: TaskState.SUCCEEDED,
    DeliveryState.GIVEN_UP: TaskState.FAILED,
}
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
CAUSE_CHARS_MIN = 20
LINE_CHARS = 160
BAR_CELLS = 10
_KEY_CHARS = 40
_AUTOMATIC_KEY = "auto-"  # of a key that the SDK made up (taskctl/sdk/_keys.py)


@dataclass(frozen=True, slots=True)
class TreeStyle:
    """How to draw.

    Attributes:
        now: for the durations of what still runs.
        max_lines: of the trees, without the summary; 0 means no limit, and everything is shown.
        colour: whether to colour.
        unicode: False draws in ASCII.
        width: columns that a line should not exceed for what it says of a failure.
        live: it is looked at while it grows: keys stand in for names that taskctl made up.
    """

    now: datetime
    max_lines: int = 100
    colour: bool = False
    unicode: bool = True
    width: int = LINE_CHARS
    live: bool = False


def render_forest(roots: Sequence[TreeNode], style: TreeStyle) -> list[str]:
    """Return the lines of one or more trees, without the summary."""
    branches = plan(roots, style.max_lines)
    lines: list[str] = []
    stack = [_DrawnLine(node) for node in reversed(branches[TOP].shown)]
    if branches[TOP].hidden:
        stack.append(_DrawnLine(None, hidden=branches[TOP].hidden))
    while stack:
        entry = stack.pop()
        if entry.node is None:
            lines.append(_left_out(entry.prefix, entry.hidden, style))
            continue
        branch = branches.get(id(entry.node))
        label = _Label(
            entry.node,
            collapsed=entry.node.counts if branch is None else Counter(),
            program_above=entry.program_above,
        )
        lines.append(_line(entry.prefix, label, style))
        if branch is not None:
            stack += reversed(_below(entry, branch, style))
    return lines


def render_standstill(
    roots: Sequence[TreeNode], clusters: Iterable[Mapping[str, Any]]
) -> list[str]:
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


def render_exit(root: Mapping[str, Any], style: TreeStyle) -> list[str]:
    """Return the line on a root's exit task (``spec.onExit``), once there is one.

    Args:
        root: the raw root.
        style: how to draw.
    """
    noted = ((root.get("status") or {}).get("tree") or {}).get("exit")
    if not noted:
        return []
    state = TaskState(noted["state"])
    glyph, colour = GLYPHS[state][0 if style.unicode else 1], STATE_STYLES[state]
    line = f"on exit: {paint(glyph, colour, colour=style.colour)} {one_line(noted['task'])} "
    line += paint(str(state), colour, colour=style.colour)
    if noted.get("reason") not in (None, *_QUIET_REASONS):
        line += f"  {one_line(noted['reason'])}"
    said = str(noted.get("message") or "").strip().splitlines()
    if said and state not in FINE:
        room = max(CAUSE_CHARS_MIN, style.width - columns(line) - 2)
        line += f": {shorten(one_line(said[-1]), room)}"
    return [line]


def render_notifications(root: Mapping[str, Any], style: TreeStyle) -> list[str]:
    """Return a line for each message that a root's receivers (``spec.notify``) were owed.

    Args:
        root: the raw root.
        style: how to draw.
    """
    status = root.get("status") or {}
    entries = (status.get("tree") or {}).get("notifications") or ()
    found = [_notification(root, entry, style) for entry in entries]
    notified = find_condition(status.get("conditions"), ConditionType.NOTIFIED)
    if not found and notified is not None and notified.get("status") == ConditionStatus.FALSE:
        said = one_line(str(notified.get("message") or "").strip())
        found = [f"notify: {one_line(notified['reason'])}: {said}".rstrip(": ")]
    return found


def _notification(root: Mapping[str, Any], entry: Mapping[str, Any], style: TreeStyle) -> str:
    state = DeliveryState(entry["state"])
    like = _LIKE[state]
    glyph, colour = GLYPHS[like][0 if style.unicode else 1], STATE_STYLES[like]
    receivers = root["spec"].get("notify") or ()
    index = int(entry["notify"])
    where = receivers[index]["url"] if index < len(receivers) else f"spec.notify[{index}]"
    line = f"notify: {paint(glyph, colour, colour=style.colour)} {one_line(entry['event'])} to "
    line += f"{shorten(one_line(where), _URL_CHARS)} "
    line += paint(state.value, colour, colour=style.colour)
    if state is DeliveryState.OWED and entry.get("next"):
        line += f", attempt {entry['attempts'] + 1} at {one_line(entry['next'][11:19])} UTC"
    if entry.get("reason"):
        line += f"  {one_line(entry['reason'])}"
    said = one_line(str(entry.get("message") or "").strip())
    if said and state is not DeliveryState.SENT:
        line += f": {shorten(said, max(CAUSE_CHARS_MIN, style.width - columns(line) - 2))}"
    return line


def render_summary(roots: Sequence[TreeNode], style: TreeStyle) -> list[str]:
    """Return the counts by state and the latency receipt."""
    views = all_views(roots)
    counts = Counter(view.state for view in views)
    wall = wall_s(views, style.now)
    head = f"{counted(len(views), 'task')}: {count_text(counts, style)}"
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
        for state in INTEREST
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


@dataclass(frozen=True, slots=True)
class _DrawnLine:
    """A line to draw, and how those below it begin."""

    node: TreeNode | None
    prefix: str = ""
    below: str = ""
    hidden: Counter[TaskState] = field(default_factory=Counter)
    program_above: str = ""


@dataclass(frozen=True, slots=True)
class _Label:
    """What a task's own line is made of."""

    node: TreeNode
    collapsed: Counter[TaskState]
    program_above: str
    has_cause: bool = False


def _below(entry: _DrawnLine, branch: Branch, style: TreeStyle) -> list[_DrawnLine]:
    """Return the entries for what stands below a node, top first."""
    assert entry.node is not None
    tee, corner, bar = ("├─ ", "└─ ", "│  ") if style.unicode else ("|- ", "`- ", "|  ")
    arrow = "↳ " if style.unicode else "> "
    program = _program(entry.node.view)
    parts: list[tuple[TreeNode | None, Counter[TaskState]]] = [
        (child, Counter()) for child in branch.shown
    ]
    if branch.hidden:
        parts.insert(branch.hidden_at, (None, branch.hidden))
    if len(parts) == 1 and parts[0][0] is not None:
        prefix = entry.below
        return [_DrawnLine(parts[0][0], prefix + arrow, prefix, program_above=program)]
    result = []
    for number, (child, hidden) in enumerate(parts):
        last = number + 1 == len(parts)
        lead, under = (corner, "   ") if last else (tee, bar)
        result.append(_DrawnLine(child, entry.below + lead, entry.below + under, hidden, program))
    return result


def _line(prefix: str, label: _Label, style: TreeStyle) -> str:
    """Return the line of a task, with as much of what it failed with as there is room for.

    The exit code makes room for it: that tells less than an exception does.
    """
    cause = _cause(label.node.view)
    line = prefix + _label(label, style)
    if cause and columns(line) + 2 + columns(cause) > style.width:
        line = prefix + _label(replace(label, has_cause=True), style)
    if not cause:
        return line
    return f"{line}: {shorten(cause, max(CAUSE_CHARS_MIN, style.width - columns(line) - 2))}"


def _label(label: _Label, style: TreeStyle) -> str:
    view = label.node.view
    glyph, word, state_style = _state(label.node)
    parts = [
        paint(glyph[0 if style.unicode else 1], state_style, colour=style.colour),
        _title(view, label.program_above, style),
        paint(word, state_style, colour=style.colour),
    ]
    details = []
    reason = view.status.get("reason")
    quiet = _QUIET_REASONS | {Reason.NON_ZERO_EXIT} if label.has_cause else _QUIET_REASONS
    if reason and reason not in quiet:
        code = view.status.get("exitCode")
        said = f"{reason} {code}" if reason == Reason.NON_ZERO_EXIT else str(reason)
        details.append(one_line(said))
    progress = _progress(view, style)
    if progress:
        details.append(progress)
    duration = run_s(view, style.now)
    if duration is not None:
        details.append(precise(duration))
    if view.attempt > 1:
        details.append(f"attempt {view.attempt}")
    if label.collapsed:
        details.append(f"below: {count_text(label.collapsed, style)}")
    text = " ".join(parts)
    return f"{text}  {', '.join(details)}" if details else text


def _state(node: TreeNode) -> tuple[tuple[str, str], str, Style]:
    """Return glyph, word and colour: of a root those of its tree, which may outlast its own run."""
    view = node.view
    glyph, word, style = GLYPHS[view.state], str(view.state), STATE_STYLES[view.state]
    if not view.is_root or view.state not in FINE:
        return glyph, word, style
    conditions = view.status.get("conditions")
    if any(not state.terminal for state, count in node.counts.items() if count):
        return GLYPHS[TaskState.RUNNING], f"{word}, its tree runs", Style.ACTIVE
    if condition_is(conditions, ConditionType.COMPLETE, ConditionStatus.TRUE) and condition_is(
        conditions, ConditionType.SUCCEEDED, ConditionStatus.FALSE
    ):
        return GLYPHS[TaskState.FAILED], f"{word}, its tree failed", Style.BAD
    return glyph, word, style


def _title(view: TaskView, program_above: str, style: TreeStyle) -> str:
    """Return the name, the key of a child that has one, and what it runs, if neither says so."""
    key = key_of(view)
    if key.startswith(_AUTOMATIC_KEY):
        key = ""
    title = one_line(view.name)
    if key:
        said = shorten(one_line(key), _KEY_CHARS)
        if style.live:
            title = said
        elif f"-{key}-" not in view.name:  # a name that taskctl made has a simple key in it
            title = f"{title} {said}"
    elif style.live and view.name.startswith(f"{view.root_name}-") and key_of(view):
        dots = "…" if style.unicode else "..."
        title = dots + title.removeprefix(one_line(view.root_name))
    program = _program(view)
    told = program == program_above or _stem(program) in title.lower()
    return title if not program or told else f"{title} ({program})"


def _program(view: TaskView) -> str:
    return one_line(label_of(view.spec.get("command") or ()))


def _stem(program: str) -> str:
    """Return a program as it looks in a name: without its ending, with dashes."""
    return program.lower().partition(".")[0].replace("_", "-")


def _progress(view: TaskView, style: TreeStyle) -> str:
    """Return how far a running Task says it is."""
    found = view.status.get("progress") or {}
    done, total = int(found.get("done") or 0), int(found.get("total") or 0)
    if view.state is not TaskState.RUNNING or not (done or total):
        return ""
    message = shorten(one_line(str(found.get("message") or "")), _KEY_CHARS)
    if total:
        said = f"{bar(done / total, BAR_CELLS, unicode=style.unicode)} {done}/{total}"
    else:
        said = f"{done} done"
    return f"{said} {message}".rstrip()


def _cause(view: TaskView) -> str:
    """Return ``ValueError: …`` for a failed Task: the last line of its message."""
    lines = str(view.status.get("message") or "").strip().splitlines()
    if view.state is not TaskState.FAILED or not lines:
        return ""
    if len(lines) == 1 and view.status.get("reason") == Reason.NON_ZERO_EXIT:
        return ""  # the sentence says no more than the exit code
    return one_line(lines[-1])


def _left_out(prefix: str, hidden: Counter[TaskState], style: TreeStyle) -> str:
    dots = "…" if style.unicode else "..."
    return f"{prefix}{dots} {hidden.total()} more: {count_text(hidden, style)}"
