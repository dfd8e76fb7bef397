"""``pods/log``: passed through to the node that runs the pod."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

import aiohttp
from aiohttp import web

from taskctl.embedded.server.refusals import errors, fields
from taskctl.embedded.server.relay.nodelink import BASE_URL, NodeLink, choose_container
from taskctl.embedded.server.requests.options import parse_int
from taskctl.embedded.server.schema.formats import is_date_time
from taskctl.embedded.server.storage.records import Record

log = logging.getLogger(__name__)

_PASSED_ON: Final = (
    "follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes",
    "stream",
)  # fmt: skip
_CONNECT_TIMEOUT_S: Final = 5.0
_READ_TIMEOUT_S: Final = 30.0
_PIECE_BYTES: Final = 64 * 1024


class LogProxy:
    """Fetches logs from nodes."""

    def __init__(self, link: NodeLink) -> None:
        self._link = link

    async def serve(self, request: web.BaseRequest, pod: Record) -> web.StreamResponse:
        """Answer a request for a log.

        Raises:
            errors.StatusError: 400, the container cannot be told or has not started; 404; 422;
                502, the node cannot be reached.
        """
        _check_options(request.query, pod.name)
        obj = pod.load()
        container = choose_container(obj, request.query.get("container", ""))
        node = obj["spec"].get("nodeName")
        if not node:
            return web.Response(status=204)  # as Kubernetes: there is no log yet
        url = f"{BASE_URL}/containerLogs/{pod.namespace}/{pod.name}/{container}"
        query = {name: request.query[name] for name in _PASSED_ON if name in request.query}
        follow = query.get("follow", "") in ("true", "1", "True")
        timeout = aiohttp.ClientTimeout(
            total=None,
            sock_connect=_CONNECT_TIMEOUT_S,
            # A followed log may be silent for hours; the client's going ends it.
            sock_read=None if follow else _READ_TIMEOUT_S,
        )
        async with (
            self._link.session(node) as session,
            session.get(url, params=query, timeout=timeout) as answer,
        ):
            return await _pass_through(request, answer)


def _check_options(query: Mapping[str, str], name: str) -> None:
    """Check the numbers and the time (ValidatePodLogOptions)."""
    found = []
    for option, least in (("tailLines", 0), ("sinceSeconds", 1), ("limitBytes", 1)):
        number = parse_int(query, option)
        if number is not None and number < least:
            message = "must be greater than " + ("0" if least else "or equal to 0")
            found.append(fields.invalid(option, number, message))
    since = query.get("sinceTime")
    if since and not is_date_time(since):
        raise errors.bad_request(
            f'parsing time "{since}" as "2006-01-02T15:04:05Z07:00": it is none'
        )
    if found:
        raise errors.invalid("", "PodLogOptions", name, found)


async def _pass_through(
    request: web.BaseRequest, answer: aiohttp.ClientResponse
) -> web.StreamResponse:
    if answer.status >= 400:
        text = (await answer.text(errors="replace"))[:2048].strip()
        reason = {400: "BadRequest", 404: "NotFound"}.get(answer.status, "InternalError")
        raise errors.StatusError(answer.status, reason, text or f"the node answers {answer.status}")
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    try:
        async for piece in answer.content.iter_chunked(_PIECE_BYTES):
            await response.write(piece)
        await response.write_eof()
    except aiohttp.ClientPayloadError as error:
        # The status has been sent; ending the connection is all that is left to say so.
        log.info("a log stream broke off: %s", error)
        if request.transport is not None:
            request.transport.close()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass  # the client has gone
    return response
