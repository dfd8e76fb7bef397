from __future__ import annotations

import asyncio
import os
from pathlib import Path, PurePosixPath

import pytest

from taskctl.embedded.node import records, removal
from taskctl.embedded.node.instance import Instance
from taskctl.embedded.node.isolation import candidates, describe, find_isolation
from taskctl.embedded.node.model import PodRef, RunState
from taskctl.embedded.node.mounts import Bind
from taskctl.embedded.node.shimspec import Isolation, ShimSpec
from taskctl.embedded.node.slot import ContainerSlot
from taskctl.embedded.node.volumes import VolumeError, host_path
from taskctl.init import shim_binary_path
from tests.unit.embedded_node.builders import NOW, later

REF = PodRef("ns", "p", "u")


def spec(*command: str) -> bytes:
    return ShimSpec(command, {"PATH": os.environ["PATH"]}, "", Isolation.NONE).encode()


def test_exit_record(tmp_path: Path) -> None:
    assert records.read_exit(tmp_path) is None
    text = "code 137\nsignal 9\nstart_error 0\noom 1\nstarted_ns 1000000000\nmessage a b c\nnew x\n"
    (tmp_path / "exit").write_text(text)
    found = records.read_exit(tmp_path)
    assert found is not None
    assert (found.code, found.signal, found.oom, found.message) == (137, 9, True, "a b c")
    assert found.started_at is not None
    assert found.started_at.timestamp() == 1
    assert found.finished_at is None


def test_trees_without_permission_are_removed(tmp_path: Path) -> None:
    locked = tmp_path / "t" / "locked"
    locked.mkdir(parents=True)
    (locked / "f").touch()
    locked.chmod(0)
    removal.remove_tree(tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_host_paths_are_checked_against_their_type(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    assert host_path({"path": str(tmp_path / "f"), "type": "File"}).path == tmp_path / "f"
    made = tmp_path / "d" / "e"
    assert host_path({"path": str(made), "type": "DirectoryOrCreate"}).path.is_dir()
    with pytest.raises(VolumeError, match="does not exist"):
        host_path({"path": str(tmp_path / "none")})
    with pytest.raises(VolumeError, match="is not a Socket"):
        host_path({"path": str(tmp_path / "f"), "type": "Socket"})
    with pytest.raises(VolumeError, match="absolute"):
        host_path({"path": "relative"})
    with pytest.raises(VolumeError, match="unknown"):
        host_path({"path": "/", "type": "Sock"})


def test_only_root_tries_without_a_user_namespace() -> None:
    assert next(iter(candidates(is_root=True))) is Isolation.FULL
    assert all("u" in kind.value or kind is Isolation.NONE for kind in candidates(is_root=False))


def test_lesser_isolation_is_explained() -> None:
    assert describe(Isolation.FULL, "") == ""
    assert describe(Isolation.USER, "why") == ""
    assert "mount namespaces (why)" in describe(Isolation.NONE, "why")
    assert "PID namespaces" in describe(Isolation.USER_MOUNT, "why")
    assert "/proc" in describe(Isolation.USER_HOST_PROC, "why")


async def test_isolation_is_found_and_leaves_nothing(tmp_path: Path) -> None:
    finding = await find_isolation(shim_binary_path(), tmp_path)
    assert isinstance(finding.isolation, Isolation)
    assert list(tmp_path.iterdir()) == []


async def test_instance_reports_start_and_exit(tmp_path: Path) -> None:
    changed = asyncio.Event()
    instance = Instance(tmp_path / "0", shim_binary_path(), changed.set)
    instance.launch(spec("sh", "-c", "exit 5"))
    states = [instance.state]
    while states[-1] is not RunState.EXITED:
        await asyncio.wait_for(changed.wait(), 10)
        changed.clear()
        states.append(instance.state)
    assert states[0] is RunState.STARTING
    assert instance.exit is not None
    assert instance.exit.code == 5
    assert instance.started_at == instance.exit.started_at


async def test_second_instance_on_a_directory_watches_the_first(tmp_path: Path) -> None:
    changed = asyncio.Event()
    first = Instance(tmp_path / "0", shim_binary_path(), lambda: None)
    first.launch(spec("sleep", "1000"))
    while not (tmp_path / "0" / "started").exists():
        await asyncio.sleep(0.005)
    second = Instance(tmp_path / "0", shim_binary_path(), changed.set)
    second.launch(spec("sh", "-c", "exit 5"))
    await asyncio.wait_for(changed.wait(), 10)
    changed.clear()
    assert second.state is RunState.RUNNING
    second.kill()
    await asyncio.wait_for(changed.wait(), 10)
    assert second.exit is not None
    assert second.exit.code == 137
    while first.state is not RunState.EXITED:
        await asyncio.sleep(0.005)


async def test_slot_counts_restarts_and_backs_off(tmp_path: Path) -> None:
    slot = ContainerSlot(
        REF, "c", directory=tmp_path / "c", shim=shim_binary_path(), on_change=lambda: None
    )
    delays = []
    for run in range(3):
        slot.launch(spec("sh", "-c", f"exit {run}"))
        while slot.is_live:
            await asyncio.sleep(0.005)
        assert slot.settle(NOW) is slot.instance
        assert slot.settle(NOW) is None
        delays.append(slot.view().not_before)
        await slot.forget_old_runs()
    assert delays == [None, later(10), later(20)]
    view = slot.view()
    assert view.restarts == 2
    assert view.container_id == "process://u/c/2"
    assert view.terminated is not None
    assert view.terminated.exit_code == 2
    assert view.last is not None
    assert view.last.exit_code == 1
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["1", "2"]
    again = ContainerSlot(
        REF, "c", directory=tmp_path / "c", shim=shim_binary_path(), on_change=lambda: None
    )
    again.adopt()
    assert again.view() == view.__class__(
        view.state, 2, view.container_id, view.started_at, view.terminated, view.last
    )
    assert again.log_directory(previous=True) == tmp_path / "c" / "1"


def test_the_port_that_a_client_of_the_server_was_told(tmp_path: Path) -> None:
    account = PurePosixPath("/var/run/secrets/kubernetes.io/serviceaccount")
    token = (Bind(tmp_path, account, read_only=True),)
    env = {"A": "KUBERNETES_SERVICE_PORT=1", "KUBERNETES_SERVICE_PORT": "6443"}
    args = ["env", "KUBERNETES_SERVICE_PORT=2"]

    def told(spec: ShimSpec) -> str | None:
        (tmp_path / records.SPEC_FILE).write_bytes(spec.encode())
        return records.server_port(tmp_path)

    assert records.server_port(tmp_path) is None
    assert told(ShimSpec(args, env, "", Isolation.FULL, token)) == "6443"
    assert told(ShimSpec(args, env, "", Isolation.FULL)) is None
    assert told(ShimSpec(args, {}, "", Isolation.FULL, token)) is None
