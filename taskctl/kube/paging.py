"""How large the pages of a list are. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from taskctl.kube.interface import ListOptions, ListPage

PAGE_LIMIT: Final = 500
_PAGE_LIMIT_MIN: Final = 20


@dataclass(frozen=True, slots=True)
class PageSizes:
    """How large the pages after the first one may be.

    Attributes:
        target_bytes: what a page should be at most, by the size of the objects seen so far.
        max_items: objects a page at most.
    """

    target_bytes: int
    max_items: int


# orjson holds the GIL, so a thread would not keep the loop going while a page is decoded:
# where other tasks share the loop, pages are kept small. 1 MiB decodes in about 10 ms.
SMALL_PAGES: Final = PageSizes(1024 * 1024, PAGE_LIMIT)
# For a command that does nothing but wait for the list. For each page the server goes over all
# objects of the kind, so that many pages cost it more than the objects do.
LARGE_PAGES: Final = PageSizes(8 * 1024 * 1024, 10_000)


# A large page must come well within the deadline of a request, over a slow line, too.
_LARGE_PAGE_S: Final = 3.0


def next_limit(
    page: ListPage, limit: int, sizes: PageSizes = SMALL_PAGES, took_s: float = 0.0
) -> int:
    """Return the size to ask of the next page, by the size of the objects of this one.

    Args:
        page: the page before.
        limit: its size, as it was asked for.
        sizes: how large pages may be.
        took_s: how long the page before took; 0: not measured.
    """
    if not page.items or not page.size_bytes:
        return limit
    target_bytes = sizes.target_bytes
    if took_s > 0:
        in_time_bytes = int(page.size_bytes / took_s * _LARGE_PAGE_S)
        target_bytes = min(target_bytes, max(SMALL_PAGES.target_bytes, in_time_bytes))
    fitting = target_bytes * len(page.items) // page.size_bytes
    return max(_PAGE_LIMIT_MIN, min(sizes.max_items, fitting))


def with_page(options: ListOptions, limit: int, token: str) -> ListOptions:
    """Return the options of a list for one page of it."""
    return ListOptions(
        label_selector=options.label_selector,
        field_selector=options.field_selector,
        limit=limit,
        continue_token=token,
        resource_version=options.resource_version,
        metadata_only=options.metadata_only,
    )
