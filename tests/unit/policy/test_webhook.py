"""The CloudEvent and its signature."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest

from taskctl.policy.webhook import (
    BadSecret,
    WebhookMessage,
    headers_of,
    message_of,
    parse_secrets,
)
from tests.unit.policy.build import view


def secret(size: int) -> str:
    return "whsec_" + base64.b64encode(b"x" * size).decode()


def test_the_signature_is_that_of_the_standards_libraries() -> None:
    """The example in the tests of the reference implementations."""
    message = WebhookMessage("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}')
    keys = parse_secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    now = datetime.fromtimestamp(1614265330.7, UTC)
    headers = headers_of(message, keys, now)
    assert headers["webhook-id"] == "msg_p5jXN8AQM9LWM0D4loKWxJek"
    assert headers["webhook-timestamp"] == "1614265330"
    wanted = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-signature"] == wanted
    both = headers_of(message, [b"y" * 32, *keys], now)["webhook-signature"].split(" ")
    assert len(both) == 2
    assert wanted in both


@pytest.mark.parametrize("text", ["", "  ", "password", "whsec_", "whsec_%%%", "whsec_" + "A" * 33,
                                  secret(23), secret(65), " ".join([secret(24)] * 6),
                                  secret(24) + " hunter2"])  # fmt: skip
def test_what_is_no_secret(text: str) -> None:
    with pytest.raises(BadSecret) as caught:
        parse_secrets(text)
    assert not any(word in str(caught.value) for word in text.split() if len(word) > 6)


def test_secrets() -> None:
    assert parse_secrets(f"{secret(24)}\n") == (b"x" * 24,)
    assert parse_secrets(secret(64).removeprefix("whsec_")) == (b"x" * 64,)
    assert len(parse_secrets(f"{secret(24)} {secret(32)}\n{secret(33)}")) == 3


def test_the_event() -> None:
    root = view("root", spec={"notify": [{"url": "https://a"}]})
    entry = {"id": "u-1-ended-0", "event": "Failed", "time": "2030-01-01T12:00:00.000000Z",
             "data": {"message": "ä\u2028", "output": None}}  # fmt: skip
    receiver = {"url": "https://a", "queue": "q", "payload": "{{params.x}}"}
    message = message_of(root, receiver, entry)
    assert message.body.isascii()
    assert json.loads(message.body) == {
        "specversion": "1.0",
        "id": "u-1-ended-0",
        "source": "/apis/taskctl.dev/v1alpha1/namespaces/ns/tasks/root",
        "type": "dev.taskctl.tree.failed",
        "subject": "root",
        "time": "2030-01-01T12:00:00.000000Z",
        "datacontenttype": "application/json",
        # A root without tasks has no parameters: the text stays as it is.
        "data": {"message": "ä\u2028", "output": None, "queue": "q", "payload": "{{params.x}}"},
    }
