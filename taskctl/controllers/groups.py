"""The members of groups (``spec.group``) by tree, and how they stand: O(1) for each event."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import Final, NamedTuple

from taskctl.api.states import TaskState
from taskctl.policy.runafter import NAMES_SHOWN, Dependency, GroupFacts

_OPEN: Final = TaskState.RUNNING


class GroupKey(NamedTuple):
    """Names a group: the same word in another tree is another group."""

    namespace: str
    root_uid: str
    group: str


@dataclass(slots=True)
class Tally:
    """How the members of one group stand.

    Attributes:
        names: of the members, by UID.
        states: of the members, by UID.
        open: those that have not ended.
        bad: those that failed or were cancelled.
        skipped: how many were skipped.
    """

    names: dict[str, str] = field(default_factory=dict)
    states: dict[str, TaskState] = field(default_factory=dict)
    open: dict[str, None] = field(default_factory=dict)
    bad: dict[str, None] = field(default_factory=dict)
    skipped: int = 0

    def set(self, uid: str, name: str, state: TaskState) -> None:
        """Take note of a member's state."""
        self.drop(uid)
        self.names[uid] = name
        self.states[uid] = state
        if not state.terminal:
            self.open[uid] = None
        elif state in (TaskState.FAILED, TaskState.CANCELLED):
            self.bad[uid] = None
        elif state is TaskState.SKIPPED:
            self.skipped += 1

    def drop(self, uid: str) -> None:
        """A member is gone."""
        state = self.states.pop(uid, None)
        if state is None:
            return
        del self.names[uid]
        self.open.pop(uid, None)
        self.bad.pop(uid, None)
        self.skipped -= state is TaskState.SKIPPED

    @property
    def total(self) -> int:
        """How many members there are."""
        return len(self.states)

    @property
    def open_count(self) -> int:
        """How many have not ended."""
        return len(self.open)

    @property
    def bad_count(self) -> int:
        """How many failed or were cancelled."""
        return len(self.bad)

    def facts(self, without: str) -> GroupFacts:
        """Return the members as the policy sees them, without one.

        Args:
            without: UID of the Task that waits; it may be a member itself.
        """
        itself = self.states.get(without)
        bad = [uid for uid in islice(self.bad, NAMES_SHOWN + 1) if uid != without]
        opened = [uid for uid in islice(self.open, NAMES_SHOWN + 1) if uid != without]
        succeeded = self.total - self.open_count - self.bad_count - self.skipped
        return GroupFacts(
            succeeded=succeeded - (itself is TaskState.SUCCEEDED),
            skipped=self.skipped - (itself is TaskState.SKIPPED),
            open=tuple(self.names[uid] for uid in opened),
            open_count=self.open_count - (without in self.open),
            bad=tuple(Dependency(self.names[uid], self.states[uid]) for uid in bad),
            bad_count=self.bad_count - (without in self.bad),
        )


@dataclass(slots=True)
class CountedGroup:
    """One group, its members counted alone and with their descendants."""

    alone: Tally = field(default_factory=Tally)
    whole: Tally = field(default_factory=Tally)

    def tally(self, *, subtree: bool) -> Tally:
        """Return the members counted alone, or with their descendants."""
        return self.whole if subtree else self.alone


class Groups:
    """All groups that have members."""

    def __init__(self) -> None:
        self._groups: dict[GroupKey, CountedGroup] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def tally(self, key: GroupKey, *, subtree: bool) -> Tally:
        """Return how a group stands; an empty tally for one without members."""
        group = self._groups.get(key)
        return Tally() if group is None else group.tally(subtree=subtree)

    def member(self, key: GroupKey) -> CountedGroup:
        """Return the group, to change it."""
        return self._groups.setdefault(key, CountedGroup())

    def leave(self, key: GroupKey, uid: str) -> None:
        """A member was deleted."""
        group = self._groups.get(key)
        if group is None:
            return
        group.alone.drop(uid)
        group.whole.drop(uid)
        if not group.alone.total:
            del self._groups[key]
