"""Whom a root's controller has to tell what of its tree (``spec.notify``), when, and how often.

What is owed stands on the root with the data to be sent (``status.tree.notifications``), before it
is sent. The write that begins another run of the tree notes what is owed of the run before, so that
no end goes untold. An entry's id follows from root, run, event and receiver: a
controller that is killed before it has noted that something was sent sends it again under that id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from taskctl.api.conditions import ConditionUpdate, cap_message, find_condition, set_condition
from taskctl.api.notify import DEFAULT_RETRY_LIMIT
from taskctl.api.states import (
    ConditionStatus,
    ConditionType,
    DeliveryState,
    NotifyEvent,
    TaskState,
)
from taskctl.backoff import Backoff
from taskctl.clock import format_micro
from taskctl.policy.hostlist import AllowedHost, host_refusal
from taskctl.policy.onexit import exit_run, outcome_json, tree_outcome
from taskctl.policy.status import StatusPatch, completion_time, is_complete
from taskctl.policy.view import TaskView, time_or_none

Entry = dict[str, Any]

# A receiver may ask for a longer pause (Retry-After), but not forever.
_LONGEST_ASKED_S: Final = 3600.0
_JITTER: Final = 0.25
_BACKOFF: Final = Backoff(2.0, 900.0, (1 - _JITTER, 1 + _JITTER))
LONGEST_WAIT_S: Final = _LONGEST_ASKED_S * (1 + _JITTER)
# Of earlier runs; a tree that runs again and again must not grow its root without bound.
_OWED_KEPT: Final = 10
# Answers after which another attempt may do better (RFC 9110); all of 5xx, too.
_PASSING: Final = frozenset({408, 425, 429})
_ENDS: Final = (NotifyEvent.SUCCEEDED, NotifyEvent.FAILED, NotifyEvent.CANCELLED)
_END_EVENTS: Final = {
    TaskState.SUCCEEDED: NotifyEvent.SUCCEEDED,
    TaskState.CANCELLED: NotifyEvent.CANCELLED,
}


class NotifyReason(StrEnum):
    """Why something was not sent, and the reasons of the condition Notified."""

    HOST_NOT_ALLOWED = "HostNotAllowed"
    ADDRESS_NOT_ALLOWED = "AddressNotAllowed"
    SECRET_NOT_FOUND = "SecretNotFound"
    SECRET_FORBIDDEN = "SecretForbidden"
    SECRET_INVALID = "SecretInvalid"
    NO_ANSWER = "NoAnswer"
    UNREACHABLE = "Unreachable"
    REFUSED = "Refused"
    RECEIVER_FAILED = "ReceiverFailed"
    REDIRECTED = "Redirected"
    TOO_MANY_OWED = "TooManyOwed"
    # Of the condition only.
    SENT = "NotificationsSent"
    OWED = "NotificationsOwed"
    GIVEN_UP = "NotificationsGivenUp"


@dataclass(frozen=True, slots=True)
class DeliveryAnswer:
    """What came of one attempt.

    Attributes:
        status: the receiver's HTTP status; 0: there was none.
        reason: why there was none.
        message: the same for people.
        retry_after_s: pause that the receiver asked for, in seconds.
    """

    status: int = 0
    reason: NotifyReason | None = None
    message: str = ""
    retry_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class NoteOwed:
    """The root has to say something else than it does.

    Attributes:
        patch: status patch.
    """

    patch: StatusPatch


@dataclass(frozen=True, slots=True)
class SendNow:
    """These entries are due.

    Attributes:
        entries: of ``status.tree.notifications``.
    """

    entries: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class SendLater:
    """Something is owed, but not yet to be tried again.

    Attributes:
        delay_s: seconds until it is.
    """

    delay_s: float


def receivers(root: TaskView) -> Sequence[Mapping[str, Any]]:
    """Return ``spec.notify`` of a root; empty for a child."""
    return (root.own_spec.get("notify") or ()) if root.is_root else ()


def notifications(root: TaskView) -> list[Entry]:
    """Return ``status.tree.notifications``."""
    return [dict(entry) for entry in (root.status.get("tree") or {}).get("notifications") or ()]


def decide_notify(
    root: TaskView,
    allowed: Sequence[AllowedHost],
    age_s: Callable[[Mapping[str, Any]], float],
    now: datetime,
) -> NoteOwed | SendNow | SendLater | None:
    """Decide the next step for what a root's receivers are to be told; None: there is none.

    Args:
        root: the root.
        allowed: where the controller may send to.
        age_s: returns how many seconds ago the moment was before which an entry must not be
            tried again (``next``); negative: it is to come.
        now: for times.
    """
    if not receivers(root) and not notifications(root):
        return None
    entries = noted(root, now)
    entries = [_checked(root, entry, allowed, now) for entry in entries]
    patch = notify_patch(root, entries, allowed, now)
    if patch is not None:
        return NoteOwed(patch)
    owed = [entry for entry in entries if entry["state"] == DeliveryState.OWED]
    waits = [(-age_s(entry) if entry.get("next") else 0.0, entry) for entry in owed]
    due = tuple(entry for wait_s, entry in waits if wait_s <= 0)
    if due:
        return SendNow(due)
    return SendLater(min(wait_s for wait_s, _ in waits)) if waits else None


def notify_patch(
    root: TaskView, entries: Sequence[Entry], allowed: Sequence[AllowedHost], now: datetime
) -> StatusPatch | None:
    """Return the patch after which a root says just this of its notifications, or None."""
    patch: StatusPatch = {}
    if list(entries) != notifications(root):
        patch["tree"] = {"notifications": list(entries)}
    conditions = _conditions(root, entries, allowed, now)
    if conditions != [dict(entry) for entry in root.status.get("conditions") or ()]:
        patch["conditions"] = conditions
    return patch or None


def after_attempt(
    root: TaskView,
    entry: Mapping[str, Any],
    answer: DeliveryAnswer,
    now: datetime,
    chance: float,
) -> Entry:
    """Return an entry after an attempt to send it.

    Args:
        root: the root.
        entry: as it was before.
        answer: what came of the attempt.
        now: for times.
        chance: a number in [0, 1), for jitter.
    """
    attempts = int(entry.get("attempts") or 0) + 1
    tried = {**entry, "attempts": attempts}
    if 200 <= answer.status < 300:
        return _settled(tried, DeliveryState.SENT, None, f"HTTP {answer.status}", now)
    reason, what, passing = _judge(answer)
    limit = receivers(root)[entry["notify"]].get("retryLimit")
    if attempts > (DEFAULT_RETRY_LIMIT if limit is None else int(limit)):
        what = f"{what} That was attempt {attempts}, the last one."
        passing = False
    if not passing:
        return _settled(tried, DeliveryState.GIVEN_UP, reason, what, now)
    pause_s = pause_after(attempts, answer.retry_after_s, chance)
    return {
        **tried,
        "next": format_micro(now + timedelta(seconds=pause_s)),
        "reason": reason.value,
        "message": cap_message(what),
    }


def pause_after(attempts: int, asked_s: float, chance: float) -> float:
    """Return the seconds to wait after so many failed attempts.

    Args:
        attempts: how many there were, at least 1.
        asked_s: pause that the receiver asked for; 0: none.
        chance: a number in [0, 1): receivers that went down together come up together.
    """
    # Never earlier than the receiver asks.
    return max(
        _BACKOFF.pause_s(attempts, chance), min(asked_s, _LONGEST_ASKED_S) * (1 + _JITTER * chance)
    )


def _judge(answer: DeliveryAnswer) -> tuple[NotifyReason, str, bool]:
    """Return why an attempt failed, the same for people, and whether another may do better."""
    if answer.reason is not None:
        final = answer.reason in (NotifyReason.ADDRESS_NOT_ALLOWED, NotifyReason.HOST_NOT_ALLOWED)
        return answer.reason, answer.message, not final
    status = f"The receiver answered HTTP {answer.status}"
    if 300 <= answer.status < 400:
        what = f"{status}, a redirect; the controller follows none: set url to where it leads."
        return NotifyReason.REDIRECTED, what, False
    if answer.status >= 500 or answer.status in _PASSING:
        return NotifyReason.RECEIVER_FAILED, f"{status}.", True
    return NotifyReason.REFUSED, f"{status}, which is not tried again.", False


# --- what is owed -------------------------------------------------------------------


def noted(root: TaskView, now: datetime) -> list[Entry]:
    """Return what a root should say of its notifications, with all in it that is owed.

    The receivers are told in whatever run of the tree it was, so what is owed stays; what is
    settled of earlier runs goes when there is something new to say.
    """
    entries = notifications(root)
    known = {entry["id"] for entry in entries}
    new = [entry for entry in _owed(root, now) if entry["id"] not in known]
    if not new:
        return entries
    run = exit_run(root)
    kept = [
        entry for entry in entries if entry["run"] == run or entry["state"] == DeliveryState.OWED
    ]
    old = [entry for entry in kept if entry["run"] != run]
    too_many = {entry["id"] for entry in old[: max(0, len(old) - _OWED_KEPT)]}
    what = f"More than {_OWED_KEPT} notifications of earlier runs of the tree are owed."
    kept = [
        _settled(entry, DeliveryState.GIVEN_UP, NotifyReason.TOO_MANY_OWED, what, now)
        if entry["id"] in too_many
        else entry
        for entry in kept
    ]
    return [*kept, *new]


def _owed(root: TaskView, now: datetime) -> Iterator[Entry]:
    """Yield the entries of the present run, as they begin."""
    if not receivers(root):
        return
    run = exit_run(root)
    for event, moment, data in _happened(root, now):
        for index, receiver in enumerate(receivers(root)):
            if event in (receiver.get("events") or _ENDS):
                yield {
                    "id": _entry_id(root, run, event, index),
                    "notify": index,
                    "run": run,
                    "event": event.value,
                    "time": format_micro(moment),
                    "state": DeliveryState.OWED.value,
                    "attempts": 0,
                    "data": data,
                }


def _entry_id(root: TaskView, run: int, event: NotifyEvent, index: int) -> str:
    # No full stop: it delimits what is signed.
    which = "started" if event is NotifyEvent.STARTED else "ended"
    return f"{root.uid}-{run}-{which}-{index}"


def _happened(
    root: TaskView, now: datetime
) -> Iterator[tuple[NotifyEvent, datetime, dict[str, Any]]]:
    """Yield what of the present run there is to tell: the event, its time and its data."""
    run = exit_run(root)
    tree, times = root.status.get("tree") or {}, root.status.get("times") or {}
    if run > 1 or root.attempt:
        began = time_or_none(tree.get("since") if run > 1 else times.get("started")) or now
        data = {
            "root": root.name,
            "namespace": root.namespace,
            "uid": root.uid,
            "run": run,
            "state": TaskState.RUNNING.value,
            "created": root.created,
            "started": format_micro(began),
        }
        yield NotifyEvent.STARTED, began, data
    if is_complete(root):
        state, _ = tree_outcome(root)
        event = _END_EVENTS.get(state, NotifyEvent.FAILED)
        yield event, completion_time(root.status) or now, outcome_json(root)


def _checked(root: TaskView, entry: Entry, allowed: Sequence[AllowedHost], now: datetime) -> Entry:
    """Return an entry, given up if the controller may not send it where it should go."""
    if entry["state"] != DeliveryState.OWED:
        return entry
    index = entry["notify"]
    own = _entry_id(root, entry["run"], NotifyEvent(entry["event"]), index)
    if index >= len(receivers(root)) or entry["id"] != own:
        what = "The controller has not written this entry."
        return _settled(entry, DeliveryState.GIVEN_UP, NotifyReason.REFUSED, what, now)
    refused = host_refusal(receivers(root)[index]["url"], allowed)
    if refused is None:
        return entry
    what = f"spec.notify[{index}].url: {refused}."
    return _settled(entry, DeliveryState.GIVEN_UP, NotifyReason.HOST_NOT_ALLOWED, what, now)


def _settled(
    entry: Mapping[str, Any],
    state: DeliveryState,
    reason: NotifyReason | None,
    message: str,
    now: datetime,
) -> Entry:
    kept = {name: value for name, value in entry.items() if name not in ("data", "next", "reason")}
    kept |= {} if reason is None else {"reason": reason.value}
    return kept | {
        "state": state.value,
        "message": cap_message(message),
        "finished": format_micro(now),
    }


# --- what the root says -------------------------------------------------------------


def _conditions(
    root: TaskView, entries: Iterable[Entry], allowed: Sequence[AllowedHost], now: datetime
) -> list[dict[str, Any]]:
    existing = [dict(entry) for entry in root.status.get("conditions") or ()]
    update = _condition(root, entries, allowed)
    if update is None:
        return [entry for entry in existing if entry["type"] != ConditionType.NOTIFIED]
    old = find_condition(existing, ConditionType.NOTIFIED)
    if old is not None and all(
        old.get(name) == value
        for name, value in (
            ("status", update.status.value),
            ("reason", update.reason),
            ("message", cap_message(update.message)),
        )
    ):
        return existing  # with_generation keeps observedGeneration
    return set_condition(existing, update, now=now)


def _condition(
    root: TaskView, entries: Iterable[Entry], allowed: Sequence[AllowedHost]
) -> ConditionUpdate | None:
    """Return the condition Notified of the present run; None: there is nothing to say yet."""
    run = exit_run(root)
    mine = [entry for entry in entries if entry["run"] == run]
    by_state = {
        state: [entry for entry in mine if entry["state"] == state] for state in DeliveryState
    }
    failed, owed = by_state[DeliveryState.GIVEN_UP], by_state[DeliveryState.OWED]
    status, message = ConditionStatus.FALSE, ""
    if failed:
        reasons = {entry.get("reason") for entry in failed}
        alone = reasons == {NotifyReason.HOST_NOT_ALLOWED.value}
        reason = NotifyReason.HOST_NOT_ALLOWED if alone else NotifyReason.GIVEN_UP
        message = _sentences(failed)
    elif refused := _refusals(root, allowed):
        # Said before there is anything to send: a tree may run for days.
        reason, message = NotifyReason.HOST_NOT_ALLOWED, refused
    elif owed:
        reason, message = NotifyReason.OWED, _sentences(owed)
    elif mine:
        status, reason = ConditionStatus.TRUE, NotifyReason.SENT
    else:
        return None
    return ConditionUpdate(
        type=ConditionType.NOTIFIED,
        status=status,
        reason=reason.value,
        message=message,
        observed_generation=root.generation,
    )


def _refusals(root: TaskView, allowed: Sequence[AllowedHost]) -> str:
    if is_complete(root):
        return ""
    found = (
        (index, host_refusal(receiver["url"], allowed))
        for index, receiver in enumerate(receivers(root))
    )
    return " ".join(f"spec.notify[{index}].url: {why}." for index, why in found if why is not None)


def _sentences(entries: Iterable[Entry]) -> str:
    """Return what is known of entries; those that were not tried yet have nothing to say."""
    texts = dict.fromkeys(str(entry.get("message") or "") for entry in entries)
    return " ".join(text for text in texts if text)


# --- the time to live ---------------------------------------------------------------


def told_time(root: TaskView) -> datetime | None:
    """Return when a tree that is complete owed its receivers nothing more; None: it still does.

    Of one without receivers that is the end of the tree.
    """
    completed = completion_time(root.status)
    if completed is None:
        return None
    entries = noted(root, completed)
    if any(entry["state"] == DeliveryState.OWED for entry in entries):
        return None
    times = [time_or_none(entry.get("finished")) for entry in entries]
    return max((moment for moment in times if moment is not None), default=completed)
