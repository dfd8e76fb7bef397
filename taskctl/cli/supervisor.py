"""Keeps the components of the local stack running: start, restart with back-off, stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO

from taskctl.backoff import EXACT, Backoff
from taskctl.cli.datadir import DataDir
from taskctl.cli.exits import CliError, ExitCode
from taskctl.cli.lifeline import lifeline_env
from taskctl.clock import Clock, SystemClock

_BACKOFF = Backoff(0.2, 10.0, EXACT)
# A component that ran this long is not in a crash loop: its back-off begins again.
_STEADY_S = 30.0
# So often may a component die before the stack has been ready once.
_START_TRIES = 3
_LAST_WORDS = "taskctl: "


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """One process.

    Attributes:
        name: of the component and its log.
        argv: command line.
        stop_grace_s: between SIGTERM and SIGKILL.
        death_signal: what it gets when the supervisor itself is killed.
        descriptors: what it inherits under the same numbers.
    """

    name: str
    argv: tuple[str, ...]
    stop_grace_s: float
    death_signal: signal.Signals = signal.SIGTERM
    descriptors: tuple[int, ...] = ()


@dataclass(slots=True)
class _Running:
    spec: ComponentSpec
    process: asyncio.subprocess.Process | None = None
    keeper: asyncio.Task[None] | None = None
    stopping: bool = False
    deaths: int = 0


@dataclass(slots=True)
class Supervisor:
    """Starts components and keeps them running until it is told to stop them.

    Attributes:
        data_dir: where their logs and our state go.
        say: prints a line for the user.
        clock: source of time.
        ready_once: set when the stack has been up; every component that ends is then restarted.
        failure: set with an error when the stack cannot work, so that it stops.
    """

    data_dir: DataDir
    say: Callable[[str], None]
    clock: Clock = field(default_factory=SystemClock)
    ready_once: bool = False
    failure: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    _components: dict[str, _Running] = field(default_factory=dict)

    async def start(self, spec: ComponentSpec) -> None:
        """Start a component, and restart it whenever it ends."""
        running = _Running(spec)
        self._components[spec.name] = running
        await self._spawn(running)
        running.keeper = asyncio.create_task(self._keep(running), name=f"keep {spec.name}")

    async def stop(self, names: Sequence[str]) -> None:
        """Stop components one after the other, in the order given."""
        for name in names:
            running = self._components.get(name)
            if running is not None:
                await self._stop(running)

    def kill(self) -> None:
        """Kill all at once."""
        for running in self._components.values():
            running.stopping = True
            _signal(running, signal.SIGKILL)

    async def _spawn(self, running: _Running) -> None:
        spec = running.spec
        env = {**os.environ, **lifeline_env(spec.death_signal), "PYTHONUNBUFFERED": "1"}
        with self._open_log(spec.name) as log:
            running.process = await asyncio.create_subprocess_exec(
                *spec.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                pass_fds=spec.descriptors,
                # Ctrl-C in the terminal is for the supervisor, which stops all in good order.
                start_new_session=True,
            )
        pids = {
            name: component.process.pid
            for name, component in self._components.items()
            if component.process is not None
        }
        try:
            self.data_dir.write_state(pids)
        except OSError as error:  # `taskctl local status` shows the process ids; no more than that
            self.say(f"{self.data_dir.state} cannot be written: {error.strerror}")

    def _open_log(self, name: str) -> IO[bytes]:
        """A component without a log is better than none."""
        try:
            self.data_dir.rotate_log(name)
            return self.data_dir.log(name).open("ab")
        except OSError as error:
            self.say(f"{self.data_dir.log(name)} cannot be written: {error.strerror}")
            return open(os.devnull, "ab")

    async def _keep(self, running: _Running) -> None:
        """Start a component again whenever it ends, for as long as the stack lives."""
        failures = 1
        name = running.spec.name
        while not _is_stopping(running):
            began_s = self.clock.monotonic_s()
            if running.process is not None:
                code = await running.process.wait()
                if _is_stopping(running):
                    return
                running.deaths += 1
                if self._hopeless(running, code):
                    self._fail(running, code)
                    return
                if self.clock.monotonic_s() - began_s > _STEADY_S:
                    failures = 1
                delay_s = _BACKOFF.pause_s(failures)
                self.say(f"{name} ended ({_how(code)}); starting it again in {delay_s:.1f} s")
            await asyncio.sleep(_BACKOFF.pause_s(failures))
            failures += 1
            if _is_stopping(running):
                return
            running.process = None
            try:
                await self._spawn(running)
            except OSError as error:  # no memory, no process ids, no file descriptors
                delay_s = _BACKOFF.pause_s(failures)
                self.say(f"{name} cannot be started: {error}; trying again in {delay_s:.1f} s")

    def _hopeless(self, running: _Running, code: int) -> bool:
        """A wrong setting stays wrong; and what never came up will not come up."""
        if self.ready_once:
            return False
        return code == ExitCode.USAGE or running.deaths >= _START_TRIES

    def _fail(self, running: _Running, code: int) -> None:
        name = running.spec.name
        tail = self.data_dir.log_tail(name, 5)
        # A component that gave up on purpose says why in its last line.
        if tail and tail[-1].startswith(_LAST_WORDS):
            detail = tail[-1].removeprefix(_LAST_WORDS)
        else:
            lines = "\n  ".join(tail) or "nothing"
            detail = f"({_how(code)}). {self.data_dir.log(name)} says:\n  {lines}"
        error = CliError(f"the {name} does not start: {detail}")
        if not self.failure.done():
            self.failure.set_exception(error)

    async def _stop(self, running: _Running) -> None:
        running.stopping = True
        process = running.process
        if process is not None and process.returncode is None:
            _signal(running, signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), running.spec.stop_grace_s)
            except TimeoutError:
                self.say(f"{running.spec.name} did not end in time; killing it")
                _signal(running, signal.SIGKILL)
                await process.wait()
        if running.keeper is not None:
            running.keeper.cancel()
            await asyncio.gather(running.keeper, return_exceptions=True)


def _is_stopping(running: _Running) -> bool:
    return running.stopping


def _signal(running: _Running, number: signal.Signals) -> None:
    process = running.process
    if process is not None and process.returncode is None:
        # Not process.send_signal: it polls first, and so takes the exit code away from asyncio.
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
