"""Which tasks of a forest get a line when there are fewer lines than tasks. Pure.

What has failed comes first, then what runs, each with its root and its parent, then what there is
from the top down. Tasks that are left out are counted: in the line of the task above them, if
nothing below that one is shown, else in a line of their own.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from itertools import islice
from operator import itemgetter
from typing import Final

from taskctl.api.states import TaskState
from taskctl.cli.forest import TreeNode

# What people look for first when not everything can be shown.
INTEREST: Final = (
    TaskState.FAILED,
    TaskState.RUNNING,
    TaskState.SCHEDULED,
    TaskState.PENDING,
    TaskState.CANCELLED,
    TaskState.SUCCEEDED,
    TaskState.SKIPPED,
)
CHILDREN_SHOWN: Final = 12
CHAIN_TAIL: Final = 3
TOP: Final = 0  # stands for what is above the roots; no id() is 0
_URGENT: Final = frozenset({TaskState.FAILED, TaskState.SCHEDULED, TaskState.RUNNING})
_RANK: Final[Mapping[TaskState, int]] = {state: number for number, state in enumerate(INTEREST)}


@dataclass(slots=True)
class Branch:
    """What is shown below a task.

    Attributes:
        shown: tasks with a line of their own: children, or tasks further down.
        hidden: states of everything below that has none.
        hidden_at: before which of ``shown`` the hidden ones stand.
    """

    shown: list[TreeNode]
    hidden: Counter[TaskState]
    hidden_at: int


@dataclass(frozen=True, slots=True)
class _Forest:
    """The tasks from the top down, each after its parent.

    Attributes:
        roots: those at the top.
        order: all.
        parents: of each task, by its ``id()``.
        places: number in ``order`` and task, by ``id()``.
    """

    roots: Sequence[TreeNode]
    order: Sequence[TreeNode]
    parents: Mapping[int, TreeNode | None]
    places: Mapping[int, tuple[int, TreeNode]]


def plan(roots: Sequence[TreeNode], budget: int) -> dict[int, Branch]:
    """Return what to show below each task, by ``id()`` of its node; below TOP stand the roots.

    A task without an entry is drawn with the counts of what lies below it.

    Args:
        roots: the forest.
        budget: how many lines there are; 0 means that everything is shown.
    """
    forest = _survey(roots)
    if not budget or len(forest.order) <= budget:
        return _branches(forest, {id(node) for node in forest.order})
    candidates = [id(node) for node in islice(_candidates(forest, budget), budget)]
    fits, too_many = 0, len(candidates) + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if _line_count(_branches(forest, set(candidates[:middle]))) <= budget:
            fits = middle
        else:
            too_many = middle
    return _branches(forest, set(candidates[:fits]))


def _survey(roots: Sequence[TreeNode]) -> _Forest:
    order: list[TreeNode] = []
    parents: dict[int, TreeNode | None] = {id(root): None for root in roots}
    stack = list(reversed(roots))
    while stack:
        node = stack.pop()
        order.append(node)
        for child in node.children:
            parents[id(child)] = node
        stack += reversed(node.children)
    places = {id(node): (number, node) for number, node in enumerate(order)}
    return _Forest(roots, order, parents, places)


def _line_count(branches: Mapping[int, Branch]) -> int:
    return sum(len(branch.shown) + bool(branch.hidden) for branch in branches.values())


def _branches(forest: _Forest, chosen: set[int]) -> dict[int, Branch]:
    """Return what stands below what, if only ``chosen`` have lines.

    Looks at the chosen ones and what is above them only: a plan tries several choices, each of a
    hundred tasks out of ten thousand.
    """
    nodes = sorted((forest.places[task] for task in chosen), key=itemgetter(0))
    above: dict[int, int] = {}  # of tasks, the next chosen one above
    shown: dict[int, list[TreeNode]] = {TOP: []}
    for _, node in nodes:
        shown.setdefault(_next_above(forest, node, chosen, above), []).append(node)
    sort = len(chosen) < len(forest.order)
    result = {}
    for place, below in shown.items():
        far = any(_place_of_parent(forest, node) != place for node in below)
        ordered = sorted(below, key=_urgency) if sort else below
        at = 0 if far or place == TOP else len(below)
        result[place] = Branch(ordered, _hidden(forest, place, below) if sort else Counter(), at)
    return result


def _next_above(forest: _Forest, node: TreeNode, chosen: set[int], above: dict[int, int]) -> int:
    """Return the next chosen task above; ``above`` keeps what was found on the way."""
    passed = [id(node)]
    parent = forest.parents[id(node)]
    while parent is not None and id(parent) not in chosen and id(parent) not in above:
        passed.append(id(parent))
        parent = forest.parents[id(parent)]
    place = TOP
    if parent is not None:
        place = id(parent) if id(parent) in chosen else above[id(parent)]
    above.update(dict.fromkeys(passed, place))
    return place


def _hidden(forest: _Forest, place: int, shown: Sequence[TreeNode]) -> Counter[TaskState]:
    """Return the states of everything below a task that is not below or among ``shown``."""
    if place == TOP:
        hidden = sum((root.whole for root in forest.roots), Counter[TaskState]())
    else:
        hidden = forest.places[place][1].counts.copy()
    for node in shown:
        hidden.subtract(node.counts)
        hidden[node.view.state] -= 1
    return +hidden


def _place_of_parent(forest: _Forest, node: TreeNode) -> int:
    parent = forest.parents[id(node)]
    return TOP if parent is None else id(parent)


# --- choosing -----------------------------------------------------------------------


def _candidates(forest: _Forest, budget: int) -> Iterator[TreeNode]:
    """Yield tasks in the order in which they should get lines, each once."""
    seen: set[int] = set()
    for node in _wishes(forest, budget):
        if id(node) not in seen:
            seen.add(id(node))
            yield node
    yield from _downwards(forest, seen)


def _wishes(forest: _Forest, budget: int) -> Iterator[TreeNode]:
    urgent = _urgent(forest, budget)
    for node in urgent:
        yield _root_of(forest, node)
        yield node
    for node in urgent:
        parent = forest.parents[id(node)]
        if parent is not None:
            yield parent
    if len(forest.roots) == 1:
        yield forest.roots[0]
        # Of a chain (each task makes one more) the end is what matters.
        chain = [forest.roots[0]]
        while len(chain[-1].children) == 1:
            chain.append(chain[-1].children[0])
        if len(chain) > budget:
            yield from chain[-CHAIN_TAIL:]


def _urgent(forest: _Forest, budget: int) -> list[TreeNode]:
    """Return what has failed and what runs; those that only wait for their children come last."""
    groups: dict[str, list[TreeNode]] = {"failed": [], "busy": [], "placed": [], "waiting": []}
    for node in [node for node in forest.order if node.view.state in _URGENT]:
        match node.view.state:
            case TaskState.FAILED:
                groups["failed"].append(node)
            case TaskState.SCHEDULED:
                groups["placed"].append(node)
            case TaskState.RUNNING:
                groups["waiting" if node.view.waits_for_children else "busy"].append(node)
    active = [*groups["busy"], *groups["placed"], *groups["waiting"]]
    # Many failures must not push what runs off the screen, nor the other way round.
    share = max(1, budget // 2)
    failed = groups["failed"][: max(share, budget - len(active))]
    return [*failed, *active[: max(share, budget - len(failed))]]


def _root_of(forest: _Forest, node: TreeNode) -> TreeNode:
    parent = forest.parents[id(node)]
    while parent is not None:
        node, parent = parent, forest.parents[id(parent)]
    return node


def _downwards(forest: _Forest, seen: set[int]) -> Iterator[TreeNode]:
    """Yield the rest from the top down, of one parent's children no more than a few."""
    queue: deque[TreeNode] = deque()
    newest_first = list(forest.roots)[::-1]
    for root in sorted(newest_first, key=_urgency):
        queue.append(root)
        if id(root) not in seen:
            yield root
    while queue:
        node = queue.popleft()
        limit = len(node.children)
        if limit > CHILDREN_SHOWN:
            limit = CHILDREN_SHOWN - 1 - sum(id(child) in seen for child in node.children)
        fresh = [child for child in node.children if id(child) not in seen]
        picked = nsmallest(max(0, limit), fresh, key=_rank)
        yield from picked
        known = seen | {id(child) for child in picked}
        queue.extend(child for child in node.children if id(child) in known)


def _rank(node: TreeNode) -> int:
    """Return the place in INTEREST of the most interesting task of a subtree."""
    rank = _RANK[node.view.state]
    if not node.counts:  # most tasks of a large tree have none below
        return rank
    return min(
        rank, min((_RANK[state] for state, count in node.counts.items() if count), default=rank)
    )


def _urgency(node: TreeNode) -> int:
    """Return 0 for a subtree with a failure, 1 for one that is at work, 2 for the others."""
    rank = _rank(node)
    return 0 if rank == 0 else 1 if rank <= _RANK[TaskState.SCHEDULED] else 2
