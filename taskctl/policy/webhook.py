"""A notification as it goes over the wire: a CloudEvent, signed as Standard Webhooks has it.

CloudEvents 1.0, JSON format, structured mode (github.com/cloudevents/spec); Standard Webhooks 1.0.0
(github.com/standard-webhooks/standard-webhooks).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from taskctl.api.graphcheck import fill, params_of
from taskctl.api.states import NotifyEvent
from taskctl.constants import API_VERSION
from taskctl.policy.view import TaskView

CONTENT_TYPE: Final = "application/cloudevents+json"
_SECRET_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = range(24, 65)
_MAX_SECRETS: Final = 5


class BadSecret(ValueError):
    """The content of a Secret cannot sign a message; the error does not quote it."""


@dataclass(frozen=True, slots=True)
class WebhookMessage:
    """What is sent.

    Attributes:
        id: the same for each attempt.
        body: JSON in ASCII.
    """

    id: str
    body: bytes


def message_of(
    root: TaskView, receiver: Mapping[str, Any], entry: Mapping[str, Any]
) -> WebhookMessage:
    """Return the message for an entry of ``status.tree.notifications`` that is owed."""
    event = NotifyEvent(entry["event"])
    noted = entry.get("data")
    data = dict(noted) if isinstance(noted, Mapping) else {}
    params = params_of(root.own_spec) if root.is_graph else {}
    for field in ("queue", "payload"):
        if receiver.get(field) is not None:
            text = receiver[field]
            data[field] = fill(text, params) if root.is_graph else text
    body = {
        "specversion": "1.0",
        "id": entry["id"],
        "source": f"/apis/{API_VERSION}/namespaces/{root.namespace}/tasks/{root.name}",
        "type": f"dev.taskctl.tree.{event.value.lower()}",
        "subject": root.name,
        "time": entry["time"],
        "datacontenttype": "application/json",
        "data": data,
    }
    return WebhookMessage(str(entry["id"]), json.dumps(body, separators=(",", ":")).encode("ascii"))


def parse_secrets(text: str) -> tuple[bytes, ...]:
    """Return the keys in a Secret's value: while a key is changed there are two.

    Raises:
        BadSecret: there is none, or one is malformed, too short or too long.
    """
    words = text.split()
    if not 0 < len(words) <= _MAX_SECRETS:
        raise BadSecret(f"it holds {len(words)} keys; it should be one, or up to {_MAX_SECRETS}")
    return tuple(_key(word) for word in words)


def _key(word: str) -> bytes:
    try:
        key = base64.b64decode(word.removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise BadSecret(f"it is not {_SECRET_PREFIX} with base64 after it") from None
    if len(key) not in _SECRET_BYTES:
        raise BadSecret(
            f"the key has {len(key)} bytes; use {_SECRET_BYTES[0]} to {_SECRET_BYTES[-1]}"
        )
    return key


def headers_of(message: WebhookMessage, keys: Sequence[bytes], now: datetime) -> dict[str, str]:
    """Return the headers of one attempt."""
    stamp = str(int(now.timestamp()))
    signed = b".".join((message.id.encode(), stamp.encode(), message.body))
    signatures = (
        base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode() for key in keys
    )
    return {
        "Content-Type": CONTENT_TYPE,
        "webhook-id": message.id,
        "webhook-timestamp": stamp,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
