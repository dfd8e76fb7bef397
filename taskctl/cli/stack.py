"""The local stack as one run: start in order, wait until ready, stop in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import signal
import socket
import sys
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskctl.api.conditions import condition_is
from taskctl.api.states import ConditionStatus, ConditionType
from taskctl.cli.datadir import DEFAULT_DATA_DIR, DataDir
from taskctl.cli.exits import CliError, ExitCode
from taskctl.cli.output import Style, echo, note, paint, wants_colour
from taskctl.cli.pagefile import bind_page, stored_page_url
from taskctl.cli.supervisor import ComponentSpec, Supervisor
from taskctl.clock import SystemClock
from taskctl.errors import AlreadyExists, ApiError, ConfigError, NotFound

if TYPE_CHECKING:
    from taskctl.kube.client import KubeClient

START_TIMEOUT_S = 60.0
# So long the log of a deleted Task can be read; what it said last stands in the history for longer.
_KEEP_FILES_S = 86_400
NODE_NAME = "local"
_HOST = "127.0.0.1"
_POLL_S = 0.05
# The node goes first: it stops the containers, and their ends can still be recorded.
STOP_ORDER = ("page", "node", "controller", "server")
# Longer than the longest grace of a pod on the node (30 s, Kubernetes' default).
_GRACE_S = {"page": 5.0, "node": 40.0, "controller": 15.0, "server": 15.0}
# A node that is killed leaves its containers running, and the next one adopts them: that is
# what a crash of the whole stack should look like. The others have nothing to leave behind.
_DEATH_SIGNALS = {"node": signal.SIGKILL}
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSettings:
    """How to run the local stack.

    Attributes:
        port: of the API server; None takes that of the last run, or any.
        verbose: also print the components' logs.
        cluster: make TaskCluster ``default``, unless there is one of that name.
        history: arguments of the controller, how much of a history it keeps.
    """

    port: int | None = None
    verbose: bool = False
    cluster: bool = True
    history: tuple[str, ...] = ()


class Stack:
    """One run of the local stack; made inside the event loop that it runs in.

    Args:
        directory: locked by the caller.
        settings: how to run it.
    """

    def __init__(self, directory: DataDir, settings: StackSettings) -> None:
        self._directory = directory
        self._port = settings.port
        self._verbose = settings.verbose
        self._make_cluster = settings.cluster
        self._history = settings.history
        self._listener: socket.socket | None = None
        self._page_listener: socket.socket | None = None
        self._asked_to_stop = asyncio.Event()
        self._supervisor = Supervisor(directory, self._say)

    async def run(self) -> int:
        """Run until a signal comes.

        Raises:
            CliError: a component does not start.
            ConfigError: the port is taken.
        """
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        self._directory.mark_not_ready()
        try:
            async with contextlib.AsyncExitStack() as cleanup:
                # Ours for as long as the stack lives: were it the server's own, a task could take
                # the port whenever the server restarts, and be asked in its place.
                self._listener = cleanup.enter_context(self._bind())
                self._page_listener = self._bind_page(cleanup)
                if self._verbose:
                    await cleanup.enter_async_context(self._tails())
                cleanup.push_async_callback(self._stop_all)
                await self._until_asked(self._start_all())
                if not self._asked_to_stop.is_set():
                    self._supervisor.ready_once = True
                    self._announce()
                    await self._asked_to_stop.wait()
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)
        return ExitCode.OK

    def _bind(self) -> socket.socket:
        from taskctl.embedded.listening import bind, is_taken, stored_port

        port = self._port or stored_port(self._directory.path)
        if self._port is None and port and is_taken(_HOST, port):
            # A program that has taken the port must not keep the stack from starting. Every client
            # learns of the new port: from the kubeconfig, or because it is started again.
            listener = bind(_HOST, 0)
            self._say(
                f"port {port}, where the API server was, is taken by another program (`ss -ltnp` "
                f"shows which); it is at port {listener.getsockname()[1]} from now on"
            )
            return listener
        return bind(_HOST, port, chosen=self._port is not None)

    def _bind_page(self, cleanup: contextlib.AsyncExitStack) -> socket.socket | None:
        """A stack without its page is better than none."""
        try:
            return cleanup.enter_context(bind_page(self._directory.path))
        except (OSError, ConfigError) as error:
            self._say(f"there is no page: {error}")
            return None

    def _announce(self) -> None:
        try:
            self._directory.mark_ready(server_url(self._directory))
            echo(banner(self._directory))
            sys.stdout.flush()
        except (
            OSError
        ) as error:  # a full disk; a program that waits for the stack can ask the server
            self._say(f"it is ready, but that cannot be written down: {error.strerror}")

    # --- starting -----------------------------------------------------------------------

    async def _start_all(self) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._supervisor.start(self._spec("server"))
                # While the server starts there is time for what takes half a second.
                from taskctl.cli.install import apply_crds

                client = await self._server_ready()
                try:
                    await self._supervisor.start(self._spec("node"))
                    await apply_crds(client)
                    await self._supervisor.start(self._spec("controller"))
                    await _node_ready(client)
                    if self._make_cluster:
                        await self._create_cluster(client)
                    if self._page_listener is not None:
                        # The last one, and not waited for: until it is up, its socket takes calls.
                        await self._supervisor.start(self._spec("page"))
                finally:
                    await client.close()
        except TimeoutError:
            raise CliError(
                f"the local stack is not ready after {START_TIMEOUT_S:.0f} s; see "
                f"{self._directory.path / 'logs'}",
                ExitCode.TIMED_OUT,
            ) from None

    async def _create_cluster(self, client: KubeClient) -> None:
        """Make TaskCluster ``default``; a stack without it is better than none."""
        from taskctl.api.resources import TASKCLUSTERS
        from taskctl.policy.defaultcluster import DEFAULT_CLUSTER, default_cluster

        body = default_cluster(os.cpu_count() or 1, keep_files_s=_KEEP_FILES_S)
        try:
            await client.create(TASKCLUSTERS, body, body["metadata"]["namespace"])
        except AlreadyExists:
            return
        except ApiError as error:
            self._say(f"TaskCluster {DEFAULT_CLUSTER} could not be made: {error}")

    def _spec(self, name: str) -> ComponentSpec:
        argv = [sys.executable, "-m", "taskctl", name, "--data-dir", str(self._directory.path)]
        descriptors: tuple[int, ...] = ()
        if name == "server" and self._listener is not None:
            descriptors = (self._listener.fileno(),)
            argv += ["--listen-fd", str(self._listener.fileno())]
        if name == "page" and self._page_listener is not None:
            descriptors = (self._page_listener.fileno(),)
            argv += ["--listen-fd", str(self._page_listener.fileno())]
        if name == "controller":
            # A token of this server allows everything, so run clusters add no rights.
            argv += ["--run-clusters", "any", *self._history]
        if self._verbose:
            argv += ["--log-level", "debug"]
        death_signal = _DEATH_SIGNALS.get(name, signal.SIGTERM)
        return ComponentSpec(name, tuple(argv), _GRACE_S[name], death_signal, descriptors)

    async def _server_ready(self) -> KubeClient:
        """Wait until the server answers; its kubeconfig may be of an earlier run until then."""
        from taskctl.clientsettings import CLIENT_SETTINGS
        from taskctl.kube.client import KubeClient

        settings = replace(CLIENT_SETTINGS, kubeconfig=self._directory.kubeconfig, timeout_s=10.0)
        while True:
            with contextlib.suppress(ConfigError):
                client = await KubeClient.connect(settings)
                try:
                    await client.request("GET", "/readyz", timeout_s=1.0)
                except ApiError:
                    await client.close()
                else:
                    return client
            await asyncio.sleep(_POLL_S)

    async def _until_asked(self, work: Coroutine[Any, Any, object]) -> None:
        """Run ``work``, unless we are asked to stop or a component fails for good first."""
        task = asyncio.create_task(work)
        asked = asyncio.create_task(self._asked_to_stop.wait(), name="asked to stop")
        failure = self._supervisor.failure
        try:
            any_of: set[asyncio.Future[Any]] = {task, asked, failure}
            await asyncio.wait(any_of, return_when=asyncio.FIRST_COMPLETED)
            if failure.done():
                failure.result()
            if task.done():
                task.result()
        finally:
            for pending in (task, asked):
                pending.cancel()
            await asyncio.gather(task, asked, return_exceptions=True)

    # --- stopping -----------------------------------------------------------------------

    def _on_signal(self, number: signal.Signals) -> None:
        if not self._asked_to_stop.is_set():
            self._asked_to_stop.set()
            self._say("stopping the containers, then the rest (once more kills)")
        elif number is not signal.SIGHUP:
            # A hang-up repeats by itself: the kernel sends one for each thread of a program that
            # it kills, until none is left to be the stack's parent (prctl(2), PR_SET_PDEATHSIG).
            self._say("killed; containers may still run, and the next `taskctl local` adopts them")
            self._supervisor.kill()

    async def _stop_all(self) -> None:
        self._directory.mark_not_ready()
        await self._supervisor.stop(STOP_ORDER)
        self._directory.state.unlink(missing_ok=True)

    # --- telling ------------------------------------------------------------------------

    def _say(self, line: str) -> None:
        moment = SystemClock().now().astimezone().strftime("%H:%M:%S")
        # The terminal may be gone, and a log that we write to may be on a full disk.
        with contextlib.suppress(OSError):
            note(f"{moment} {line}")

    @contextlib.asynccontextmanager
    async def _tails(self) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(_tail(self._directory, name), name=f"tail {name}")
            for name in STOP_ORDER
        ]
        try:
            yield
        finally:
            await asyncio.sleep(_POLL_S * 2)  # for the last lines
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def run_stack(directory: DataDir, settings: StackSettings) -> int:
    """Run the local stack until a signal comes; see :class:`Stack`."""
    return await Stack(directory, settings).run()


async def _node_ready(client: KubeClient) -> None:
    from taskctl.kube.resources import NODES

    while True:
        with contextlib.suppress(NotFound):
            node = await client.get(NODES, NODE_NAME)
            conditions = (node.get("status") or {}).get("conditions")
            if condition_is(conditions, ConditionType.READY, ConditionStatus.TRUE):
                return
        await asyncio.sleep(_POLL_S)


async def _tail(directory: DataDir, name: str) -> None:
    """Print what is added to a component's log from now on."""
    path = directory.log(name)
    offset = path.stat().st_size if path.exists() else 0
    while True:
        if path.exists():
            with path.open("rb") as file:
                file.seek(offset)
                for line in file:
                    if line.endswith(b"\n"):
                        offset += len(line)
                        note(f"{name:<10} {line.decode(errors='replace').rstrip()}")
        await asyncio.sleep(_POLL_S * 2)


