"""The way to the node that runs a pod: a Unix socket of the data directory, and a token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp

from taskctl.embedded.listening import short_path
from taskctl.embedded.server.refusals import errors
from taskctl.embedded.server.refusals.errors import Json, Resource
from taskctl.embedded.server.storage.store import Store

_NODES: Final = Resource("", "nodes")
_SOCKET: Final = "node.sock"
_TOKEN: Final = "node-token"
# The host's name says nothing: the connection goes to the socket.
BASE_URL: Final = "http://node"


class NodeLink:
    """Opens connections to nodes.

    Args:
        store: to find the pod's node.
        directory: where the node has its socket, and the file with the token that it expects; both
            are looked up for each request, since the node may make them after this server has
            started. None: there is no node.
    """

    def __init__(self, store: Store, directory: Path | None) -> None:
        self._store = store
        self._directory = directory

    @asynccontextmanager
    async def session(self, node: str) -> AsyncIterator[aiohttp.ClientSession]:
        """Yield a session whose requests go to a node; it must be used at once.

        Raises:
            errors.StatusError: 404, there is no such node; 502, it cannot be reached; 503, this
                server has none.
        """
        if self._store.get(_NODES, "", node) is None:
            raise errors.not_found(_NODES, node)
        if self._directory is None:
            raise errors.unavailable("this server has no data directory, and so no node")
        try:
            with short_path(self._directory / _SOCKET) as path:
                connector = aiohttp.UnixConnector(path)
                async with aiohttp.ClientSession(
                    connector=connector, headers=self._headers(self._directory)
                ) as session:
                    yield session
        except (aiohttp.ClientConnectionError, TimeoutError, OSError) as error:
            raise errors.StatusError(
                502, "ServiceUnavailable", f"the node {node} cannot be reached: {error}"
            ) from error

    def _headers(self, directory: Path) -> dict[str, str]:
        try:
            token = (directory / _TOKEN).read_text().strip()
        except FileNotFoundError:
            return {}
        return {"Authorization": f"Bearer {token}"}


def choose_container(pod: Json, name: str) -> str:
    """Return the container that a request means.

    Raises:
        errors.StatusError: 400, none is named and there are several, or there is none such.
    """
    spec: Json = pod["spec"]
    regular = [c["name"] for c in spec.get("containers") or ()]
    others = [
        c["name"]
        for part in ("initContainers", "ephemeralContainers")
        for c in spec.get(part) or ()
    ]
    pod_name = pod["metadata"]["name"]
    if not name:
        if len(regular) == 1:
            return str(regular[0])
        raise errors.bad_request(
            f"a container name must be specified for pod {pod_name}, choose one of: "
            f"[{' '.join(regular)}]"
        )
    if name not in regular and name not in others:
        raise errors.bad_request(f"container {name} is not valid for pod {pod_name}")
    return name
