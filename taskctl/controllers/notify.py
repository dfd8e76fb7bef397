"""Tells receivers of trees that begin and end (``spec.notify``): reads the Secret, signs, sends."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from taskctl.api.notify import DEFAULT_SECRET, DEFAULT_SECRET_KEY, DEFAULT_TIMEOUT_S
from taskctl.api.resources import TASKS
from taskctl.api.states import DeliveryState
from taskctl.controllers.ages import Ages
from taskctl.controllers.cachedapi import CachedApi
from taskctl.controllers.poster import Poster
from taskctl.controllers.queues import look_again
from taskctl.errors import Forbidden, NotFound
from taskctl.kube.controller import DONE, Result
from taskctl.kube.interface import KubeObject
from taskctl.kube.resources import SECRETS
from taskctl.kube.workqueue import WorkQueue
from taskctl.policy.hostlist import AllowedHost, target_of
from taskctl.policy.notify import (
    LONGEST_WAIT_S,
    DeliveryAnswer,
    Entry,
    NoteOwed,
    NotifyReason,
    SendLater,
    SendNow,
    after_attempt,
    decide_notify,
    noted,
    notifications,
    notify_patch,
    receivers,
)
from taskctl.policy.view import TaskView, lineage_of, parse_task, time_or_none
from taskctl.policy.webhook import BadSecret, headers_of, message_of, parse_secrets

log = logging.getLogger(__name__)

NOTIFY_WORKERS: Final = 16
# A receiver that hangs holds up its own notifications, and no more than these workers.
_AT_ONCE_PER_HOST: Final = 4
_HOST_BUSY_S: Final = 1.0


class NotifyReconciler:
    """Brings one root's receivers what they are owed.

    Args:
        api: the API server and its caches.
        queue: UIDs of roots to look at.
        ages: measures pauses.
        allowed: where the controller may send to.
        poster: sends.
    """

    def __init__(
        self,
        api: CachedApi,
        queue: WorkQueue[str],
        ages: Ages,
        allowed: Sequence[AllowedHost],
        poster: Poster,
    ) -> None:
        self._api = api
        self._queue = queue
        self._ages = ages
        self._allowed = tuple(allowed)
        self._poster = poster
        self._busy: Counter[str] = Counter()
        # Entries after attempts that could not be noted yet, by UID of the root and id: while the
        # API server is away, nothing must be sent again and again.
        self._unwritten: dict[str, dict[str, Entry]] = {}

    def on_task(self, old: KubeObject | None, new: KubeObject | None) -> None:
        """Take in a Task event; O(1)."""
        task = new or old
        if task is None or not task["spec"].get("notify") or lineage_of(task) is not None:
            return
        uid = task["metadata"]["uid"]
        if new is not None:
            self._queue.add(uid)
            return
        self._unwritten.pop(uid, None)
        for entry in notifications(parse_task(task)):
            self._ages.drop(("notify", uid, entry["id"]))

    async def reconcile(self, root_uid: str) -> Result:
        """Note what is owed, send what is due, note what came of it.

        Raises:
            Conflict: the root has changed meanwhile.
            ApiError: the API server refused, or did not answer.
        """
        api = self._api
        root = api.caches.living_task(root_uid)
        if root is None:
            self._unwritten.pop(root_uid, None)
            return DONE
        view = parse_task(root)
        if root_uid in self._unwritten:
            await self._write_down(root, view)
            return look_again(0.0)
        step = decide_notify(view, self._allowed, self._age_s(view), api.timing.clock.now())
        match step:
            case None:
                return DONE
            case NoteOwed():
                await api.write_status(TASKS, root, step.patch)
                return look_again(0.0)
            case SendLater():
                return look_again(step.delay_s)
            case SendNow():
                return await self._send_all(root, view, step.entries)

    def _age_s(self, root: TaskView) -> Callable[[Mapping[str, Any]], float]:
        """Return what measures how long ago the moment in ``next`` of an entry was."""

        def age_s(entry: Mapping[str, Any]) -> float:
            stamp = time_or_none(entry.get("next"))
            if stamp is None:
                return 0.0
            key = ("notify", root.uid, entry["id"])
            return self._ages.age_s(key, stamp, at_least_s=-LONGEST_WAIT_S)

        return age_s

    # --- sending ------------------------------------------------------------------------

    async def _send_all(
        self, root: KubeObject, view: TaskView, entries: Sequence[Mapping[str, Any]]
    ) -> Result:
        """Send what is due, but for hosts with which enough is under way."""
        started = []
        for entry in entries:
            host = target_of(receivers(view)[entry["notify"]]["url"]).host
            if self._busy[host] < _AT_ONCE_PER_HOST:
                self._busy[host] += 1
                started.append((host, entry))
        if not started:
            return look_again(_HOST_BUSY_S * (0.5 + self._api.timing.random()))
        # A failure to read a Secret must not hide what the others have come to.
        answers = await asyncio.gather(
            *(self._send(view, host, entry) for host, entry in started), return_exceptions=True
        )
        clock, chance = self._api.timing.clock, self._api.timing.random
        unwritten = self._unwritten.setdefault(view.uid, {})
        for (_, entry), answer in zip(started, answers, strict=True):
            if isinstance(answer, DeliveryAnswer):
                tried = after_attempt(view, entry, answer, clock.now(), chance())
                unwritten[str(entry["id"])] = tried
        failure = next((one for one in answers if isinstance(one, BaseException)), None)
        if failure is not None:
            if not unwritten:
                del self._unwritten[view.uid]
            raise failure
        await self._write_down(root, view)
        return look_again(0.0)

    async def _send(self, root: TaskView, host: str, entry: Mapping[str, Any]) -> DeliveryAnswer:
        receiver = receivers(root)[entry["notify"]]
        try:
            keys = await self._keys(root, receiver)
            if isinstance(keys, DeliveryAnswer):
                return keys
            message = message_of(root, receiver, entry)
            headers = headers_of(message, keys, self._api.timing.clock.now())
            timeout_s = float(receiver.get("timeoutSeconds") or DEFAULT_TIMEOUT_S)
            answer = await self._poster.post(receiver["url"], headers, message.body, timeout_s)
            log.info(
                "tree %s/%s: %s to %s: %s",
                *(root.namespace, root.name, entry["event"], host),
                answer.status or answer.message,
            )
            return answer
        finally:
            self._busy[host] -= 1
            if not self._busy[host]:
                del self._busy[host]

    async def _keys(
        self, root: TaskView, receiver: Mapping[str, Any]
    ) -> tuple[bytes, ...] | DeliveryAnswer:
        """Read the keys to sign with; what can be mended is an answer."""
        named = receiver.get("secretKeyRef") or {}
        name, key = named.get("name") or DEFAULT_SECRET, named.get("key") or DEFAULT_SECRET_KEY
        where = f"Secret {name} in namespace {root.namespace}"
        try:
            secret = await self._api.client.get(SECRETS, name, root.namespace)
        except NotFound:
            what = f"There is no {where}; create it with a key {key} to sign with."
            return DeliveryAnswer(reason=NotifyReason.SECRET_NOT_FOUND, message=what)
        except Forbidden:
            what = (
                f"The controller may not read {where}. Installed with --notify-allow it may read "
                f"those named {DEFAULT_SECRET}; for another one give its account a Role there."
            )
            return DeliveryAnswer(reason=NotifyReason.SECRET_FORBIDDEN, message=what)
        coded = (secret.get("data") or {}).get(key)
        if coded is None:
            what = f"The {where} has no key {key}."
            return DeliveryAnswer(reason=NotifyReason.SECRET_NOT_FOUND, message=what)
        try:
            return parse_secrets(base64.b64decode(coded).decode())
        except (BadSecret, binascii.Error, UnicodeDecodeError) as error:
            why = str(error) if isinstance(error, BadSecret) else "it is not a text"
            what = f"Key {key} of the {where} cannot sign messages: {why}."
            return DeliveryAnswer(reason=NotifyReason.SECRET_INVALID, message=what)

    # --- noting -------------------------------------------------------------------------

    async def _write_down(self, root: KubeObject, view: TaskView) -> None:
        """Note what came of attempts, unless the root says so already.

        Raises:
            Conflict: the root has changed meanwhile; what came of the attempts is kept.
            ApiError: likewise.
        """
        now, tried = self._api.timing.clock.now(), self._unwritten[view.uid]
        entries = [_newer(entry, tried.get(entry["id"])) for entry in noted(view, now)]
        patch = notify_patch(view, entries, self._allowed, now)
        if patch is not None:
            await self._api.write_status(TASKS, root, patch)
        self._unwritten.pop(view.uid, None)
        for entry in tried.values():
            self._ages.drop(("notify", view.uid, entry["id"]))


def _newer(entry: Entry, tried: Entry | None) -> Entry:
    if tried is None or entry["state"] != DeliveryState.OWED:
        return entry
    return tried if tried["attempts"] > int(entry.get("attempts") or 0) else entry