def server_url(directory: DataDir) -> str:
    """Return the API server's address, as it wrote it down; empty if it did not."""
    with contextlib.suppress(OSError, json.JSONDecodeError):
        return str(json.loads((directory.path / "server.json").read_text()).get("url", ""))
    return ""


def banner(directory: DataDir, *, background: bool = False) -> str:
    """Return what to print once everything is up: where things are, and what to try."""
    colour = wants_colour()

    def strong(text: str) -> str:
        return paint(text, Style.BOLD, colour=colour)

    program = shlex.quote(own_program())
    access = f"{program} --kubeconfig {shlex.quote(str(directory.kubeconfig))}"
    if directory.path == Path.cwd() / DEFAULT_DATA_DIR and not os.environ.get("KUBECONFIG"):
        access = program  # it looks there
    lines = [
        f"{paint('Ready', Style.GOOD, colour=colour)} at {server_url(directory)}",
        f"  page        {stored_page_url(directory.path)}",
        f"  data        {directory.path}",
        f"  logs        {directory.path / 'logs'}",
        f"  kubeconfig  {directory.kubeconfig}",
        "",
        "In another shell:" if not background else "Now:",
        f"  {strong(f'{access} submit --image busybox --wait -- echo hello')}",
        f"  {strong(f'{access} tree')}",
        f"  {strong(f'{access} ui --open')}",
        f"kubectl works, too: export KUBECONFIG={shlex.quote(str(directory.kubeconfig))}",
        "",
        "Ctrl-C stops it." if not background else f"Stop it with {_stop_command(directory)}.",
    ]
    return "\n".join(lines)


def own_program() -> str:
    """Return how another shell calls this program: by its path, if it is in an environment."""
    beside = Path(sys.executable).with_name("taskctl")
    if sys.prefix != sys.base_prefix and beside.is_file():
        return str(beside)
    return "taskctl"


def _stop_command(directory: DataDir) -> str:
    program = shlex.quote(own_program())
    where = shlex.quote(str(directory.path))
    default = directory.path == Path.cwd() / DEFAULT_DATA_DIR
    return f"{program} local stop" + ("" if default else f" --data-dir {where}")
