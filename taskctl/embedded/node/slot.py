"""One container of a pod over all its runs: the record behind its :class:`ContainerView`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from taskctl.backoff import Backoff
from taskctl.clock import parse_time
from taskctl.embedded.node import records, removal
from taskctl.embedded.node.api import SPREAD
from taskctl.embedded.node.decide import BACKOFF_RESET_S, crash_delay_s
from taskctl.embedded.node.instance import LOST_MESSAGE, Instance
from taskctl.embedded.node.model import ContainerView, Json, PodRef, RunState, Terminated
from taskctl.embedded.node.records import ExitRecord
from taskctl.kube.timing import Pauses

# containerd reports every failure to start with this code; the shim's own says which it was.
START_ERROR_CODE: Final = 128
_MESSAGE_BYTES: Final = 4096
_LOG_MESSAGE_BYTES: Final = 2048
_RETRY_BACKOFF: Final = Backoff(1.0, 60.0, SPREAD)


@dataclass(slots=True)
class Waiting:
    """Why a container is not started: shown in its status."""

    reason: str = ""
    message: str = ""


class ContainerSlot:
    """One container of a pod over all its runs.

    Args:
        ref: the pod.
        name: of the container.
        directory: holds one directory per run, named by its number.
        shim: the shim's binary.
        on_change: called when anything changes.
    """

    def __init__(
        self, ref: PodRef, name: str, *, directory: Path, shim: Path, on_change: Callable[[], None]
    ) -> None:
        self.name = name
        self.instance: Instance | None = None
        self.waiting = Waiting()
        self.not_before: datetime | None = None
        self.message_to_log = False
        self._ref = ref
        self._directory = directory
        self._shim = shim
        self._on_change = on_change
        self._restarts = -1  # none yet
        self._image_id = ""
        self._crashes = 0
        self._last: Terminated | None = None
        self._retry = Pauses(_RETRY_BACKOFF, reset_after_s=math.inf)
        self._seen_exit: Instance | None = None
        self._terminated: Terminated | None = None
        self._from_api: Terminated | None = None

    @property
    def is_live(self) -> bool:
        """Whether a shim is at work."""
        return self.instance is not None and self.instance.state in (
            RunState.STARTING,
            RunState.RUNNING,
        )

    def adopt(self) -> None:
        """Take over what a former node left on disk."""
        numbers = sorted(int(p.name) for p in self._directory.iterdir() if p.name.isdigit())
        for number in numbers:
            instance = self._new(number)
            instance.adopt()
            if instance.state is RunState.ABSENT:
                continue  # its shim never came to life: the number is used again
            if self._terminated is not None:
                self._last = self._terminated
                self._terminated = None
            self.instance, self._restarts = instance, number
            self._image_id = records.read_image(instance.directory)
            if instance.state is RunState.EXITED:
                self._note_exit(instance)

    def end_if_it_asks_elsewhere(self, port: int) -> bool:
        """Kill the adopted run if it asks the API server at another port than this one.

        What has come up with an address never asks at another one. The next run is told the
        right one, if the pod's policy is to restart.
        """
        if self.instance is None or not self.is_live:
            return False
        told = records.server_port(self.instance.directory)
        if told is None or told == str(port):
            return False
        self.instance.kill()
        return True

    def next_directory(self) -> Path:
        """Return the directory of the run that :meth:`launch` will begin."""
        return self._directory / str(self._restarts + 1)

    def launch(self, spec: bytes, image_id: str = "") -> None:
        """Begin the next run.

        Args:
            spec: of the shim.
            image_id: for the status; is remembered beside the spec.

        Raises:
            OSError: the disk or the shim says no.
        """
        instance = self._new(self._restarts + 1)
        if image_id:
            records.write_image(instance.directory, image_id)
        instance.launch(spec)
        if self.instance is not None:
            self._last, self._terminated = self._terminated, None
            self.instance.close()
        self.instance, self._image_id = instance, image_id
        self._restarts += 1
        self.waiting, self.not_before = Waiting(), None
        self._retry.reset()

    def delay_start(self, now: datetime, reason: str, message: str) -> None:
        """Note why a start failed before the shim, and when to try again."""
        self.waiting = Waiting(reason, message)
        self.not_before = now + timedelta(seconds=self._retry.next_s())

    def settle(self, now: datetime) -> Instance | None:
        """Look at the latest run; returns it, once, when it has ended since the last look."""
        instance = self.instance
        if instance is None or instance.state is not RunState.EXITED:
            return None
        if self._terminated is None:
            self._note_exit(instance)
        if self._seen_exit is instance:
            return None
        self._seen_exit = instance
        exit_ = instance.exit
        if exit_ is not None and exit_.started_at and exit_.finished_at:
            ran_s = (exit_.finished_at - exit_.started_at).total_seconds()
            self._crashes = 0 if ran_s >= BACKOFF_RESET_S else self._crashes
        self._crashes += 1
        delay_s = crash_delay_s(self._crashes)
        self.not_before = now + timedelta(seconds=delay_s) if delay_s else None
        return instance

    def view(self) -> ContainerView:
        """Return the state for decisions and the status."""
        instance = self.instance
        if instance is None and self._from_api is not None:
            return ContainerView(
                state=RunState.EXITED, restarts=0, terminated=self._from_api, container_id=""
            )
        if instance is None:
            return ContainerView(
                waiting_reason=self.waiting.reason,
                waiting_message=self.waiting.message,
                not_before=self.not_before,
            )
        return ContainerView(
            state=instance.state,
            restarts=self._restarts,
            container_id=self._id(self._restarts),
            image_id=self._image_id,
            started_at=instance.started_at,
            terminated=self._terminated,
            last=self._last,
            waiting_reason=self.waiting.reason,
            waiting_message=self.waiting.message,
            not_before=self.not_before,
        )

    def mark_lost(self, status: Json) -> None:
        """Take the API's word for a run of which no record is left on this machine."""
        state = status.get("state") or {}
        end = state.get("terminated") or {
            "exitCode": 137,
            "reason": "ContainerStatusUnknown",
            "message": LOST_MESSAGE,
            **(state.get("running") or {}),
        }
        started, finished = end.get("startedAt"), end.get("finishedAt")
        self._from_api = Terminated(
            exit_code=int(end.get("exitCode", 137)),
            signal=int(end.get("signal") or 0),
            reason=str(end.get("reason") or "Error"),
            message=str(end.get("message") or ""),
            started_at=parse_time(started) if started else None,
            finished_at=parse_time(finished) if finished else None,
            container_id=str(end.get("containerID") or ""),
        )

    def log_directory(self, *, previous: bool) -> Path | None:
        """Return the directory whose log is wanted, None when there is none."""
        number = self._restarts - 1 if previous else self._restarts
        path = self._directory / str(number)
        return path if number >= 0 and path.is_dir() else None

    async def forget_old_runs(self) -> None:
        """Remove what no request can reach: runs before the last, and /tmp of the ended."""
        live = self.instance.directory if self.instance is not None and self.is_live else None
        await asyncio.to_thread(_clean, self._directory, self._restarts - 1, live)

    def close(self) -> None:
        """Stop watching; a container that runs keeps running."""
        if self.instance is not None:
            self.instance.close()

    def _new(self, number: int) -> Instance:
        return Instance(self._directory / str(number), self._shim, self._on_change)

    def _id(self, number: int) -> str:
        return f"process://{self._ref.uid}/{self.name}/{number}"

    def _note_exit(self, instance: Instance) -> None:
        number = int(instance.directory.name)
        exit_ = instance.exit or ExitRecord(code=137)
        message = exit_.message
        if not exit_.start_error and not instance.lost:
            path = instance.directory / records.TERMINATION_FILE
            message = records.read_tail(path, _MESSAGE_BYTES) or message
            if not message and self.message_to_log and exit_.code != 0:
                message = _plain_log_tail(instance.directory)
        self._terminated = Terminated(
            exit_code=START_ERROR_CODE if exit_.start_error else exit_.code,
            signal=exit_.signal,
            reason=_reason(exit_, lost=instance.lost),
            message=message,
            started_at=exit_.started_at or instance.started_at,
            finished_at=exit_.finished_at,
            container_id=self._id(number),
        )


