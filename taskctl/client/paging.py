"""How large the pages of a list are. Pure."""

from __future__ import annotations

from typing import Final

from taskctl.client.base import ListOptions, ListPage

PAGE_LIMIT: Final = 500
# orjson holds the GIL, so a thread would not keep the loop going while a page is decoded:
# pages are kept small instead. 1 MiB decodes in about 10 ms.
_PAGE_TARGET_BYTES: Final = 1024 * 1024
_PAGE_LIMIT_MIN: Final = 20


def next_limit(page: ListPage, limit: int) -> int:
    """Return the size to ask of the next page, so that it decodes without a long stop."""
    if not page.items or not page.size_bytes:
        return limit
    fitting = _PAGE_TARGET_BYTES * len(page.items) // page.size_bytes
    return max(_PAGE_LIMIT_MIN, min(PAGE_LIMIT, fitting))


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
