"""The history that a cluster's recorder keeps, asked for through the API server.

The right to ask is Kubernetes': to read one Secret, and to use the proxy of one Service. The
installation's role ``taskctl-history-view`` has both.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from taskctl.cli.exits import CliError
from taskctl.cli.gone import readable_tasks
from taskctl.errors import ApiError, Forbidden, NotFound
from taskctl.history import asking
from taskctl.history.asking import End, Question, parse_end
from taskctl.history.lines import MAX_LINE_BYTES
from taskctl.history.reading import Line, Made, Newest, NewestOfLines, TasksOfLines, Wanted
from taskctl.install.options import DEFAULT_NAMESPACE
from taskctl.kube.client import KubeClient
from taskctl.kube.resources import SECRETS

# Of a whole answer, however many Tasks: more than any limit of a history that fits a claim.
_MAX_BYTES: Final = 4_000_000_000


@dataclass(frozen=True, slots=True)
class ClusterHistory:
    """The history of a cluster.

    Attributes:
        client: of the API server.
        namespace: of the installation.
        token: that the recorder asks for.
    """

    client: KubeClient
    namespace: str
    token: str = field(repr=False)

    @property
    def name(self) -> str:
        """What it is, in words."""
        return f"the history of the cluster ({self.namespace})"

    async def read(self, wanted: Wanted) -> list[dict[str, Any]]:
        """Return Tasks as their last lines have them; what cannot be read is told on stderr."""
        reading = TasksOfLines(wanted)
        await self._ask(Question(wanted), reading)
        return readable_tasks(reading.result(), self.name)

    async def newest(
        self, wanted: Wanted, limit: int, make: Callable[[dict[str, Any]], Made]
    ) -> Newest[Made]:
        """Return the Tasks that went last."""
        reading = NewestOfLines(wanted, make)
        end = await self._ask(Question(wanted, min(limit, asking.MAX_NEWEST)), reading)
        return reading.result(more=end.more)

    async def _ask(self, question: Question, reading: Reading) -> End:
        service = f"{asking.SERVICE}:{asking.PORT_NAME}"
        path = f"/api/v1/namespaces/{self.namespace}/services/{service}/proxy{asking.PATH}"
        headers = {asking.TOKEN_HEADER: self.token}
        try:
            chunks = self.client.stream(path, query=question.query(), headers=headers)
            end = await _read(chunks, reading)
        except Forbidden as error:
            raise CliError(missing_right(self.namespace, "get services/proxy", error)) from error
        except ApiError as error:
            raise CliError(
                f"{self.name} cannot be read: {error}; is the Deployment {asking.SERVICE} in "
                f"{self.namespace} ready?"
            ) from error
        if end is None or end.problem:
            why = end.problem if end else "the connection broke"
            raise CliError(f"{self.name} was not read to its end: {why}; try again")
        return end


class Reading(Protocol):
    """Takes in lines."""

    def add(self, line: Line) -> None:
        """Take in a line."""
        ...


async def _read(chunks: AsyncGenerator[bytes, None], reading: Reading) -> End | None:
    """Read an answer; return its end, or None: it has none, as it was cut off."""
    rest, number, seen = b"", 0, 0
    async with aclosing(chunks):
        async for chunk in chunks:
            seen += len(chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            for data in lines:
                number += 1
                if (end := parse_end(data)) is not None:
                    return end
                reading.add(Line(data, f"line {number}"))
            if len(rest) > MAX_LINE_BYTES or seen > _MAX_BYTES:
                return None
    return None


def missing_right(namespace: str, right: str, error: Exception) -> str:
    """Return what to tell a user who may not read the history."""
    return (
        f"the history of the cluster may not be read: {error}. It takes the right to {right} of "
        f"{asking.SERVICE} in {namespace}: an administrator can bind the role "
        f"{asking.VIEW_ROLE} of that namespace to you"
    )


async def find_cluster_history(client: KubeClient, *namespaces: str) -> ClusterHistory | None:
    """Return the history of a cluster, or None: nothing says that it has one.

    Args:
        client: of its API server.
        namespaces: where else than in the usual one it may be installed.

    Raises:
        CliError: we may not know; names the right that is missing.
    """
    refused: CliError | None = None
    for namespace in dict.fromkeys((DEFAULT_NAMESPACE, *filter(None, namespaces))):
        try:
            secret = await client.get(SECRETS, asking.TOKEN_SECRET, namespace)
        except NotFound:
            continue
        except Forbidden as error:
            text = missing_right(namespace, "get the Secret and services/proxy", error)
            refused = refused or CliError(text)
            continue
        return ClusterHistory(client, namespace, _token_of(secret, namespace))
    if refused is not None:
        raise refused
    return None


def _token_of(secret: dict[str, Any], namespace: str) -> str:
    encoded = (secret.get("data") or {}).get(asking.TOKEN_KEY, "")
    try:
        token = base64.b64decode(encoded, validate=True).decode("ascii").strip()
    except (binascii.Error, UnicodeDecodeError):
        token = ""
    if not token or not token.isprintable():
        raise CliError(
            f"the Secret {asking.TOKEN_SECRET} in {namespace} holds no {asking.TOKEN_KEY}; make it "
            "again as docs/history.md says"
        )
    return token
