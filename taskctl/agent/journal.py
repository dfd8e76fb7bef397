"""What the agent must not forget: used nonces, what parked containers were given, what was prepared
in them, and which runs taskctl-init was told.

One small file per container, in a directory that no task sees. A worker has about a hundred
containers in its life, so nothing is ever cleaned up: the directory goes with the pod.
All methods block; call them in a thread.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from taskctl.agent.files import create_exclusive, replace_file
from taskctl.policy.handover import Handover, decode_entry, encode_entry
from taskctl.policy.prepare import Preparation

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ToldRun:
    """A run that taskctl-init was told, or may have been told, to start.

    Attributes:
        container: name of the ephemeral container.
        task: name of the Task.
        uid: UID of the Task.
        attempt: number of the attempt.
        started_us: when the attempt was claimed, microseconds since the epoch.
        timeout_ms: of the attempt; 0: none.
        log: where its output is copied to; empty: nowhere.
        record: where taskctl-init leaves the exit record; empty: nowhere.
        reported: its outcome is in the API server, or nobody wants it any more.
        exit_code: what taskctl-init was told to exit with, once reported.
    """

    container: str
    task: str
    uid: str
    attempt: int
    started_us: int
    timeout_ms: int = 0
    log: str = ""
    record: str = ""
    reported: bool = False
    exit_code: int = 0


class Journal:
    """Durable memory in ``state_dir``."""

    def __init__(self, state_dir: Path) -> None:
        self._nonces = state_dir / "nonces"
        self._runs = state_dir / "runs"
        self._outputs = state_dir / "outputs"
        self._bound = state_dir / "bound"
        self._prepared = state_dir / "prepared"

    def open(self) -> None:
        """Make the directories.

        Raises:
            OSError: the state directory cannot be written.
        """
        self._nonces.mkdir(mode=0o700, exist_ok=True)
        self._runs.mkdir(mode=0o700, exist_ok=True)
        self._outputs.mkdir(mode=0o700, exist_ok=True)
        self._bound.mkdir(mode=0o700, exist_ok=True)
        self._prepared.mkdir(mode=0o700, exist_ok=True)

    def use_nonce(self, container: str) -> bool:
        """Return whether this is the first time; durable before it returns."""
        return create_exclusive(self._nonces / container, b"")

    def bind(self, container: str, handover: Handover) -> None:
        """Remember what a parked container was given, before it is claimed.

        Not synced: it is of use to an agent that is started again while the container lives; a
        power cut ends both.
        """
        content = encode_entry(handover).encode()
        replace_file(self._bound / f"{container}.json", content, durable=False)

    def bound(self, container: str) -> Handover | None:
        """Return what a parked container was given; None: nothing yet.

        Raises:
            OSError: it cannot be read.
        """
        try:
            text = (self._bound / f"{container}.json").read_text("utf-8")
        except FileNotFoundError:
            return None
        entry = decode_entry(text)
        if not isinstance(entry, Handover):
            raise OSError(f"the file on {container} in {self._bound} is damaged")
        return entry

    def note_prepared(self, container: str, preparation: Preparation) -> None:
        """Remember what is about to be prepared in a parked container.

        Not synced, as what it was given.

        Raises:
            OSError: the directory cannot be written.
        """
        content = json.dumps(asdict(preparation)).encode()
        replace_file(self._prepared / f"{container}.json", content, durable=False)

    def load_prepared(self) -> dict[str, Preparation]:
        """Return what was prepared, by container; what cannot be read admits no task at all."""
        found = {}
        for path in sorted(self._prepared.glob("*.json")):
            try:
                item = json.loads(path.read_bytes())
                found[path.stem] = Preparation(str(item["digest"]), str(item["root_uid"]))
            except (ValueError, TypeError, KeyError) as error:
                logger.error("%s is damaged, its container will run no task: %s", path, error)
                found[path.stem] = Preparation("?", "?")
        return found

    def tell(self, run: ToldRun) -> None:
        """Remember a run before taskctl-init hears of it; durable before it returns."""
        replace_file(self._path(run.container), _encode(run))

    def report(self, run: ToldRun, exit_code: int) -> None:
        """Remember that the outcome is recorded.

        Not synced: should a power cut undo it, the outcome is offered once more and the
        fence in the Task's status refuses it.
        """
        done = replace(run, reported=True, exit_code=exit_code)
        replace_file(self._path(run.container), _encode(done), durable=False)
        self.drop_output(run)

    def keep_output(self, run: ToldRun, value: Any) -> None:
        """Remember a small output until the outcome carries it; durable before it returns.

        Raises:
            OSError: the directory cannot be written; an output that it holds stays.
        """
        content = {"uid": run.uid, "attempt": run.attempt, "value": value}
        replace_file(self._output_path(run), json.dumps(content).encode())

    def load_output(self, run: ToldRun) -> Any:
        """Return the small output of a run; None if there is none."""
        path = self._output_path(run)
        try:
            found = json.loads(path.read_bytes())
            mine = (found["uid"], found["attempt"]) == (run.uid, run.attempt)
            return found["value"] if mine else None
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            logger.error("%s is damaged, the output is lost: %s", path, error)
            return None

    def drop_output(self, run: ToldRun) -> None:
        """Forget the small output of a run."""
        self._output_path(run).unlink(missing_ok=True)

    def load(self) -> list[ToldRun]:
        """Return all runs, reported ones too. A damaged file is logged and left out."""
        runs = []
        for path in sorted(self._runs.glob("*.json")):
            try:
                runs.append(_decode(path.read_bytes()))
            except (ValueError, TypeError) as error:
                logger.error("%s is damaged, its run is left to the controller: %s", path, error)
        return runs

    def _path(self, container: str) -> Path:
        return self._runs / f"{container}.json"

    def _output_path(self, run: ToldRun) -> Path:
        return self._outputs / f"{run.container}.json"


def _encode(run: ToldRun) -> bytes:
    return json.dumps(asdict(run)).encode()


def _decode(content: bytes) -> ToldRun:
    data = json.loads(content)
    if not isinstance(data, dict):
        raise TypeError("not a map")
    known = {field.name for field in fields(ToldRun)}
    return ToldRun(**{name: value for name, value in data.items() if name in known})
