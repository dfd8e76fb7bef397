"""A small agent in a thread: answers as docs/protocol.md says, remembers what it was asked."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import socket
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

from taskctl import wire
from taskctl.wire import Message

TOKEN = "t-1:secret"


class FakeAgent:
    """Listens on a socket until it is stopped.

    Attributes:
        requests: all that were answered, in order, without `attach`.
        attached: the answer to `attach`.
        input: the answer to `input`.
        refusals: op to (code, message): what is refused for good.
        unavailable: op to how often it is answered `unavailable` first.
        too_fast: op to how often it is answered `limit`, to be tried again after `pause_s`.
        drops: op to how often the connection breaks instead of an answer.
        children: key to what was spawned; the same key is the same child.
        ended: outcomes of children, in the order of their ends; add with :meth:`end`.
        results: UID to the answer for its result.
        sources: values of each entry of `inputFrom`; a dict is a whole answer.
        at_once: what children return as soon as they are spawned; None: they do not end.
        cancelled: UIDs of children that were cancelled.
    """

    def __init__(self, path: Path, workspace: Path | None = None) -> None:
        self.path = path
        self.workspace = workspace
        self.requests: list[Message] = []
        self.attached: Message = {
            "task": "count-1",
            "namespace": "default",
            "uid": "uid-1",
            "attempt": 2,
            "root": "count-0",
            "parent": "count-0",
            "depth": 1,
            "workspace": str(workspace) if workspace else "",
            "inline_limit": 1000,
            "cluster": "main",
        }
        self.input: Message = {"value": None}
        self.refusals: dict[str, tuple[str, str]] = {}
        self.unavailable: dict[str, int] = defaultdict(int)
        self.too_fast: dict[str, int] = defaultdict(int)
        self.pause_s = 0.001
        self.drops: dict[str, int] = defaultdict(int)
        self.info: Message = {"cancel": "", "deadline_us": 0}
        self.children: dict[str, Message] = {}
        self.ended: list[Message] = []
        self.epoch = "e1"
        self.results: dict[str, Message] = {}
        self.cancelled: list[str] = []
        self.at_once: Any = None
        self.sources: list[list[Any]] = []
        self._news = threading.Condition()
        self._stopping = False
        self.attaches = 0
        self.most_at_once = 0
        self._lock = threading.Lock()
        self._open = 0
        self._stop_reader, self._stop_writer = os.pipe()
        self._listener = socket.socket(socket.AF_UNIX)
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self._listener.bind(str(self.path))
        self._listener.listen(128)
        self._spawn(self._accept)

    def stop(self) -> None:
        with self._news:
            self._stopping = True
            self._news.notify_all()
        os.write(self._stop_writer, b"x")
        for thread in self._threads:
            thread.join(10)
        self._listener.close()
        os.close(self._stop_reader)
        os.close(self._stop_writer)

    def asked(self, op: str) -> list[Message]:
        return [request for request in self.requests if request["op"] == op]

    def spawned(self) -> list[Message]:
        return [spec for request in self.asked("spawn") for spec in request["tasks"]]

    def end(self, name: str, value: Any = None, **outcome: Any) -> None:
        """Let a child end; by default with success."""
        uid = f"uid-{name}"
        ended = {
            "uid": uid,
            "name": name,
            "state": "Succeeded",
            "reason": "Completed",
            "message": "",
            "exit_code": 0,
            "attempt": 1,
            "has_output": value is not None,
        }
        self.results.setdefault(uid, {"value": value})
        with self._news:
            self.ended.append(ended | outcome)
            self._news.notify_all()

    def store(self, value: Any) -> Message:
        """Put a value into the workspace; returns the reference."""
        assert self.workspace is not None
        encoded = json.dumps(value).encode()
        digest = hashlib.sha256(encoded).hexdigest()
        path = self.workspace / ".taskctl" / "objects" / digest[:2] / digest
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded)
        relative = str(path.relative_to(self.workspace))
        return {"path": relative, "sha256": digest, "size": len(encoded), "codec": "json"}

    # --- threads ----------------------------------------------------------------------
    def _spawn(self, target: Any, *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _readable(self, sock: socket.socket) -> bool:
        ready = select.select([sock.fileno(), self._stop_reader], [], [])[0]
        return self._stop_reader not in ready

    def _accept(self) -> None:
        while self._readable(self._listener):
            sock, _ = self._listener.accept()
            self._spawn(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        with self._lock:
            self._open += 1
            self.most_at_once = max(self.most_at_once, self._open)
        decoder = wire.Decoder()
        with sock, contextlib.suppress(ConnectionError, BrokenPipeError):
            while self._readable(sock) and (data := sock.recv(65536)):
                for message in decoder.feed(data):
                    if message["op"] == "children":
                        self._wait(message)
                    with self._lock:
                        answer = self._answer(message)
                    if answer is None:
                        self._open -= 1
                        return
                    sock.sendall(wire.encode({"id": message["id"], "ok": True, **answer}))
        with self._lock:
            self._open -= 1

    def _wait(self, request: Message) -> None:
        """Wait for news as the agent does, outside the lock."""
        after = request["after"] if request["epoch"] == self.epoch else 0
        with self._news:
            self._news.wait_for(
                lambda: self._stopping or len(self.ended) > after, request["wait_ms"] / 1000
            )

    def _answer(self, request: Message) -> Message | None:
        op = request["op"]
        if self.drops[op] > 0:
            self.drops[op] -= 1
            return None
        if self.unavailable[op] > 0:
            self.unavailable[op] -= 1
            return {"ok": False, "error": "unavailable", "message": "the API server is away"}
        if self.too_fast[op] > 0:
            self.too_fast[op] -= 1
            told = {"error": "limit", "message": "limits.spawnRate", "retry_after_s": self.pause_s}
            return {"ok": False, **told}
        if op in self.refusals:
            code, text = self.refusals[op]
            return {"ok": False, "error": code, "message": text}
        if op == "attach":
            self.attaches += 1
            if request["token"] != TOKEN or request["v"] != wire.VERSION:
                return {"ok": False, "error": "bad_token", "message": "not one of mine"}
            return self.attached
        self.requests.append(request)
        if op == "spawn":
            return self._spawn_children(request)
        if op == "children":
            after = request["after"] if request["epoch"] == self.epoch else 0
            ended = self.ended[after:]
            return {"epoch": self.epoch, "next": after + len(ended), "ended": ended}
        if op == "results":
            # Fewer than were asked for, as when they are large.
            return {"results": [self.results[uid] for uid in request["uids"][:3]]}
        if op == "sources":
            found = self.sources[request["source"]][request["start"] :][:3]
            refs = [item for item in found if isinstance(item, dict)]
            return {"values": [item if item in refs else {"value": item} for item in found]}
        if op == "cancel":
            self.cancelled += [target["uid"] for target in request["tasks"]]
            return {"tasks": [{"cancelled": True} for _ in request["tasks"]]}
        answers: dict[str, Message] = {
            "input": self.input,
            "output": {"object": "count-1-output"},
            "progress": {},
            "info": self.info,
        }
        return answers[op]

    def _spawn_children(self, request: Message) -> Message:
        made = []
        for spec in request["tasks"]:
            created = spec["key"] not in self.children
            self.children.setdefault(spec["key"], spec)
            name = spec.get("name") or f"child-{spec['key']}"
            made.append({"name": name, "uid": f"uid-{name}", "created": created})
            if self.at_once is not None:
                self.end(name, self.at_once)
        return {"tasks": made}
