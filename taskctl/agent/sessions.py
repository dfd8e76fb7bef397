"""What is said on one connection: who speaks, then one handler per request.

A connection first says who it is: taskctl-init of a container (``hello``) or a task
(``attach``). After that each request is handled on its own, so a slow one does not hold up the
next, up to a number for the connection and one for the task; further ones wait in the socket.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from taskctl.agent.background import Background
from taskctl.agent.connection import Connection, Frame
from taskctl.agent.fields import bad
from taskctl.agent.ration import Ration, Rations
from taskctl.agent.refusals import ErrorCode, Refusal
from taskctl.agent.runs import Run
from taskctl.agent.service import Service
from taskctl.errors import WireError
from taskctl.wire import Message

logger = logging.getLogger(__name__)

MAX_OUTSTANDING: Final = 32
MAX_REQUEST_ID: Final = 2**63 - 1
# Made and sent one at a time for each task: they have up to 8 MiB.
_LARGE_ANSWERS: Final = frozenset({"input", "results", "sources", "list"})


@dataclass(frozen=True, slots=True)
class _Reply:
    """A good answer.

    Attributes:
        fields: what it carries.
        then: to be done as the answer goes out.
    """

    fields: Message
    then: Callable[[], None] | None = None


_Handler = Callable[[Message], Awaitable[_Reply]]


class Session:
    """One connection's conversation.

    Args:
        service: does what is asked.
        connection: carries it.
        rations: accounts of those who are connected.
        name: for the names of asyncio tasks.

    Attributes:
        is_silent: nothing was heard of the peer yet.
    """

    def __init__(
        self, service: Service, connection: Connection, rations: Rations, name: str
    ) -> None:
        self._service = service
        self._rations = rations
        self._ration: Ration | None = None
        self.is_silent = True
        self._connection = connection
        self._name = name
        self._slots = asyncio.Semaphore(MAX_OUTSTANDING)
        self._handlers: Mapping[str, _Handler] = {}
        self._container = ""  # of taskctl-init
        self._attached: Run | None = None  # of a task
        self._work = Background()

    @property
    def is_identified(self) -> bool:
        """Whether the peer has said who it is."""
        return self._connection.is_identified

    # --- as a link, for pushes ----------------------------------------------------------
    def push(self, message: Message) -> None:
        """Send an unasked message."""
        self._connection.push(message)

    def abort(self) -> None:
        """Close at once."""
        self._connection.abort()

    # --- the conversation -----------------------------------------------------------------
    async def run(self) -> None:
        """Converse until the peer hangs up or breaks the protocol."""
        try:
            first = await self._connection.receive_first()
            self.is_silent = False
            if first is not None:
                await self._converse(first)
        except WireError as error:
            logger.warning("connection %s closed: %s", self._name, error)
            self._connection.push(Refusal(ErrorCode.BAD_FRAME, str(error)).answer(0))
        finally:
            if self._container:
                self._service.disconnect(self._container, self)
            if self._attached is not None:
                self._service.detach(self._attached)
            try:
                await self._work.close()
            finally:
                # Also when the agent stops while we are here.
                await self._connection.close()

    async def _converse(self, first: Message) -> None:
        # Read on while the first request is answered: it may take long, and the peer may go.
        identifying = self._work.spawn(f"{self._name} first", self._identify(first))
        receiving = self._work.spawn(f"{self._name} receive", self._connection.receive())
        await asyncio.wait((identifying, receiving), return_when=asyncio.FIRST_COMPLETED)
        if not identifying.done() and await receiving is None:
            return
        if not await identifying:
            return
        while (frame := await receiving) is not None:
            number = _request_id(frame.message)
            await self._slots.acquire()
            if self._ration is not None:
                await self._ration.requests.acquire()
            handling = self._work.spawn(f"{self._name} #{number}", self._handle(number, frame))
            # Not in the handler: one that is cancelled at once never begins.
            handling.add_done_callback(functools.partial(self._handled, frame))
            receiving = self._work.spawn(f"{self._name} receive", self._connection.receive())

    async def _identify(self, message: Message) -> bool:
        """Answer the first request; return whether the conversation continues."""
        number = _request_id(message)
        first: dict[str, _Handler] = {"hello": self._hello, "attach": self._attach}
        handler = first.get(_operation(message), self._stranger)
        good = await self._answer(number, handler, Frame(message))
        if self._ration is None or not good:
            return False
        self._connection.identify(self._ration)
        return True

    async def _handle(self, number: int, frame: Frame) -> None:
        operation = _operation(frame.message)
        handler = self._handlers.get(operation, self._unknown)
        if operation in _LARGE_ANSWERS and self._ration is not None:
            async with self._ration.answering:
                await self._answer(number, handler, frame)
        else:
            await self._answer(number, handler, frame)

    def _handled(self, frame: Frame, _done: asyncio.Task[None]) -> None:
        self._connection.release(frame)
        if self._ration is not None:
            self._ration.requests.release()
        self._slots.release()

    async def _answer(self, number: int, handler: _Handler, frame: Frame) -> bool:
        then = None
        meters = self._service.meters
        meters.on_request(_operation(frame.message))
        try:
            if frame.refusal is not None:
                raise frame.refusal
            reply = await handler(frame.message)
        except Refusal as refusal:
            meters.on_refusal(refusal.code)
            answer, good = refusal.answer(number), False
        except Exception:
            # The last line: a bug in one request must not take down the worker.
            logger.exception("request %s failed", _operation(frame.message))
            meters.on_refusal(ErrorCode.UNAVAILABLE)
            broken = Refusal(ErrorCode.UNAVAILABLE, "the agent failed; its log says how")
            answer, good = broken.answer(number), False
        else:
            answer, good, then = {"id": number, "ok": True, **reply.fields}, True, reply.then
        # Before the answer takes room: else requests could wait for each other's.
        self._connection.release(frame)
        await self._connection.send(answer, then)
        return good

    # --- taskctl-init -----------------------------------------------------------------
    async def _hello(self, message: Message) -> _Reply:
        hello = await self._service.hello(message)
        container = self._container = hello.container
        self._ration = self._rations.of(f"init {container}")
        self._handlers = {"next": self._next, "exited": self._exited}
        self._service.greet(container, self)

        def then() -> None:
            if hello.running is not None:
                self._service.connect(container, self)

        return _Reply(hello.response, then)

    async def _next(self, _message: Message) -> _Reply:
        container = self._container
        response = await self._service.next(container)
        # Pushes only from now on: taskctl-init heeds them in order, after the run they are for.
        return _Reply(response, lambda: self._service.connect(container, self))

    async def _exited(self, message: Message) -> _Reply:
        return _Reply(await self._service.exited(self._container, message))

    # --- tasks ------------------------------------------------------------------------
    async def _attach(self, message: Message) -> _Reply:
        run, response = await self._service.attach(message)
        self._attached = run
        self._ration = self._rations.of(f"task {run.told.container}")
        self._handlers = self._task_handlers(run)
        return _Reply(response)

    def _task_handlers(self, run: Run) -> dict[str, _Handler]:
        service = self._service

        async def take_input(message: Message) -> _Reply:
            return _Reply(await service.outputs.input(run, message))

        async def spawn(message: Message) -> _Reply:
            return _Reply(await service.children.spawn(run, message))

        async def output(message: Message) -> _Reply:
            return _Reply(await service.outputs.output(run, message))

        async def progress(message: Message) -> _Reply:
            service.progress.report(run, message)
            return _Reply({})

        async def info(_message: Message) -> _Reply:
            return _Reply(service.info(run))

        async def sources(message: Message) -> _Reply:
            return _Reply(await service.outputs.sources(run, message))

        async def children(message: Message) -> _Reply:
            return _Reply(await service.results.children(run, message))

        async def results(message: Message) -> _Reply:
            return _Reply(await service.results.results(run, message))

        async def listed(_message: Message) -> _Reply:
            return _Reply(await service.results.listed(run))

        async def cancel(message: Message) -> _Reply:
            return _Reply(await service.results.cancel(run, message))

        return {
            "input": take_input,
            "sources": sources,
            "children": children,
            "results": results,
            "list": listed,
            "cancel": cancel,
            "spawn": spawn,
            "output": output,
            "progress": progress,
            "info": info,
        }

    # --- neither ----------------------------------------------------------------------
    async def _stranger(self, _message: Message) -> _Reply:
        raise Refusal(
            ErrorCode.NOT_IDENTIFIED, "the first request must be hello (taskctl-init) or attach"
        )

    async def _unknown(self, message: Message) -> _Reply:
        known = ", ".join(sorted(self._handlers))
        raise bad("op", f"{_operation(message)!r} is not known here; known are {known}")


def _operation(message: Message) -> str:
    operation = message.get("op")
    return operation[:32] if isinstance(operation, str) else ""


def _request_id(message: Message) -> int:
    number = message.get("id")
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MAX_REQUEST_ID:
        raise WireError(f"id: is {number!r:.32}; a request needs an integer from 1 on")
    return number
