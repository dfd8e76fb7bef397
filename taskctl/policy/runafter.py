"""What do the tasks that a Task runs after (``spec.runAfter``) make of it?

All of them are waited for, so that the answer does not hang on who ended first; only what can
no longer be otherwise is said at once. By default a dependency counts by its own state, not by
that of its subtree: a child may run after its own root's process has ended, and would otherwise
wait forever for a tree that it belongs to itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from taskctl.api.states import TaskState, When
from taskctl.constants import Reason
from taskctl.policy.verdicts import Never, Wait, never, skipped

NAMES_SHOWN: Final = 5
_EMPTY: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class RunAfterRule:
    """``spec.runAfter``, with ``spec.when``.

    Attributes:
        tasks: names in the same namespace.
        group: name of a group in the same tree, or empty.
        count: how many members of it are expected at least.
        min_success: how many must succeed; None: all.
        subtree: each counts with all its descendants.
        when: which outcome lets the Task run.
    """

    tasks: tuple[str, ...] = ()
    group: str = ""
    count: int = 0
    min_success: int | None = None
    subtree: bool = False
    when: str = When.SUCCESS

    def __bool__(self) -> bool:
        return bool(self.tasks or self.group)


def parse_run_after(spec: Mapping[str, Any]) -> RunAfterRule:
    """Return what a raw ``spec`` of a Task says about the tasks to wait for."""
    raw = spec.get("runAfter") or _EMPTY
    # Who takes their results waits for them, whether they are named twice or not.
    tasks = tuple(dict.fromkeys((*(raw.get("tasks") or ()), *_sources(spec))))
    group, min_success = str(raw.get("group") or ""), raw.get("minSuccess")
    return RunAfterRule(
        tasks=tasks,
        group=group,
        count=_expected(raw.get("count"), (min_success or 0) - len(tasks)) if group else 0,
        min_success=min_success,
        subtree=bool(raw.get("subtree")),
        when=str(spec.get("when") or When.SUCCESS),
    )


def _sources(spec: Mapping[str, Any]) -> Iterator[str]:
    for entry in spec.get("inputFrom") or ():
        yield from entry.get("tasks") or ()
        if entry.get("task"):
            yield entry["task"]


def _expected(count: int | None, needed: int) -> int:
    """Return how many members of a group to expect: those that must succeed must exist first."""
    return max(1 if count is None else count, needed)


@dataclass(frozen=True, slots=True)
class Dependency:
    """One name of ``spec.runAfter.tasks``.

    Attributes:
        name: the Task's name.
        state: its state, or that of its subtree; None where no such Task exists (yet).
    """

    name: str
    state: TaskState | None


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """The members of ``spec.runAfter.group`` that exist, the Task itself left out.

    Attributes:
        succeeded: how many have succeeded.
        skipped: how many were skipped.
        open: names of some that have not ended, enough to show.
        open_count: how many have not ended.
        bad: name and state of some that failed or were cancelled, enough to show.
        bad_count: how many failed or were cancelled.
    """

    succeeded: int = 0
    skipped: int = 0
    open: tuple[str, ...] = ()
    open_count: int = 0
    bad: tuple[Dependency, ...] = ()
    bad_count: int = 0

    @property
    def total(self) -> int:
        """How many there are."""
        return self.succeeded + self.skipped + self.open_count + self.bad_count


NOTHING: Final = RunAfterRule()
NO_GROUP: Final = GroupFacts()


@dataclass(slots=True)
class _Sum:
    """All dependencies, by how they stand."""

    good: int = 0
    skipped: int = 0
    open: int = 0
    missing: int = 0
    bad: int = 0
    skipped_names: list[str] = field(default_factory=list)
    open_names: list[str] = field(default_factory=list)
    missing_names: list[str] = field(default_factory=list)
    bad_names: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.good + self.skipped + self.open + self.missing + self.bad


def decide_run_after(
    after: RunAfterRule, dependencies: Iterable[Dependency], group: GroupFacts
) -> Wait | Never | None:
    """Decide on a Task by those it runs after; None: they do not keep it.

    Args:
        after: what it says about them.
        dependencies: those that it names.
        group: the members of the group that it names.
    """
    found = _sum(after, dependencies, group)
    doomed = _doomed(after, found)
    if doomed is not None:
        return doomed
    if found.open or found.missing:
        return Wait(Reason.WAITING_FOR_TASKS, _waits(after, found, group))
    return _all_over(after, found)


def spare(after: RunAfterRule, total: int) -> int:
    """Return how many of so many may fail without settling anything before all have ended."""
    return total if after.when != When.SUCCESS else total - _needed(after, total)


def _needed(after: RunAfterRule, total: int) -> int:
    return total if after.min_success is None else after.min_success


def _doomed(after: RunAfterRule, found: _Sum) -> Never | None:
    """Whether failures alone rule the Task out, whatever the others do.

    A skipped task does not count here, or the outcome would hang on who ended first.
    """
    if after.when != When.SUCCESS or found.bad <= spare(after, found.total):
        return None
    names = _some(found.bad_names, found.bad)
    if after.min_success is None:
        return never(f"when is Success, but {names}.")
    return never(
        f"minSuccess is {after.min_success}, but of {found.total} tasks {found.bad} did not "
        f"succeed: {names}."
    )


def _all_over(after: RunAfterRule, found: _Sum) -> Never | None:
    needed = _needed(after, found.total)
    names = _some(found.skipped_names, found.skipped)
    if after.when == When.SUCCESS and found.good < needed:
        if after.min_success is None:
            return skipped(f"when is Success, but {names} was skipped.")
        return skipped(
            f"minSuccess is {needed}, but of {found.total} tasks {found.good} succeeded and "
            f"{found.skipped} were skipped."
        )
    if after.when == When.FAILURE:
        if after.min_success is not None:
            if found.good < needed:
                return None
            return skipped(f"when is Failure, but {found.good} tasks succeeded: minSuccess is met.")
        if not found.bad and (found.good or found.skipped):
            return skipped("when is Failure, but no task in runAfter failed.")
    return None


def _sum(after: RunAfterRule, dependencies: Iterable[Dependency], group: GroupFacts) -> _Sum:
    found = _Sum()
    for dependency in dependencies:
        state = dependency.state
        if state is None:
            found.missing += 1
            found.missing_names.append(dependency.name)
        elif not state.terminal:
            found.open += 1
            found.open_names.append(dependency.name)
        elif state is TaskState.SUCCEEDED:
            found.good += 1
        elif state is TaskState.SKIPPED:
            found.skipped += 1
            found.skipped_names.append(dependency.name)
        else:
            found.bad += 1
            found.bad_names.append(_how(after, dependency))
    found.good += group.succeeded
    found.skipped += group.skipped
    if group.skipped:
        found.skipped_names.append(f"a member of group {after.group}")
    found.open += group.open_count
    found.open_names += group.open[:NAMES_SHOWN]
    found.bad += group.bad_count
    found.bad_names += [_how(after, member) for member in group.bad[:NAMES_SHOWN]]
    found.missing += max(0, after.count - group.total)
    return found


def _how(after: RunAfterRule, dependency: Dependency) -> str:
    if not after.subtree:
        return f"{dependency.name} is {dependency.state}"
    return f"the subtree of {dependency.name} has failed"


def _waits(after: RunAfterRule, found: _Sum, group: GroupFacts) -> str:
    """Return the sentences on what is waited for, and on what does not even exist."""
    sentences = []
    left = found.open + found.missing
    what = "the subtrees of " if after.subtree else ""
    shown = [*found.open_names, *(f"{name} (does not exist yet)" for name in found.missing_names)]
    if shown:
        hidden = found.open + len(found.missing_names)
        names = _some(shown, hidden)
        sentences.append(f"Waits for {what}{left} of {found.total} tasks: {names}.")
    if after.count > group.total:
        sentences.append(
            f"Waits for members of group {after.group}: {group.total} of the {after.count} "
            "expected (runAfter.count) exist."
        )
    return " ".join(sentences)


def _some(names: Sequence[str], count: int) -> str:
    shown = ", ".join(names[:NAMES_SHOWN])
    more = count - min(len(names), NAMES_SHOWN)
    return f"{shown} and {more} more" if more > 0 else shown
