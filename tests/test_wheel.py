"""The wheel, as `pip install taskctl` gets it."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.tags import Tag, sys_tags
from packaging.utils import parse_wheel_filename
from packaging.version import Version

from scripts.build_hook import machine

# The programs are compiled where those of the working copy are not up to date.
pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
INFO = f"taskctl-{PROJECT['version']}.dist-info"
SHARED = f"taskctl-{PROJECT['version']}.data/data/share"
PROGRAMS = {path.stem for path in (ROOT / "taskctl" / "init").glob("*.c")}
# What builds, tests and editors leave behind. None of it is in a wheel.
LEFTOVERS = (
    "taskctl/init/bin/.taskctl-init-x1y2",
    "taskctl/init/bin/program-of-an-older-version",
    "taskctl/__pycache__/old.cpython-311.pyc",
    "taskctl/sdk/__pycache__/old.cpython-311.pyc",
    "tests/test_something.py",
    ".taskctl/token",
)
# The field e_machine of an ELF header.
ELF_MACHINE = {"x86_64": 62, "aarch64": 183}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel of a copy of this working copy, with leftovers in it."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy2(ROOT / name, source / name)
    for name in ("taskctl", "scripts"):
        shutil.copytree(
            ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", ".*")
        )
    for name in LEFTOVERS:
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("left behind\n")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    # With a proxy that leads nowhere, a build that downloads something fails.
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    done = subprocess.run(
        command,
        cwd=source,
        env=os.environ | nowhere,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = target.iterdir()
    return path


@pytest.fixture
def archive(wheel: Path) -> Iterator[ZipFile]:
    with ZipFile(wheel) as opened:
        yield opened


@pytest.fixture
def metadata(archive: ZipFile) -> Message:
    return message_from_bytes(archive.read(f"{INFO}/METADATA"))


def test_name_says_version_and_platform(wheel: Path, archive: ZipFile) -> None:
    name, version, _, tags = parse_wheel_filename(wheel.name)
    assert (name, version) == ("taskctl", Version(PROJECT["version"]))
    described = message_from_bytes(archive.read(f"{INFO}/WHEEL"))
    assert described["Root-Is-Purelib"] == "false"
    assert {str(tag) for tag in tags} == set(described.get_all("Tag", []))
    assert tags & set(sys_tags()), "pip installs it on this machine"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the tag is that of the machine")
def test_any_libc_and_any_python_of_the_architecture_will_do(wheel: Path) -> None:
    _, _, _, tags = parse_wheel_filename(wheel.name)
    platforms = (f"manylinux2014_{machine()}", f"musllinux_1_1_{machine()}")
    assert tags == {Tag("py3", "none", platform) for platform in platforms}


def test_programs_are_in_it_and_executable(archive: ZipFile) -> None:
    assert "taskctl-init" in PROGRAMS
    for program in sorted(PROGRAMS):
        entry = archive.getinfo(f"taskctl/init/bin/{program}")
        mode = entry.external_attr >> 16
        assert stat.S_ISREG(mode), program
        assert stat.S_IMODE(mode) & 0o555 == 0o555, program
        content = archive.read(entry)
        assert content.startswith(b"\x7fELF"), program
        assert int.from_bytes(content[18:20], "little") == ELF_MACHINE[machine()], program


def test_modules_and_data_are_those_of_the_package(archive: ZipFile) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "taskctl"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if tracked.returncode != 0:
        pytest.skip("this is not a git working copy, so what belongs to it is not known")
    wanted = {name for name in tracked.stdout.split("\0") if name and (ROOT / name).exists()}
    wanted |= {f"taskctl/init/bin/{program}" for program in PROGRAMS}
    # What man and the shells read is put where they look.
    wanted = {name.replace("taskctl/share/", f"{SHARED}/") for name in wanted}
    assert "taskctl/py.typed" in wanted
    found = {name for name in archive.namelist() if not name.startswith(f"{INFO}/")}
    assert found == wanted


def test_leftovers_stay_out(archive: ZipFile) -> None:
    assert set(archive.namelist()).isdisjoint(LEFTOVERS)
    tops = {name.partition("/")[0] for name in archive.namelist()}
    assert tops == {"taskctl", INFO, SHARED.partition("/")[0]}
    assert {Path(name).suffix for name in archive.namelist()}.isdisjoint({".pyc", ".o", ".so"})


def test_manual_and_completions_come_where_they_are_looked_for(archive: ZipFile) -> None:
    found = {name.removeprefix(f"{SHARED}/") for name in archive.namelist() if SHARED in name}
    assert found == {
        "man/man1/taskctl.1",
        "bash-completion/completions/taskctl",
        "zsh/site-functions/_taskctl",
        "fish/vendor_completions.d/taskctl.fish",
    }


def test_licence_is_in_it(archive: ZipFile, metadata: Message) -> None:
    assert metadata["License-Expression"] == PROJECT["license"]
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert archive.read(f"{INFO}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()


def test_requirements_and_extras_are_those_of_the_project(metadata: Message) -> None:
    extras = PROJECT["optional-dependencies"]
    assert metadata.get_all("Provides-Extra") == sorted(extras)
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
    required = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    for extra in ("", *extras):
        found = {
            one.name.lower().replace("_", "-")
            for one in required
            if ("extra" in str(one.marker)) == bool(extra)
            and (one.marker is None or one.marker.evaluate({"extra": extra}))
        }
        wanted = extras[extra] if extra else PROJECT["dependencies"]
        assert found == {Requirement(line).name.lower().replace("_", "-") for line in wanted}, extra


def test_command_is_in_it(archive: ZipFile) -> None:
    entry_points = archive.read(f"{INFO}/entry_points.txt").decode()
    assert "taskctl = taskctl.__main__:main" in entry_points.splitlines()
