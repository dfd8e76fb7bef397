"""Images without a registry: what is built when, and what is in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from scripts import build_hook
from tests.realnode import image_build
from tests.realnode.image_build import KEPT, Store
from tests.realnode.image_recipes import ROOT, Recipe, Source
from tests.realnode.image_taskctl import unmet_requirements
from tests.realnode.images import Config, ImageError, Layer, copy_tree, pack

needs_umoci = pytest.mark.skipif(
    shutil.which("umoci") is None or shutil.which("skopeo") is None,
    reason="umoci and skopeo are not installed",
)


class Project:
    """A project with two images, one on top of the other, that are only pretended to be built."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.made: list[str] = []
        self.during: Callable[[], object] = lambda: None
        for name in ("below", "above"):
            (root / name).mkdir(parents=True)
            (root / name / "file").write_text(name)
        self.known = {
            "below": Recipe("localhost/below:1", ("below",), self._make("below")),
            "above": Recipe("localhost/above:1", ("above",), self._make("above"), base="below"),
        }

    def _make(self, name: str) -> Callable[[Source], list[Layer]]:
        def make(source: Source) -> list[Layer]:
            self.made.append(name)
            self.during()
            assert (source.base is None) == (name == "below")
            return [Layer(source.tree / name)]

        return make

    def store(self) -> Store:
        return Store(self.root / "cache", self.known, self.root)


def pretend_to_pack(
    archive: Path,
    name: str,
    layers: Sequence[Layer],
    config: Config | None = None,
    *,
    base: Path | None = None,
) -> None:
    del name, config
    below = base.read_text() if base is not None else ""
    archive.write_text(below + layers[0].tree.joinpath("file").read_text())


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr(image_build, "pack", pretend_to_pack)
    return Project(tmp_path)


def test_builds_once(project: Project) -> None:
    archive = project.store().archive("above")
    assert archive.read_text() == "belowabove"
    assert project.store().archive("above") == archive
    assert project.made == ["below", "above"]


@pytest.mark.parametrize(
    ("change", "made"),
    [
        (lambda root: (root / "above" / "file").write_text("new"), ["above"]),
        (lambda root: (root / "above" / "file").chmod(0o755), ["above"]),
        (lambda root: (root / "above" / "more").touch(), ["above"]),
        (lambda root: (root / "above" / "link").symlink_to("file"), ["above"]),
        (lambda root: (root / "below" / "file").write_text("new"), ["below", "above"]),
        (lambda root: (root / "above" / "file").touch(), []),
        (lambda root: (root / "above" / "__pycache__").mkdir(), []),
    ],
)
def test_builds_what_changed(
    project: Project, change: Callable[[Path], object], made: list[str]
) -> None:
    project.store().archive("above")
    project.made.clear()
    change(project.root)
    project.store().archive("above")
    assert project.made == made


def test_the_recipe_counts_too(project: Project) -> None:
    first = project.store().archive("below")
    make = project.known["below"].make
    for changed in (
        Recipe("localhost/below:2", ("below",), make),
        Recipe("localhost/below:1", ("below",), make, Config(user="1:1")),
        Recipe("localhost/below:1", ("below",), make, values="new"),
    ):
        project.known["below"] = changed
        assert project.store().archive("below") != first


def test_two_at_once_build_once(project: Project) -> None:
    started = threading.Event()

    def during() -> None:
        started.set()
        second.join(0.2)  # it has to wait for the lock

    project.during = during
    found: list[Path] = []

    def wait_and_ask() -> None:
        started.wait(10)
        found.append(project.store().archive("above"))

    second = threading.Thread(target=wait_and_ask)
    second.start()
    found.append(project.store().archive("above"))
    second.join(10)
    assert found[0] == found[1]
    assert project.made == ["below", "above"]


def test_edits_during_a_build_count_for_the_next(project: Project) -> None:
    project.during = lambda: (project.root / "above" / "file").write_text("edited")
    assert project.store().archive("above").read_text() == "belowabove"
    assert project.store().archive("above").read_text() == "belowedited"


def test_a_failed_build_leaves_nothing(project: Project) -> None:
    def fail() -> None:
        raise ImageError("no")

    project.during = fail
    with pytest.raises(ImageError):
        project.store().archive("below")
    assert [path.name for path in (project.root / "cache").iterdir()] == ["lock"]
    project.during = lambda: None
    assert project.store().archive("below").exists()


def test_clears_up_after_a_killed_build(project: Project) -> None:
    left = project.root / "cache" / "work-killed"
    left.mkdir(parents=True)
    project.store().archive("below")
    assert not left.exists()


def test_keeps_the_last_few(project: Project) -> None:
    cache = project.root / "cache"
    other = cache / "below-not-0123456789abcdef.tar"
    cache.mkdir()
    other.touch()
    os.utime(other, (0, 0))
    archives = []
    for number in range(KEPT + 3):
        (project.root / "below" / "file").write_text(str(number))
        archives.append(project.store().archive("below"))
        os.utime(archives[-1], (number, number))
        archives[-1].with_suffix(".root").mkdir()
    kept = [path for path in archives if path.exists()]
    assert kept == archives[-KEPT - 1 :]
    assert [path for path in archives if path.with_suffix(".root").exists()] == kept
    assert other.exists()


