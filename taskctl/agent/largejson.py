"""Runs ``jsoncheck.py`` on large values, so that none holds up the agent."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Final

from taskctl.agent import jsoncheck
from taskctl.agent.fields import bad
from taskctl.agent.refusals import ErrorCode, Refusal
from taskctl.agent.values import Content
from taskctl.api.states import Codec
from taskctl.constants import INLINE_LIMIT_BYTES, MESSAGE_LIMIT_CHARS
from taskctl.wire import Message

AT_ONCE: Final = 2
_PROGRAM: Final = str(Path(jsoncheck.__file__).resolve())
TIMEOUT_S: Final = 60.0  # of one; it may use 20 s of CPU


class LargeJson:
    """Checks large values, a few at a time."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def checked(self, message: Message, *, where: str = "") -> Message:
        """Return a message whose ``json``, if that is large, is a checked :class:`Content`.

        Raises:
            Refusal: ``bad_request`` or ``too_large``, naming the field.
        """
        text = message.get("json")
        if not isinstance(text, str) or len(text) <= INLINE_LIMIT_BYTES:
            return message
        field = f"{where}json"
        try:
            content = text.encode()
        except UnicodeEncodeError as error:
            raise bad(field, f"is not JSON: {error}") from error
        encoded = await self.as_json(content, Codec.JSON, field)
        small = len(encoded) <= INLINE_LIMIT_BYTES  # it was full of blanks
        body = jsoncheck.parse(encoded) if small else None
        return message | {"json": Content("value", body, encoded)}

    async def as_json(self, content: bytes, codec: Codec, field: str) -> bytes:
        """Return a value as compact JSON.

        Raises:
            Refusal: ``bad_request``: it is none; ``too_large``: it takes too much memory or time.
        """
        return await self._run(content, field, codec.value)

    async def member(self, content: bytes, codec: Codec, key: str, field: str) -> bytes:
        """Return one member of a map: a text as it stands, anything else as compact JSON.

        Raises:
            Refusal: ``bad_request``: it is not a map, or has no such key; ``too_large``.
        """
        return await self._run(content, field, codec.value, key)

    async def _run(self, content: bytes, field: str, *arguments: str) -> bytes:
        async with self._slots:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", _PROGRAM, *arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    output, problem = await process.communicate(content)
            except TimeoutError:
                return _too_large(field)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    if process.returncode is None:
                        process.kill()
                        await process.wait()
        if process.returncode == jsoncheck.REFUSED:
            raise bad(field, problem.decode(errors="replace").strip()[:MESSAGE_LIMIT_CHARS])
        if process.returncode != 0:
            return _too_large(field)
        return output


def _too_large(field: str) -> bytes:
    raise Refusal(
        ErrorCode.TOO_LARGE,
        f"{field}: takes too much memory or time to check; write it to a file in the workspace "
        "and pass the path",
    )
