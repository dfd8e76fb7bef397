"""The wheels, as `pip install taskctl` gets them."""

from __future__ import annotations

import json
import re
import stat
import subprocess
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, mac_platforms, sys_tags
from packaging.utils import parse_wheel_filename
from packaging.version import Version

from scripts.build_hook import TARGETS, own_target
from tests.cyclonedx import complaints
from tests.wheels.project import ELF_MACHINE, INFO, LEFTOVERS, PROGRAMS, PROJECT, ROOT, SHARED

# The programs are compiled where those of the working copy are not up to date.
pytestmark = pytest.mark.timeout(1000)


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


@pytest.mark.parametrize("target", TARGETS)
def test_tags_are_those_of_the_platform(wheels: dict[str, Path], target: str) -> None:
    """Any Python and any libc of the architecture will do; on macOS any architecture."""
    _, _, _, tags = parse_wheel_filename(wheels[target].name)
    _, _, arch = target.partition("-")
    platforms = [f"manylinux2014_{arch}", f"manylinux_2_17_{arch}", f"musllinux_1_1_{arch}"]
    if target == "macos":
        platforms = ["macosx_11_0_universal2"]
    assert tags == {Tag("py3", "none", platform) for platform in platforms}


@pytest.mark.parametrize(
    ("target", "machines"),
    [
        ("linux-x86_64", "manylinux_2_36_x86_64 manylinux_2_17_x86_64 musllinux_1_2_x86_64"),
        ("linux-aarch64", "manylinux_2_36_aarch64 musllinux_1_1_aarch64"),
        ("macos", "macosx_11_0_arm64 macosx_15_0_arm64 macosx_11_0_x86_64 macosx_15_0_x86_64"),
    ],
)
def test_pip_takes_the_wheel_of_the_platform(
    wheels: dict[str, Path], target: str, machines: str
) -> None:
    """What pip accepts on a machine is a list of tags, made from the machine's own."""
    for machine in machines.split():
        taken = [name for name, path in wheels.items() if accepted(machine) & tags_of(path)]
        assert taken == [target], machine


def tags_of(path: Path) -> frozenset[Tag]:
    return parse_wheel_filename(path.name)[3]


def accepted(machine: str) -> set[Tag]:
    """Return what a Python 3.12 accepts there, down to the oldest; as pip's --platform does."""
    family, major, minor, arch = re.fullmatch(r"(\D+)_(\d+)_(\d+)_(\w+)", machine).groups()  # type: ignore[union-attr]
    if family == "macosx":
        platforms = list(mac_platforms((int(major), int(minor)), arch))
    else:
        platforms = [f"{family}_{major}_{number}_{arch}" for number in range(int(minor) + 1)]
    return set(compatible_tags((3, 12), "cp312", platforms))


@pytest.mark.parametrize("target", TARGETS)
def test_programs_are_those_of_the_platform(wheels: dict[str, Path], target: str) -> None:
    assert "taskctl-init" in PROGRAMS
    _, arch = TARGETS[target]
    with ZipFile(wheels[target]) as archive:
        found = {name for name in archive.namelist() if name.startswith("taskctl/init/bin/")}
        assert found == {f"taskctl/init/bin/{name}" for name in PROGRAMS if arch is not None}
        for name in sorted(found):
            mode = archive.getinfo(name).external_attr >> 16
            assert stat.S_ISREG(mode), name
            assert stat.S_IMODE(mode) & 0o555 == 0o555, name
            content = archive.read(name)
            assert content.startswith(b"\x7fELF"), name
            assert int.from_bytes(content[18:20], "little") == ELF_MACHINE[str(arch)], name
            assert b"ld-linux" not in content, name
            assert b"ld-musl" not in content, name


def test_but_for_the_programs_all_are_the_same(wheels: dict[str, Path]) -> None:
    """One client, one command line, one set of requirements."""
    contents = []
    for path in wheels.values():
        with ZipFile(path) as archive:
            names = {
                name
                for name in archive.namelist()
                if not name.startswith(("taskctl/init/bin/", f"{INFO}/sboms/"))
                and name not in (f"{INFO}/WHEEL", f"{INFO}/RECORD")
            }
            contents.append({name: archive.read(name) for name in names})
    assert contents[0]
    assert all(content == contents[0] for content in contents)


@pytest.mark.parametrize("target", TARGETS)
def test_bill_of_materials(wheels: dict[str, Path], target: str) -> None:
    """PEP 770: what is in the wheel, in its own .dist-info."""
    with ZipFile(wheels[target]) as archive:
        bill = json.loads(archive.read(f"{INFO}/sboms/taskctl.cdx.json"))
    assert complaints(bill) == []
    assert bill["metadata"]["component"]["version"] == PROJECT["version"]
    names = [one["name"] for one in bill["components"]]
    assert names == (["musl"] if TARGETS[target].arch else []), "what is linked into the programs"
    assert all(re.fullmatch(r"1\.\d+\.\d+", one["version"]) for one in bill["components"])


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
    if TARGETS[own_target()].arch is not None:
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
