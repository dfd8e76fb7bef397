"""Get and list: pages, snapshots, selectors."""

from __future__ import annotations

import base64
import binascii
from typing import Final

import orjson

from taskctl.embedded.server import errors, selectors
from taskctl.embedded.server.core import Core, resource_of
from taskctl.embedded.server.encode import ListMeta
from taskctl.embedded.server.errors import Resource
from taskctl.embedded.server.kinds import Kind
from taskctl.embedded.server.records import Record
from taskctl.embedded.server.selectors import Selector
from taskctl.embedded.server.targets import ListOptions, VersionMatch

_TOKEN_VERSION: Final = "meta.k8s.io/v1"


def parse_selector(kind: Kind, options: ListOptions) -> Selector:
    """Parse the selectors of a list or watch.

    Raises:
        errors.StatusError: 400.
    """
    return selectors.parse(options.labels, options.fields, kind.selectable_fields)


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
        revision, after = _decode_token(options.continue_token)
        records = _page_snapshot(core, resource, namespace, revision)
    elif _wants_exact(options):
        revision = options.revision or 0
        records = core.store.records_at(resource, namespace, revision)
    else:
        if options.revision is not None and options.revision > core.store.head:
            raise errors.future_revision(options.revision, core.store.head)
        records = _current(core, kind, namespace, selector)
    if after is not None:
        records = [record for record in records if record.sort_key > after]
    if not selector.everything:
        records = [record for record in records if selector.matches(record)]
    if not options.limit or len(records) <= options.limit:
        return records, ListMeta(revision)
    page = records[: options.limit]
    remaining = len(records) - len(page) if selector.everything else None
    return page, ListMeta(revision, _encode_token(revision, page[-1].sort_key), remaining)


def _page_snapshot(
    core: Core, resource: Resource, namespace: str | None, revision: int
) -> list[Record]:
    try:
        return core.store.records_at(resource, namespace, revision)
    except errors.StatusError as error:
        raise errors.expired_page() if error.code == 410 else error from None


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


def _encode_token(revision: int, after: tuple[str, str]) -> str:
    content = {"v": _TOKEN_VERSION, "rv": revision, "start": after}
    return base64.urlsafe_b64encode(orjson.dumps(content)).decode().rstrip("=")


def _decode_token(token: str) -> tuple[int, tuple[str, str]]:
    try:
        padded = token + "=" * (-len(token) % 4)
        content = orjson.loads(base64.urlsafe_b64decode(padded))
        namespace, name = content["start"]
        if content["v"] != _TOKEN_VERSION:
            raise ValueError(content["v"])
        return int(content["rv"]), (str(namespace), str(name))
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise errors.bad_request(
            f"invalid continue token: continue key is not valid: {error}"
        ) from error
