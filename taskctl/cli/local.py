"""``taskctl local``: API server, controller and node on this machine, kept running."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from taskctl.cli.datadir import DEFAULT_DATA_DIR, DataDir
from taskctl.cli.exits import CliError, ExitCode
from taskctl.cli.historyoptions import HistoryOptions
from taskctl.cli.images import add_images
from taskctl.cli.lifeline import ENV_SUPERVISOR, attach
from taskctl.cli.output import Output, echo, to_json, to_yaml
from taskctl.cli.pagefile import stored_page_url
from taskctl.cli.parts import require
from taskctl.cli.verbs import command_of, verb

STOP_TIMEOUT_S = 80.0  # the sum of the graces in taskctl.cli.stack, and some
_POLL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class DataDirOption:
    """Which stack."""

    data_dir: Annotated[
        str, typer.Option(metavar="DIR", help="Where the stack keeps everything.")
    ] = DEFAULT_DATA_DIR

    @property
    def directory(self) -> DataDir:
        """The data directory."""
        return DataDir(Path(self.data_dir).resolve())


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalOptions(HistoryOptions, DataDirOption):
    """The options of ``local``."""

    port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            min=1,
            max=65535,
            help="Of the API server, on 127.0.0.1. Default: a free one, kept from then on.",
        ),
    ] = None
    image: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=SOURCE",
            help="What an image is: a directory, an archive, oci:DIR, docker://REFERENCE, "
            "venv:DIR or requirements:FILE; repeat. It is remembered (`taskctl image`). Other "
            "images run the programs of this machine.",
        ),
    ] = None
    cluster: Annotated[
        bool,
        typer.Option(
            "--cluster/--no-cluster",
            help="Make TaskCluster `default`, unless there is one of that name.",
        ),
    ] = True
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Run in the background, once it is ready.")
    ] = False
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the logs of the components.")
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusOptions(DataDirOption):
    """The options of ``local status``."""

    output: Annotated[Output | None, typer.Option("--output", "-o", help="json or yaml.")] = None


def register(app: typer.Typer) -> None:
    """Add the verb and its sub-verbs."""
    group = typer.Typer(
        invoke_without_command=True,
        help="Run everything on this machine. No cluster needed; Ctrl-C stops it.",
    )
    group.callback(invoke_without_command=True)(command_of(local, group=True))
    verb(group, "stop")(stop)
    verb(group, "status")(status)
    app.add_typer(group, name="local")


def local(options: LocalOptions) -> int:
    """Run the API server, the controller and a node on this machine. Ctrl-C stops them."""
    require("local")
    import asyncio

    from taskctl.cli.stack import StackSettings, run_stack

    if options.detach:  # it outlives the program that starts it
        os.environ.pop(ENV_SUPERVISOR, None)
    else:
        attach()
    directory = options.directory
    directory.prepare()
    if options.image:
        add_images(directory, options.image)
    if options.detach:
        return _detach(options)
    with directory.lock():
        settings = StackSettings(
            port=options.port,
            verbose=options.verbose,
            cluster=options.cluster,
            history=tuple(options.words()),
        )
        return asyncio.run(run_stack(directory, settings))


def _detach(options: LocalOptions) -> int:
    import subprocess

    from taskctl.cli.stack import START_TIMEOUT_S, banner

    directory = options.directory
    directory.prepare()
    pid = directory.running_pid()
    if pid is not None:
        raise CliError(f"a local stack already runs on {directory.path} (pid {pid})")
    directory.mark_not_ready()
    command = [sys.executable, "-m", "taskctl", "local", "--data-dir", str(directory.path)]
    command += ["--port", str(options.port)] if options.port else []
    command += [] if options.cluster else ["--no-cluster"]
    command += options.words()
    with directory.log("local").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    done = _poll(
        lambda: directory.ready.exists() or process.poll() is not None, START_TIMEOUT_S + 5
    )
    if process.poll() is not None:
        raise CliError("\n  ".join(["it did not start:", *directory.log_tail("local", 8)]))
    if not done:
        process.terminate()
        raise CliError(
            f"it is not ready after {START_TIMEOUT_S:.0f} s; see {directory.log('local')}",
            ExitCode.TIMED_OUT,
        )
    echo(banner(directory, background=True))
    return ExitCode.OK


def stop(options: DataDirOption) -> int:
    """Stop the local stack and all its containers."""
    import signal

    directory = options.directory
    pid = directory.running_pid()
    if not pid:
        echo(f"No local stack runs on {directory.path}.")
        return ExitCode.OK
    os.kill(pid, signal.SIGTERM)
    if not _poll(lambda: directory.running_pid() is None, STOP_TIMEOUT_S):
        raise CliError(
            f"the stack (pid {pid}) has not ended after {STOP_TIMEOUT_S:.0f} s; "
            f"see {directory.path / 'logs'}",
            ExitCode.TIMED_OUT,
        )
    echo("Stopped.")
    return ExitCode.OK


def _poll(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Wait for ``condition``; False when the time is up."""
    import time

    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(_POLL_S)
    return True


def status(options: StatusOptions) -> int:
    """Say whether the local stack runs; exit code 1 if it does not."""
    directory = options.directory
    pid = directory.running_pid()
    ready = pid is not None and directory.ready.exists()
    components = directory.read_state().get("components", {}) if pid else {}
    value = {
        "dataDir": str(directory.path),
        "running": pid is not None,
        "ready": ready,
        "pid": pid,
        "kubeconfig": str(directory.kubeconfig),
        "page": stored_page_url(directory.path) if pid else "",
        "components": components,
    }
    if options.output in (Output.JSON, Output.YAML):
        echo(to_json(value) if options.output is Output.JSON else to_yaml(value))
    elif pid is None:
        echo(f"No local stack runs on {directory.path}.")
    else:
        echo(f"{'ready' if ready else 'starting'} (pid {pid}) on {directory.path}")
        for name, child in components.items():
            echo(f"  {name:<10} pid {child}")
        echo(f"  kubeconfig {directory.kubeconfig}")
        if value["page"]:
            echo(f"  page       {value['page']}")
    return ExitCode.OK if pid is not None else ExitCode.FAILED
