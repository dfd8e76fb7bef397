"""Tokens by which a connection proves for whom it speaks.

A token is a message authentication code under a secret that only the agent has, so none has to
be stored, and all stay good when the agent restarts: the secret lies in its state directory.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path

from taskctl.agent.files import replace_file
from taskctl.errors import ConfigError

SECRET_FILE = "secret"
_SECRET_BYTES = 32


class TokenMint:
    """Makes and checks tokens.

    Three kinds, so that one cannot stand in for the other: taskctl-init's is for a container,
    the user process's for one attempt of one task in it, and that in an exit record proves that
    the taskctl-init of this attempt wrote it.

    Args:
        secret: at least 32 random bytes.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @classmethod
    def load(cls, state_dir: Path) -> TokenMint:
        """Read the secret from the state directory; make it the first time. Blocking.

        Raises:
            ConfigError: the file is damaged.
            OSError: the directory cannot be read or written.
        """
        path = state_dir / SECRET_FILE
        if not path.exists():
            replace_file(path, secrets.token_hex(_SECRET_BYTES).encode())
        try:
            secret = bytes.fromhex(path.read_text("ascii"))
        except ValueError:
            secret = b""
        if len(secret) != _SECRET_BYTES:
            # Another secret would lock out every container that runs now: a person decides.
            raise ConfigError(
                f"{path} is damaged; delete this worker pod, or the file if no task runs in it"
            )
        return cls(secret)

    def for_container(self, container: str) -> str:
        """Return the token of a container's taskctl-init."""
        return self._mac("container", container)

    def is_container(self, container: str, token: str) -> bool:
        """Return whether the token is that container's."""
        return hmac.compare_digest(self.for_container(container).encode(), token.encode())

    def for_task(self, container: str, task_uid: str, attempt: int) -> str:
        """Return the token of the user's process; it begins with the container's name."""
        return f"{container}:{self._mac('task', container, task_uid, str(attempt))}"

    def is_task(self, token: str, *, container: str, task_uid: str, attempt: int) -> bool:
        """Return whether the token is that of this attempt."""
        expected = self.for_task(container, task_uid, attempt)
        return hmac.compare_digest(expected.encode(), token.encode())

    def for_record(self, container: str, task_uid: str, attempt: int) -> str:
        """Return what the exit record of an attempt must hold."""
        return self._mac("record", container, task_uid, str(attempt))

    def is_record(self, key: str, *, container: str, task_uid: str, attempt: int) -> bool:
        """Return whether this is what that record must hold."""
        expected = self.for_record(container, task_uid, attempt)
        return hmac.compare_digest(expected.encode(), key.encode())

    @staticmethod
    def container_of(token: str) -> str:
        """Return which container a task token claims to be from; unproven."""
        return token.partition(":")[0]

    def _mac(self, *parts: str) -> str:
        # Names and UIDs hold no NUL, so the parts cannot run into each other.
        message = "\0".join(parts).encode()
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()
