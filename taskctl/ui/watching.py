"""From informers to the rows that all browsers share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from taskctl.api.resources import TASKCLUSTERS, TASKS
from taskctl.kube.informer import Informer
from taskctl.kube.interface import KubeObject, ListerWatcher
from taskctl.ui.feed import FeedRows
from taskctl.ui.model import cluster_row_of, row_of

log = logging.getLogger(__name__)

_ROW: Final = "row"


class Watching:
    """The Tasks and TaskClusters of a namespace, or of all, as rows.

    Args:
        client: where to list and watch.
        namespace: None for all.
    """

    def __init__(self, client: ListerWatcher, namespace: str | None) -> None:
        self.tasks = FeedRows()
        self.clusters = FeedRows()
        self._informers = (
            Informer(client, TASKS, namespace, transform=_keep_task_row),
            Informer(client, TASKCLUSTERS, namespace, transform=_keep_cluster_row),
        )
        for informer, board in zip(self._informers, (self.tasks, self.clusters), strict=True):
            informer.add_handler(_Filler(board))

    @property
    def problem(self) -> str:
        """What keeps the rows from being those of this moment; empty when all is well."""
        # Who may see Tasks need not see TaskClusters.
        return self._informers[0].last_error

    async def wait_synced(self, timeout_s: float) -> None:
        """Wait until all Tasks are there.

        Raises:
            Unavailable: that took longer than ``timeout_s`` seconds.
        """
        await self._informers[0].wait_synced(timeout_s)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the API server for as long as the block lasts."""
        tasks = [
            asyncio.create_task(informer.run(), name=f"page {informer.name}")
            for informer in self._informers
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class _Filler:
    """Writes a store's changes on a board."""

    def __init__(self, board: FeedRows) -> None:
        self._board = board

    def __call__(self, old: KubeObject | None, new: KubeObject | None) -> None:
        if new is not None:
            if new[_ROW] is not None:
                self._board.put(new[_ROW])
        elif old is not None:
            self._board.remove(old["metadata"]["uid"])


def _keep_task_row(obj: KubeObject) -> KubeObject:
    return _kept(obj, row_of)


def _keep_cluster_row(obj: KubeObject) -> KubeObject:
    return _kept(obj, cluster_row_of)


def _kept(obj: KubeObject, make_row: Callable[[KubeObject], Any]) -> KubeObject:
    """Return what the store keeps: enough to know the object by, and its row."""
    try:
        row = make_row(obj)
    except (KeyError, TypeError, ValueError, AttributeError):
        # An object that no version of taskctl has written must not hide all the others.
        log.exception("%s cannot be shown", obj["metadata"].get("name"))
        row = None
    metadata = obj["metadata"]
    names = ("name", "namespace", "uid", "resourceVersion")
    return {"metadata": {name: metadata[name] for name in names if name in metadata}, _ROW: row}