def wants_log_message(container: Json) -> bool:
    """Whether the end of the log stands in for a missing termination message."""
    return container.get("terminationMessagePolicy") == "FallbackToLogsOnError"


def _reason(exit_: ExitRecord, *, lost: bool) -> str:
    if lost:
        return "ContainerStatusUnknown"
    if exit_.start_error:
        return "StartError"
    if exit_.oom:
        return "OOMKilled"
    return "Completed" if exit_.code == 0 else "Error"


def _plain_log_tail(directory: Path) -> str:
    """Return the end of a log without the CRI prefix of each line."""
    lines = records.read_tail(directory / records.LOG_FILE, 4 * _LOG_MESSAGE_BYTES).splitlines()
    texts = [parts[3] for line in lines if len(parts := line.split(" ", 3)) == 4]
    return "\n".join(texts)[-_LOG_MESSAGE_BYTES:]


def _clean(directory: Path, keep_from: int, live: Path | None) -> None:
    for run in list(directory.iterdir()):
        if not run.name.isdigit():
            continue
        if int(run.name) < keep_from:
            removal.remove_tree(run)
        elif run != live:
            for name in (records.TMP_DIR, "root", records.UPPER_DIR, records.WORK_DIR):
                if (run / name).is_dir():
                    removal.remove_tree(run / name)
