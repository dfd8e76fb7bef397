"""Results of other tasks as an argument that is read while one goes along it."""

from __future__ import annotations

from taskctl.sdk import _stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from typing import Any

    from taskctl.sdk._exchange import Operation
    from taskctl.wire import Message


class Stream:
    """The results of one entry of ``spec.inputFrom``; at any time only a part is in memory.

    It can be gone through any number of times, by ``for`` or ``async for``.

    Args:
        number: of the entry.
        count: how many results there are.
        workspace: where large ones lie.
        where: what they are, for errors.
    """

    def __init__(self, number: int, count: int, workspace: str, where: str) -> None:
        self._number = number
        self._count = count
        self._workspace = workspace
        self._where = where
        self._decode: Callable[[Any, str], Any] = lambda plain, _where: plain

    def decoded(self, decode: Callable[[Any, str], Any], where: str) -> Stream:
        """Return the same results, each turned into a value by ``decode``."""
        stream = Stream(self._number, self._count, self._workspace, where)
        stream._decode = decode
        return stream

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"<{self._count} results>"

    def __iter__(self) -> Iterator[Any]:
        from taskctl.sdk._blocking import perform

        position = 0
        while position < self._count:
            part = perform(self._part(position))
            yield from self._values(part, position)
            position += len(part)

    async def __aiter__(self) -> AsyncIterator[Any]:
        from taskctl.sdk._awaiting import perform

        position = 0
        while position < self._count:
            part = await perform(self._part(position))
            for value in self._values(part, position):
                yield value
            position += len(part)

    def _part(self, start: int) -> Operation[list[Message]]:
        answer = yield {"op": "sources", "source": self._number, "start": start}
        return list(answer["values"])[: self._count - start]

    def _values(self, part: list[Message], start: int) -> Iterator[Any]:
        for number, item in enumerate(part, start):
            where = f"{self._where}[{number}]"
            yield self._decode(_stored.load(item, self._workspace, where), where)


class Once:
    """Values that are at hand, for ``async for``."""

    def __init__(self, values: list[Any]) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    async def __aiter__(self) -> AsyncIterator[Any]:
        for value in self._values:
            yield value
