"""taskctl-init as a command, with a fake agent that answers it."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path
from typing import Any

from taskctl import wire
from tests.unit.init.fake_agent import Agent, Link, sanitizer_env

TASK_TOKEN = "t-1:secret"
ATTACHED = {
    "task": "count-1",
    "namespace": "default",
    "uid": "uid-1",
    "attempt": 2,
    "root": "count-0",
    "parent": "",
    "depth": 1,
    "workspace": "/workspace",
    "inline_limit": 1000,
    "cluster": "main",
}
Done = subprocess.CompletedProcess[str]


class Shell:
    """Runs the command while a fake agent answers."""

    def __init__(self, binary: Path, agent: Agent, keys: Path) -> None:
        self.binary = binary
        self.agent = agent
        self.requests: list[wire.Message] = []
        self.env = {
            "PATH": os.environ["PATH"],
            "TASKCTL_SOCKET": str(agent.path),
            "TASKCTL_TOKEN": TASK_TOKEN,
            "TASKCTL_KEYS": str(keys),
            "TASKCTL_DEADLINE_S": "10",
            **sanitizer_env(),
        }

    def run(self, *arguments: str, stdin: str = "") -> Done:
        return subprocess.run(
            [self.binary, *arguments],
            env=self.env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=20,
        )

    def ask(self, *arguments: str, stdin: str = "", **answer: Any) -> Done:
        """Run it; the agent answers its one request with these fields."""
        thread = threading.Thread(target=self._serve, args=(answer,))
        thread.start()
        done = self.run(*arguments, stdin=stdin)
        thread.join(20)
        return done

    def spec(self, *arguments: str) -> wire.Message:
        """Spawn; returns the spec that was sent."""
        done = self.ask("spawn", *arguments, tasks=[{"name": "child-1", "uid": "u"}])
        assert (done.returncode, done.stdout) == (0, "child-1\n"), done.stderr
        [spec] = self.requests[-1]["tasks"]
        return dict(spec)

    def _serve(self, answer: wire.Message) -> None:
        link = attach(self.agent)
        request = link.receive()
        self.requests.append(request)
        link.answer(request, **answer)
        link.closed_by_peer()


def attach(agent: Agent) -> Link:
    link = agent.accept()
    request = link.expect("attach")
    assert (request["v"], request["token"]) == (wire.VERSION, TASK_TOKEN)
    link.answer(request, **ATTACHED)
    return link
