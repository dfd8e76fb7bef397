"""Get and list: pages, snapshots, selectors."""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_right
from dataclasses import dataclass, replace
from itertools import islice
from operator import attrgetter
from typing import Final

import orjson

from taskctl.embedded.server.api.encode import ListMeta
from taskctl.embedded.server.core import Core, resource_of
from taskctl.embedded.server.kinds.model import Kind
from taskctl.embedded.server.refusals import errors
from taskctl.embedded.server.refusals.errors import Resource
from taskctl.embedded.server.requests.options import ListOptions, VersionMatch
from taskctl.embedded.server.requests.paths import Target
from taskctl.embedded.server.storage import selectors
from taskctl.embedded.server.storage.records import Record
from taskctl.embedded.server.storage.selectors import Selector

_TOKEN_VERSION: Final = "meta.k8s.io/v1"
_LATEST: Final = -1
_SORT_KEY: Final = attrgetter("sort_key")


def parse_selector(kind: Kind, options: ListOptions) -> Selector:
    """Parse the selectors of a list or watch.

    Raises:
        errors.StatusError: 400.
    """
    return selectors.parse(options.labels, options.fields, kind.selectable_fields)


def get_object(core: Core, kind: Kind, target: Target, revision_text: str) -> Record:
    """Return one object.

    Args:
        core: the server.
        kind: of the object.
        target: names it.
        revision_text: the request's resourceVersion; the object is to be no older.

    Raises:
        errors.StatusError: 404; 500, that is not a number; 504, one that has not been made yet.
    """
    if revision_text and not (revision_text.isascii() and revision_text.isdigit()):
        raise errors.unclassified(
            f'resourceVersion: Invalid value: "{revision_text}": strconv.ParseUint: parsing '
            f'"{revision_text}": invalid syntax'
        )
    if revision_text and int(revision_text) > core.store.head:
        raise errors.future_revision(int(revision_text), core.store.head)
    return core.store.require(resource_of(kind), target.namespace or "", target.name or "")


def list_objects(
    core: Core, kind: Kind, namespace: str | None, options: ListOptions
) -> tuple[list[Record], ListMeta]:
    """Return one page of a list and its metadata.

    Raises:
        errors.StatusError: 400; 410, the page's snapshot has been forgotten; 504, a revision
            that has not been made yet.
    """
    selector = parse_selector(kind, options)
    resource = resource_of(kind)
    revision, after = core.store.head, None
    if options.continue_token:
        if options.revision:
            raise errors.bad_request(
                "specifying resource version is not allowed when using continue"
            )
        page = _Page.decode(options.continue_token, namespace, namespaced=kind.namespaced)
        after = page.after
        if page.revision == _LATEST:
            records = core.store.records(resource, namespace)
        else:
            revision = page.revision
            records = _page_snapshot(core, resource, namespace, page)
    elif _wants_exact(options):
        revision = options.revision or 0
        records = core.store.records_at(resource, namespace, revision)
    else:
        if options.revision is not None and options.revision > core.store.head:
            raise errors.future_revision(options.revision, core.store.head)
        records = _current(core, kind, namespace, selector)
    if after is not None:
        records = records[bisect_right(records, after, key=_SORT_KEY) :]
    # From the watch cache, which answers for "0", Kubernetes gives no pages.
    limit = 0 if options.revision == 0 and not options.continue_token else options.limit
    return _cut(records, selector, limit, _Page(revision, ("", ""), namespace))


def _cut(
    records: list[Record], selector: Selector, limit: int, page: _Page
) -> tuple[list[Record], ListMeta]:
    """Return the first matching records, and the metadata that leads to the others."""
    # What follows the page is not looked at: a list of many pages would look at all each time.
    kept = list(islice(selector.matching(records), limit or None))
    # With a selector, Kubernetes does not know whether what follows the page matches.
    if not kept or len(kept) < limit or kept[-1] is records[-1] or not limit:
        return kept, ListMeta(page.revision)
    remaining = len(records) - len(kept) if selector.everything else None
    token = replace(page, after=kept[-1].sort_key).encode()
    return kept, ListMeta(page.revision, token, remaining)


def _page_snapshot(
    core: Core, resource: Resource, namespace: str | None, page: _Page
) -> list[Record]:
    try:
        return core.store.records_at(resource, namespace, page.revision)
    except errors.StatusError as error:
        if error.code != 410:
            raise
        raise errors.expired_page(replace(page, revision=_LATEST).encode()) from None


def _current(core: Core, kind: Kind, namespace: str | None, selector: Selector) -> list[Record]:
    pin = selector.pinned_field()
    if pin is not None and pin[0] == "metadata.name" and (namespace or not kind.namespaced):
        record = core.store.get(resource_of(kind), namespace or "", pin[1])
        return [record] if record is not None else []
    return core.store.records(resource_of(kind), namespace)


def _wants_exact(options: ListOptions) -> bool:
    if not options.revision:
        return False
    # Without a match, a revision together with a limit has always meant exactly that one.
    return options.match is VersionMatch.EXACT or (options.match is None and options.limit > 0)


@dataclass(frozen=True, slots=True)
class _Page:
    """Where a page of a list begins: what a continue token says.

    The form is that of k8s.io/apiserver ``pkg/storage/continue.go``.

    Attributes:
        revision: at which the list is true; -1 for the newest, which may have changed since.
        after: namespace and name of the object before.
        namespace: of the list; None for all.
    """

    revision: int
    after: tuple[str, str]
    namespace: str | None

    def encode(self) -> str:
        """Return the token."""
        space, name = self.after
        key = name if self.namespace is not None or not space else f"{space}/{name}"
        content = {"v": _TOKEN_VERSION, "rv": self.revision, "start": f"/{key}\0"}
        return base64.urlsafe_b64encode(orjson.dumps(content)).decode().rstrip("=")

    @classmethod
    def decode(cls, token: str, namespace: str | None, *, namespaced: bool) -> _Page:
        """Read a token.

        Raises:
            errors.StatusError: 400.
        """
        try:
            content = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
            version, revision, start = content["v"], int(content["rv"]), str(content["start"])
        except (binascii.Error, ValueError, KeyError, TypeError) as error:
            raise _bad_token(str(error)) from error
        if version != _TOKEN_VERSION:
            raise _bad_token(f"server does not recognize this encoded version {version}")
        if revision == 0:
            raise _bad_token(f"incorrect encoded start resourceVersion (version {version})")
        if not start:
            raise _bad_token(f"encoded start key empty (version {version})")
        key = start.removesuffix("\0").removeprefix("/")
        if ".." in key.split("/"):
            raise _bad_token(start)
        space, _, name = key.rpartition("/")
        return cls(revision, (namespace or space if namespaced else "", name), namespace)


def _bad_token(why: str) -> errors.StatusError:
    return errors.bad_request(f"invalid continue token: continue key is not valid: {why}")
