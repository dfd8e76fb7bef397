"""The messages of ``*.channel.k8s.io``."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.embedded.node.remote.channels import ChannelMessage, Protocol, choose, decode, encode


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["v5.channel.k8s.io", "v4.channel.k8s.io"], Protocol.V5),
        (["v4.channel.k8s.io", "v5.channel.k8s.io"], Protocol.V5),
        (["v4.channel.k8s.io", "channel.k8s.io"], Protocol.V4),
        (["v4.base64.channel.k8s.io"], Protocol.V4_BASE64),
        (["channel.k8s.io", "chat"], None),
        ([], None),
    ],
)
def test_the_best_protocol_of_those_offered_is_taken(
    offered: list[str], chosen: Protocol | None
) -> None:
    assert choose(offered) is chosen


@given(st.sampled_from(list(Protocol)), st.integers(0, 9), st.binary(max_size=200), st.booleans())
def test_what_is_sent_is_understood(
    protocol: Protocol, channel: int, data: bytes, as_text: bool
) -> None:
    message = encode(protocol, channel, data)
    assert isinstance(message, str) == (protocol is Protocol.V4_BASE64)
    if isinstance(message, str) and not as_text:
        message = message.encode()  # some clients send text as binary messages
    assert decode(protocol, message) == ChannelMessage(channel, data)


@pytest.mark.parametrize(
    ("protocol", "message", "meant"),
    [
        (Protocol.V5, b"\xff\x00", ChannelMessage(0, ended=True)),
        (Protocol.V4, b"\xff\x00", ChannelMessage(255, b"\x00")),
        (Protocol.V5, b"\xff", None),
        (Protocol.V5, b"", None),
        (Protocol.V4_BASE64, "", None),
        (Protocol.V4_BASE64, "0?", None),
        (Protocol.V4_BASE64, "x" + base64.b64encode(b"a").decode(), None),
    ],
)
def test_ends_and_malformed_messages(
    protocol: Protocol, message: bytes | str, meant: ChannelMessage | None
) -> None:
    assert decode(protocol, message) == meant
