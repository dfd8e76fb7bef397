"""Containers in an image: its files, variables, command and user, and nothing of the host."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from taskctl.embedded.images import adding
from taskctl.embedded.images.names import parse_assignment
from taskctl.embedded.images.store import ImageStore
from taskctl.init import shim_binary_path
from tests import image_builder as build
from tests.embedded.images_common import BUSYBOX, base_layer, serve
from tests.embedded.node_world import NodeWorld, container_status, node_world
from tests.image_builder import Image, Item

pytestmark = pytest.mark.skipif(BUSYBOX is None, reason="needs a static busybox")
needs_skopeo = pytest.mark.skipif(shutil.which("skopeo") is None, reason="needs skopeo")


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sync", lambda: None)


@pytest.fixture
async def world() -> AsyncIterator[NodeWorld]:
    async with node_world() as world:
        yield world


def add(world: NodeWorld, name: str, image: Image, tmp_path: Path) -> None:
    path = build.write_oci_archive(tmp_path / "image.tar", image)
    put(world, f"{name}={path}")


def put(world: NodeWorld, text: str) -> None:
    store = ImageStore(world.options.paths.images)
    adding.add(store, *parse_assignment(text))


async def output(world: NodeWorld, *command: str, **spec: Any) -> str:
    await world.pod("p", *command, restartPolicy="Never", **spec)
    await world.phase("p", "Succeeded")
    return await world.logs("p")


CONFIG = {
    "Env": ["GREETING=hello", "PATH=/bin:/opt", "HOME=/data"],
    "Entrypoint": ["/bin/sh", "-c"],
    "Cmd": ["echo $GREETING from $PWD; id -u"],
    "WorkingDir": "/data/below",
}


async def test_what_the_image_says_holds(world: NodeWorld, tmp_path: Path) -> None:
    add(world, "img", Image([base_layer()], {**CONFIG, "User": "app"}), tmp_path)
    text = await output(world, main={"command": None})
    assert text == "hello from /data/below\n1000\n"
    status = (await world.get("pods", "p"))["status"]
    assert container_status(status, "main")["imageID"].startswith("sha256:")
    events = await world.until(lambda: world.events("ImageUnpacked"), bool, "an event")
    assert 'image "img:1" is unpacked' in events[0]["message"]
    assert await world.events("ImageNotUnpacked") == []


async def test_what_the_container_says_goes_first(world: NodeWorld, tmp_path: Path) -> None:
    add(world, "img", Image([base_layer()], {**CONFIG, "User": "app"}), tmp_path)
    main = {
        "command": None,
        "args": ["echo $GREETING $(GREETING) $OWN in $PWD; id -u; id -g"],
        "workingDir": "/bin",
        "env": [{"name": "GREETING", "value": "bye"}, {"name": "OWN", "value": "$(PATH)"}],
        "securityContext": {"runAsUser": 4321, "runAsGroup": 8765},
    }
    text = await output(world, main=main)
    # As on a cluster, $(PATH) stays as it is: the kubelet does not know the image's variables.
    assert text == "bye bye $(PATH) in /bin\n4321\n8765\n"


async def test_nothing_of_the_host_is_there(world: NodeWorld, tmp_path: Path) -> None:
    add(world, "img", Image([base_layer()], CONFIG), tmp_path)
    script = (
        "echo $(ls /); echo $(ls /dev);"
        f" ls {world.data_dir} {Path.home()} /usr /.old-root 2>&1 | grep -c 'No such';"
        " cat /proc/1/root/etc/os-release 2>&1 | grep -c 'No such';"
        " grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status"
    )
    lines = (await output(world, "/bin/sh", "-c", script)).splitlines()
    assert lines[0].split() == [
        "bin",
        "data",
        "dev",
        "etc",
        "opt",
        "proc",
        "set-id",
        "sys",
        "tmp",
        "var",
    ]
    assert set(lines[1].split()) >= {"null", "shm", "tty", "urandom", "zero"}
    assert not {"kvm", "fuse", "vda", "mem"} & set(lines[1].split())
    assert lines[2:] == ["4", "1", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"]


async def test_the_root_is_the_container_s_own(world: NodeWorld, tmp_path: Path) -> None:
    add(world, "img", Image([base_layer()], CONFIG), tmp_path)
    script = (
        "[ -e /tmp/mine ] || echo absent; echo x >/tmp/mine && echo x >/data/mine &&"
        " rm /opt/file && ls /tmp"
    )
    for name in ("a", "b"):
        await world.pod(name, "/bin/sh", "-c", script, restartPolicy="Never")
        await world.phase(name, "Succeeded")
        assert (await world.logs(name)).splitlines() == ["absent", "mine"]
    tree = ImageStore(world.options.paths.images).names()["docker.io/library/img"].tree
    root = ImageStore(world.options.paths.images).tree_path(tree)
    assert (root / "opt" / "file").exists()
    assert not (root / "data" / "mine").exists()


async def test_a_read_only_root(world: NodeWorld, tmp_path: Path) -> None:
    add(world, "img", Image([base_layer()], CONFIG), tmp_path)
    main = {
        "securityContext": {"readOnlyRootFilesystem": True},
        "volumeMounts": [{"name": "ws", "mountPath": "/made/here"}],
    }
    script = "! touch /data/x && ! touch /x && touch /made/here/x && echo so it is"
    volumes = [{"name": "ws", "emptyDir": {}}]
    text = await output(world, "/bin/sh", "-c", script, main=main, volumes=volumes)
    assert "so it is" in text.splitlines()


async def test_an_image_of_nothing_but_a_program(world: NodeWorld, tmp_path: Path) -> None:
    assert BUSYBOX is not None
    only = build.layer([Item("sh", BUSYBOX.read_bytes(), mode=0o755)])
    add(world, "img", Image([only], {"Entrypoint": ["/sh"]}), tmp_path)
    main = {
        "command": None,
        "args": ["-c", "echo $0 $HOME >/dev/stderr; echo told >/dev/termination-log"],
        "securityContext": {"runAsUser": 77},
    }
    assert await output(world, main=main) == "/sh /\n"
    status = (await world.get("pods", "p"))["status"]
    ended = container_status(status, "main")["state"]["terminated"]
    assert ended["message"] == "told\n"


async def test_a_hostile_image_reaches_nothing(world: NodeWorld, tmp_path: Path) -> None:
    """Its links lead where mount points and working directories are looked up."""
    outside = tmp_path / "outside"
    outside.mkdir()
    links = [
        build.link("workspace", str(outside)),
        build.link("escape", "/.old-root" + str(outside)),
        build.link("up", "../../../../../.." + str(outside)),
        build.link("made-up", "/proc/self/fd/3"),
    ]
    image = Image([base_layer(), build.layer(links)], CONFIG)
    add(world, "img", image, tmp_path)
    volumes = [{"name": "ws", "emptyDir": {}}]
    for number, path in enumerate(("/workspace/a", "/escape/b", "/up/c", "/made-up/d")):
        mount = {"volumeMounts": [{"name": "ws", "mountPath": path}]}
        spec = {"restartPolicy": "Never", "volumes": volumes}
        await world.pod(f"p{number}", "/bin/sh", "-c", "ls /", main=mount, **spec)
        await world.state(f"p{number}", "main", "terminated")
    main = {"workingDir": "/proc/self/fd/3"}
    await world.pod("cwd", "/bin/sh", "-c", "ls", main=main, restartPolicy="Never")
    ended = await world.state("cwd", "main", "terminated")
    assert ended["state"]["terminated"]["reason"] == "StartError"
    assert list(outside.iterdir()) == []


async def test_an_image_that_names_nothing_runs_the_host_s_programs(world: NodeWorld) -> None:
    assert await output(world, "sh", "-c", "[ -e /etc/passwd ] && echo here") == "here\n"
    events = await world.until(lambda: world.events("ImageNotUnpacked"), bool, "an event")
    assert "no image of this name was added" in events[0]["message"]
    status = (await world.get("pods", "p"))["status"]
    assert container_status(status, "main")["imageID"] == ""


async def test_a_command_is_needed_without_an_image(world: NodeWorld) -> None:
    await world.pod("p", main={"command": None})
    waiting = await world.state("p", "main", "waiting")
    waiting = await world.until(
        lambda: world.state("p", "main", "waiting"),
        lambda s: "taskctl image add" in s["state"]["waiting"].get("message", ""),
        "explained",
    )
    assert waiting["state"]["waiting"]["reason"] == "CreateContainerError"


async def test_a_user_that_is_not_in_the_image(world: NodeWorld, tmp_path: Path) -> None:
    add(world, "img", Image([base_layer()], {**CONFIG, "User": "nosuch"}), tmp_path)
    await world.pod("p", "/bin/true")
    waiting = await world.until(
        lambda: world.state("p", "main", "waiting"),
        lambda s: s["state"]["waiting"]["reason"] == "CreateContainerConfigError",
        "refused",
    )
    assert "unable to find user nosuch" in waiting["state"]["waiting"]["message"]


async def test_images_are_added_and_removed_while_the_node_runs(
    world: NodeWorld, tmp_path: Path
) -> None:
    assert await output(world, "sh", "-c", "[ -e /opt/file ] || echo host") == "host\n"
    add(world, "img", Image([base_layer()], CONFIG), tmp_path)
    await world.pod("q", "/bin/sh", "-c", "cat /opt/file; sleep 60")
    await world.until(lambda: world.logs("q"), lambda text: "content" in text, "in the image")
    store = ImageStore(world.options.paths.images)
    assert store.forget("img")
    await world.drop_node()
    world.start_node()  # sweeps; the container that runs keeps its files
    await world.ready("q")
    await world.add("q", "later", "sh", "-c", "[ -e /opt/file ] || echo host")
    await world.until(lambda: world.logs("q", "later"), lambda text: text == "host\n", "host's")
    assert len(list((store.directory / "trees").iterdir())) == 1
    await world.delete("pods", "q", grace_s=0)
    await world.gone("pods", "q")
    await world.stop_node()
    world.start_node()
    await world.until(
        lambda: _listing(store.directory / "trees"), lambda left: left == [], "swept away"
    )


async def _listing(path: Path) -> list[str]:
    return sorted(os.listdir(path))


async def test_a_python_environment_as_an_image(world: NodeWorld, tmp_path: Path) -> None:
    programs = tmp_path / "env" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to("/bin/sh")
    (programs / "greet").write_text("#!/bin/sh\necho hi from $VIRTUAL_ENV\n")
    (programs / "greet").chmod(0o755)
    put(world, f"img=venv:{tmp_path / 'env'}")
    assert await output(world, "greet") == f"hi from {tmp_path / 'env'}\n"
    events = await world.until(lambda: world.events("ImageNotUnpacked"), bool, "an event")
    assert "go first" in events[0]["message"]


@needs_skopeo
async def test_pull_policies(world: NodeWorld, tmp_path: Path) -> None:
    first = Image([base_layer()], {**CONFIG, "Cmd": ["echo one"]}, name="1")
    second = Image([base_layer()], {**CONFIG, "Cmd": ["echo two"]}, name="1")
    async with serve() as served:
        put(world, f"{served.host}/*=docker://")

        async def run(name: str, policy: str) -> str:
            main = {"image": f"{served.host}/team/app:1", "imagePullPolicy": policy}
            spec: dict[str, Any] = {"restartPolicy": "Never"}
            await world.pod(name, main={**main, "command": None}, **spec)
            status = await world.until(
                lambda: _status(world, name),
                lambda s: (
                    "terminated" in s.get("state", {})
                    or s.get("state", {})
                    .get("waiting", {})
                    .get("reason", "")
                    .startswith("ErrImage")
                ),
                "over",
            )
            waiting = status["state"].get("waiting")
            if waiting:
                await world.delete("pods", name, grace_s=0)
                return str(waiting["reason"])
            return (await world.logs(name)).strip()

        assert await run("never", "Never") == "ErrImageNeverPull"
        assert await run("none", "IfNotPresent") == "ErrImagePull"
        served.put("team/app", first)
        assert await run("a", "IfNotPresent") == "one"
        assert await run("b", "Never") == "one"
        served.put("team/app", second)
        assert await run("c", "IfNotPresent") == "one"
        assert await run("d", "Always") == "two"
        downloads = served.layers_sent
        assert await run("e", "Always") == "two"
        assert served.layers_sent == downloads
    assert await run("f", "IfNotPresent") == "two"
    assert await run("g", "Always") == "ErrImagePull"


async def _status(world: NodeWorld, pod: str) -> dict[str, Any]:
    return container_status((await world.get("pods", pod))["status"], "main")


@needs_skopeo
async def test_pull_secrets(world: NodeWorld) -> None:
    image = Image([base_layer()], {**CONFIG, "Cmd": ["echo let in"]}, name="1")
    async with serve(password="s3cret") as served:
        served.put("app", image)
        put(world, f"{served.host}/app=docker://")
        main = {"image": f"{served.host}/app:1", "command": None}
        await world.pod("no", main=main, restartPolicy="Never")
        waiting = await world.until(
            lambda: _status(world, "no"),
            lambda s: s.get("state", {}).get("waiting", {}).get("reason") == "ErrImagePull",
            "refused",
        )
        assert served.host in waiting["state"]["waiting"]["message"]
        await world.create(
            "secrets", "door", type="kubernetes.io/dockerconfigjson", data=served.pull_secret()
        )
        spec: dict[str, Any] = {"imagePullSecrets": [{"name": "door"}]}
        await world.pod("yes", main=main, restartPolicy="Never", **spec)
        await world.phase("yes", "Succeeded")
        assert await world.logs("yes") == "let in\n"


async def test_exec_runs_in_the_image(world: NodeWorld, tmp_path: Path) -> None:
    """By the shim itself, as the node's exec does."""
    add(world, "img", Image([base_layer()], {**CONFIG, "User": "app"}), tmp_path)
    pod = await world.pod("p", "/bin/sh", "-c", "sleep 60")
    await world.ready("p")
    directory = world.options.paths.instance(pod["metadata"]["uid"], "main", 0)
    process = await asyncio.create_subprocess_exec(
        str(shim_binary_path()), "--enter", str(directory), "2", "pipes",
        "/bin/sh", "-c", "id -u; cat /opt/file; pwd; grep CapEff /proc/self/status",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert out.decode().split("\n")[:3] == ["1000", "content", "/data/below"]
    assert b"CapEff:\t0000000000000000" in out


async def test_the_run_s_files_are_removed_at_its_end(world: NodeWorld, tmp_path: Path) -> None:
    add(world, "img", Image([base_layer()], CONFIG), tmp_path)
    pod = await world.pod(
        "p", "/bin/sh", "-c", "rm -r /opt; echo x >/data/x", restartPolicy="Never"
    )
    await world.phase("p", "Succeeded")
    directory = world.options.paths.instance(pod["metadata"]["uid"], "main", 0)
    await world.until(
        lambda: _listing(directory),
        lambda names: not {"upper", "work", "root"} & set(names),
        "removed",
    )
    await world.delete("pods", "p", grace_s=0)
    await world.gone("pods", "p")
    assert stat.S_ISDIR(world.options.paths.images.stat().st_mode)