def test_copies_are_readable_by_all(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "folder" / "__pycache__").mkdir(parents=True)
    (source / "folder" / "program").write_text("x")
    (source / "folder" / "program").chmod(0o700)
    (source / "file").write_text("x")
    (source / "file").chmod(0o600)
    (source / "link").symlink_to("file")
    (source / "folder").chmod(0o700)
    copy_tree(source, tmp_path / "copy")
    found = {
        path.relative_to(tmp_path / "copy").as_posix(): path.lstat().st_mode & 0o777
        for path in (tmp_path / "copy").rglob("*")
        if not path.is_symlink()
    }
    assert found == {"folder": 0o755, "folder/program": 0o755, "file": 0o644}
    assert (tmp_path / "copy" / "link").readlink() == Path("file")


def inspect(archive: Path, *options: str) -> dict[str, Any]:
    command = ["skopeo", "inspect", *options, f"oci-archive:{archive}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@needs_umoci
def test_packs_layers_on_a_base(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "etc").mkdir(parents=True)
        (tmp_path / name / "etc" / name).write_text(name)
    below, above = tmp_path / "below.tar", tmp_path / "above.tar"
    pack(
        below,
        "localhost/below:1",
        [Layer(tmp_path / "one")],
        Config(user="1:2", command=["sh"], env={"PATH": "/bin", "X": "1"}),
    )
    pack(
        above,
        "localhost/above:1",
        [Layer(tmp_path / "two" / "etc" / "two", "/opt/two")],
        Config(entrypoint=["run"], env={"X": "2"}, labels={"a.b": "c d"}),
        base=below,
    )
    first, second = inspect(below), inspect(above)
    assert second["Layers"][:1] == first["Layers"]
    assert len(second["Layers"]) == 2
    config = inspect(above, "--config")["config"]
    assert config["User"] == "1:2"
    assert config["Entrypoint"] == ["run"]
    assert "Cmd" not in config or config["Cmd"] is None
    assert sorted(config["Env"]) == ["PATH=/bin", "X=2"]
    assert config["Labels"] == {"a.b": "c d"}
    assert inspect(below, "--config")["config"]["Cmd"] == ["sh"]
    assert list(layer_files(above, second["Layers"][1])) == ["opt/two"]


def layer_files(archive: Path, digest: str) -> Mapping[str, int]:
    """Path and mode of the files of one layer."""
    with tarfile.open(archive) as image:
        blob = image.extractfile(f"blobs/{digest.replace(':', '/')}")
        assert blob is not None
        with tarfile.open(fileobj=blob, mode="r:gz") as layer:
            return {member.name.lstrip("./"): member.mode for member in layer if not member.isdir()}


@needs_umoci
def test_packs_again_over_an_old_archive(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "file").touch()
    archive = tmp_path / "image.tar"
    for number in (1, 2):
        pack(archive, f"localhost/image:{number}", [Layer(tmp_path / "root")])
    with tarfile.open(archive) as image:
        index = image.extractfile("index.json")
        assert index is not None
        [manifest] = json.load(index)["manifests"]
    assert manifest["annotations"]["org.opencontainers.image.ref.name"] == "localhost/image:2"


@needs_umoci
def test_says_what_failed(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="absent"):
        pack(tmp_path / "image.tar", "localhost/image:1", [], base=tmp_path / "absent.tar")


def write_package(target: Path, name: str, version: str, *requires: str) -> None:
    info = target / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = [f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", *lines, ""]))


def test_notices_packages_chosen_for_another_python(tmp_path: Path) -> None:
    write_package(tmp_path, "one", "1.0", "two_x>=2", 'three; python_version < "3.12"')
    write_package(tmp_path, "Two.X", "2.1", 'four; python_version >= "3.12"', 'six; extra == "a"')
    assert list(unmet_requirements(tmp_path)) == ['one needs three; python_version < "3.12"']
    write_package(tmp_path, "three", "0.1", "Two-X<2")
    assert list(unmet_requirements(tmp_path)) == ["three needs Two-X<2"]


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = ROOT / "tests" / "realnode" / "scratch" / "probe.c"
    binary = tmp_path_factory.mktemp("probe") / "probe"
    return build_hook.compile_one(source, binary, build_hook.machine())


@pytest.mark.parametrize(
    ("steps", "code", "out"),
    [
        ((), 0, ""),
        (("exit", "7"), 7, ""),
        (("env", "X", "exit", "3"), 3, "X=1\n"),
        (("read", "-"), 0, "input"),
        (("write", "made", "text", "read", "made", "list", "."), 0, "textmade\n"),
        (("sleep", "1", "env", "X"), 0, "X=1\n"),
        (("env", "ABSENT", "exit", "0"), 74, ""),
        (("read", "absent"), 74, ""),
        (("exit", "many"), 64, ""),
        (("exit",), 64, ""),
        (("dance", "now"), 64, ""),
    ],
)
def test_probe(probe: Path, tmp_path: Path, steps: tuple[str, ...], code: int, out: str) -> None:
    done = subprocess.run(
        [str(probe), *steps],
        input="input",
        env={"X": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )
    assert (done.returncode, done.stdout) == (code, out), done.stderr
    assert bool(done.stderr) == (code in (64, 74))
