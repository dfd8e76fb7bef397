"""Lists of any length, of which little is kept: page by page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from taskctl.agent.context import Context
from taskctl.agent.objects import GIVE_UP_AFTER_S
from taskctl.errors import Gone
from taskctl.kube.interface import KubeObject, ListOptions, ListPage
from taskctl.kube.paging import PAGE_LIMIT, next_limit, with_page
from taskctl.kube.resources import Resource

T = TypeVar("T")
_MAX_STARTS: Final = 3


async def collect(
    context: Context,
    resource: Resource,
    keep: Callable[[KubeObject], T | None],
    *,
    field_selector: str = "",
    label_selector: str = "",
) -> list[T]:
    """Return what ``keep`` makes of the objects of the agent's namespace; None is left out.

    Raises:
        ApiError: the API server refused, or was away for 20 s.
    """
    options = ListOptions(field_selector=field_selector, label_selector=label_selector)
    for _ in range(_MAX_STARTS):
        try:
            return await _collect(context, resource, keep, options)
        except Gone as error:  # the list is too old to be continued: begin again
            gone = error
    raise gone


async def _collect(
    context: Context,
    resource: Resource,
    keep: Callable[[KubeObject], T | None],
    options: ListOptions,
) -> list[T]:
    kept: list[T] = []
    limit, token = PAGE_LIMIT, ""

    async def ask() -> ListPage:
        part = with_page(options, limit, token)
        return await context.client.list(resource, context.namespace, options=part)

    while True:
        page = await context.retrier.call(
            f"list {resource.plural}", ask, give_up_after_s=GIVE_UP_AFTER_S
        )
        kept += [item for item in map(keep, page.items) if item is not None]
        token = page.continue_token
        if not token:
            return kept
        limit = next_limit(page, limit)
