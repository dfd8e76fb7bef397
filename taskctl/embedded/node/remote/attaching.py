"""Attach: what a running container writes from now on, carried by a WebSocket.

Containers of this node have no standard input of their own, so there is nothing to send to.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from taskctl.embedded.node.logs import LogQuery, LogReader
from taskctl.embedded.node.remote.channels import Channel, ChannelSocket
from taskctl.embedded.node.remote.commands import Streams
from taskctl.embedded.node.remote.streams import carry
from taskctl.embedded.node.slot import ContainerSlot

_POLL_S: Final = 0.05
_POLL_LIMIT_S: Final = 0.5


async def follow_output(socket: ChannelSocket, slot: ContainerSlot, streams: Streams) -> None:
    """Send what the container writes until it ends or the client goes.

    Args:
        socket: to the client.
        slot: of a container that runs.
        streams: which of its streams are wanted.
    """
    wanted = [(Channel.STDOUT, streams.stdout), (Channel.STDERR, streams.stderr)]
    following = [_follow(socket, slot, channel) for channel, is_wanted in wanted if is_wanted]
    with contextlib.suppress(ConnectionError):  # the client has gone
        if await carry(_hear(socket), following):
            await socket.succeed()


async def _hear(socket: ChannelSocket) -> None:
    while await socket.receive() is not None:
        pass  # the container has no reader for it


async def _follow(socket: ChannelSocket, slot: ContainerSlot, channel: Channel) -> None:
    instance = slot.instance
    if instance is None:
        return
    query = LogQuery(follow=True, tail_lines=0, stream=channel.name.lower())
    reader = LogReader(instance.directory, query)
    delay_s = _POLL_S
    try:
        while True:
            # Asked before reading: what is written after the end was seen cannot be missed.
            ended = slot.instance is not instance or not slot.is_live
            data = await asyncio.to_thread(reader.read)
            if data:
                await socket.send(channel, data)
                delay_s = _POLL_S
            elif ended:
                return
            else:
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, _POLL_LIMIT_S)
    finally:
        await asyncio.shield(asyncio.to_thread(reader.close))
