"""``on_exit_notify``: a message at the end of an operation, for a queue. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from taskctl.errors import ConfigError

URL_VARIABLE: Final = "TASKCTL_NOTIFY_URL"
_FIELDS: Final = ("queue", "payload", "url")


@dataclass(frozen=True, slots=True)
class ExitNotice:
    """What is sent at the end of an operation.

    Attributes:
        queue: name of a queue or topic, for the receiver.
        payload: any text, for the program that reads the queue.
        url: the receiver; empty: that of the environment.
    """

    queue: str
    payload: str | None = None
    url: str = ""

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> ExitNotice:
        """Read the setting.

        Raises:
            ConfigError: it is malformed; the message names the field.
        """
        for name, value in given.items():
            if name not in _FIELDS:
                raise ConfigError(
                    f"on_exit_notify.{name}: unknown field; known are {', '.join(_FIELDS)}"
                )
            if not isinstance(value, str):
                remedy = "; use json.dumps" if name == "payload" else ""
                raise ConfigError(
                    f"on_exit_notify.{name}: must be a text, not {type(value).__name__}{remedy}"
                )
        if not given.get("queue"):
            raise ConfigError("on_exit_notify.queue: is missing; name a queue or topic")
        return cls(given["queue"], given.get("payload"), given.get("url", ""))

    def receiver(self, default_url: str) -> dict[str, Any]:
        """Return the entry of ``spec.notify``.

        Args:
            default_url: the receiver, where the setting names none.

        Raises:
            ConfigError: there is none.
        """
        url = self.url or default_url
        if not url:
            raise ConfigError(
                "on_exit_notify.url: is missing; name the receiver that puts messages into the "
                f"queue, here or in the environment variable {URL_VARIABLE}"
            )
        receiver = {"url": url, "queue": self.queue}
        return receiver if self.payload is None else receiver | {"payload": self.payload}
