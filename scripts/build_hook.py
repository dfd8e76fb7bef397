"""Compiles the C programs of taskctl/init, a folder each, and says which platform a wheel is for.

Hatchling runs this as a build hook; developers run it by hand:

    python scripts/build_hook.py [--arch x86_64|aarch64] [--output DIR] [--force | --check]

A wheel is for the machine that builds it, or for the platform that TASKCTL_WHEEL_TARGET names (a
key of TARGETS; scripts/wheels builds all of them). The programs run on Linux only, so a wheel for
macOS has none: there, taskctl is a client of a cluster.

The compiler is Zig's, from the ``ziglang`` package, so no C toolchain is needed. Without it,
``cc`` or ``gcc`` is used where a static libc is installed. A binary ends with a hash of all
that it was made from; one with the right hash is left as it is.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run by hand, where hatchling is not installed

    class BuildHookInterface:  # type: ignore[no-redef]
        """Stands in for hatchling's."""


ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "taskctl" / "init"
TRAILER = b"\ntaskctl-build:"
# With -flto the units of a program are optimized as a whole, which keeps it as small as one file.
FLAGS = ("-static", "-Os", "-flto", "-s", "-Wall", "-Wextra", "-Wmissing-prototypes", "-Werror")
HOST_COMPILERS = ("cc", "gcc")
ARCHES = ("x86_64", "aarch64")
# A static program runs with any libc, so both families of tags are true. The numbers are the
# oldest that pip knows for each; manylinux2014 is the older name of manylinux_2_17.
LINUX_TAG = "py3-none-manylinux2014_{arch}.manylinux_2_17_{arch}.musllinux_1_1_{arch}"
# Nothing in it is compiled; macOS 11 is the oldest for both of Apple's architectures.
MACOS_TAG = "py3-none-macosx_11_0_universal2"
TARGET_VARIABLE = "TASKCTL_WHEEL_TARGET"
# What a build makes besides the programs of this machine.
BUILD = ROOT / "build" / "wheels"
SBOM = "taskctl.cdx.json"
COMPILE_TIMEOUT_S = 600
# More than enough for Zig.
OPEN_FILES = 20_000


class CompileError(Exception):
    """The C programs could not be compiled; the message says what to do."""


# Not a dataclass: hatchling loads this file under a name that dataclasses cannot look up.
class Target(NamedTuple):
    """A platform that there is a wheel for.

    Attributes:
        tag: what the wheel says of itself.
        arch: of the programs in it; None: it has none.
    """

    tag: str
    arch: str | None


TARGETS = {f"linux-{arch}": Target(LINUX_TAG.format(arch=arch), arch) for arch in ARCHES}
TARGETS["macos"] = Target(MACOS_TAG, None)


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg,unused-ignore]
    """Compiles before the files of a wheel are collected."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and give the wheel the tag of the platform that the binaries are for."""
        if self.target_name != "wheel":
            return
        # An editable installation is for the machine that makes it.
        asked = "" if version == "editable" else os.environ.get(TARGET_VARIABLE, "")
        name = asked or own_target()
        if name not in TARGETS:
            raise CompileError(f"{TARGET_VARIABLE}={name}: there are {', '.join(TARGETS)}")
        tag, arch = TARGETS[name]
        folder = BUILD / name
        if arch is not None:
            self._add_programs(arch, name, folder, build_data)
        build_data["pure_python"] = False
        build_data["tag"] = tag
        if version != "editable":
            bill = write_sbom(folder / SBOM, name)
            build_data["sbom_files"] = [bill.relative_to(ROOT).as_posix()]

    def _add_programs(
        self, arch: str, target: str, folder: Path, build_data: dict[str, Any]
    ) -> None:
        if target == own_target():
            # By name: a program of an older version may lie there, or what a killed build left.
            programs = compile_all(arch)
            build_data["artifacts"] += [
                f"/{path.relative_to(ROOT).as_posix()}" for path in programs
            ]
        else:  # beside the tree: the programs in it are those that this machine runs
            programs = compile_all(arch, folder)
            inside = SOURCES.relative_to(ROOT) / "bin"
            build_data["force_include"] |= {
                str(path): (inside / path.name).as_posix() for path in programs
            }


def own_target() -> str:
    """Return the key in TARGETS of this machine.

    Raises:
        CompileError: taskctl is not built for it.
    """
    if sys.platform == "darwin":
        return "macos"
    if sys.platform != "linux":
        raise CompileError(f"taskctl is built for Linux and macOS, not for {sys.platform}")
    return f"linux-{machine()}"


def machine() -> str:
    """Return this machine's architecture in the words of Linux and Zig.

    Raises:
        CompileError: it is none that taskctl is built for.
    """
    names = {"amd64": "x86_64", "arm64": "aarch64"}
    name = platform.machine().lower()
    name = names.get(name, name)
    if name not in ARCHES:
        raise CompileError(f"taskctl is built for {' and '.join(ARCHES)}, not for {name}")
    return name


def version() -> str:
    """Return taskctl's version without importing it."""
    for line in (ROOT / "taskctl" / "__init__.py").read_text().splitlines():
        if line.startswith("__version__"):
            return line.split('"')[1]
    raise CompileError("taskctl/__init__.py holds no __version__")


def compiler(arch: str) -> list[str]:
    """Return the command of a C compiler that makes static programs.

    Raises:
        CompileError: there is none.
    """
    if importlib.util.find_spec("ziglang") is not None:
        return _zig(arch)
    found = next((path for name in HOST_COMPILERS if (path := shutil.which(name))), None)
    if found is None:
        raise CompileError("no C compiler: run `pip install ziglang`, or install gcc")
    if sys.platform != "linux" or arch != machine():
        raise CompileError(f"{found} cannot build for {arch} Linux: run `pip install ziglang`")
    return [found]


def compile_all(arch: str, output: Path | None = None, *, force: bool = False) -> list[Path]:
    """Compile every program that is not up to date.

    Args:
        arch: one of ``ARCHES``.
        output: directory for the binaries; default: ``taskctl/init/bin``.
        force: compile also what is up to date.

    Returns:
        All binaries.

    Raises:
        CompileError: a program does not compile, or there is no compiler.
    """
    output = output or SOURCES / "bin"
    output.mkdir(parents=True, exist_ok=True)
    return [compile_one(source, output / source.stem, arch, force=force) for source in programs()]


def programs() -> list[Path]:
    """Return what the programs are made from: each a folder of units."""
    return sorted({unit.parent for unit in SOURCES.glob("*/*.c")})


def units_of(source: Path) -> list[Path]:
    """Return the files to compile: those of a folder, or a program's only one."""
    return sorted(source.glob("*.c")) if source.is_dir() else [source]


def compile_one(source: Path, binary: Path, arch: str, *, force: bool = False) -> Path:
    """Compile one program, a folder of units or a file, if it is not up to date.

    See :func:`compile_all`.
    """
    command = _command(compiler(arch))
    stamp = _stamp(command, source)
    if force or not _ends_with(binary, stamp):
        _compile(command, source, binary, stamp)
    return binary


def is_current(source: Path, binary: Path, arch: str) -> bool:
    """Whether a program is up to date, whichever compiler made it: this one may have none."""
    made_by = [_zig(arch), *([path] for name in HOST_COMPILERS if (path := shutil.which(name)))]
    return any(_ends_with(binary, _stamp(_command(start), source)) for start in made_by)


def _zig(arch: str) -> list[str]:
    return [sys.executable, "-m", "ziglang", "cc", "-target", f"{arch}-linux-musl"]


def _command(start: Sequence[str]) -> list[str]:
    return [*start, *FLAGS, f'-DTASKCTL_VERSION="{version()}"']


def _stamp(command: Sequence[str], source: Path) -> bytes:
    units = units_of(source)
    headers = sorted(units[0].parent.glob("*.h"))
    return TRAILER + _digest(command, [*units, *headers]).encode() + b"\n"


def _digest(command: Sequence[str], files: Sequence[Path]) -> str:
    # The interpreter's own path changes with every isolated build; what it runs does not.
    words = ["python" if word == sys.executable else word for word in command]
    digest = hashlib.sha256("\0".join(words).encode())
    for file in files:
        content = file.read_bytes()
        digest.update(f"\0{file.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _ends_with(binary: Path, stamp: bytes) -> bool:
    try:
        with binary.open("rb") as file:
            file.seek(-len(stamp), os.SEEK_END)
            return file.read() == stamp
    except OSError:  # absent, or shorter than the stamp
        return False


def _compile(command: Sequence[str], source: Path, binary: Path, stamp: bytes) -> None:
    """Write the binary under a name of our own, then rename: two builds may run at once."""
    handle, name = tempfile.mkstemp(prefix=f".{binary.name}-", dir=binary.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        _run([*command, "-o", name, *map(str, units_of(source))])
        with temporary.open("ab") as file:
            file.write(stamp)
        temporary.chmod(0o755)
        temporary.replace(binary)
    finally:
        temporary.unlink(missing_ok=True)


def _run(command: Sequence[str]) -> None:
    env = dict(os.environ)
    if "HOME" not in env:  # Zig keeps its cache there and gives up without
        env.setdefault("ZIG_GLOBAL_CACHE_DIR", str(Path(tempfile.gettempdir()) / "taskctl-zig"))
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompileError(f"{shlex.join(command)}: {error}") from error
    if done.returncode != 0:
        words = done.stdout + done.stderr
        raise CompileError(f"{shlex.join(command)}\n{too_few_open_files(words) or words}")


def too_few_open_files(words: str) -> str | None:
    """Return what to do if a compiler's words say that it may not open more files.

    The first time, Zig compiles musl, and keeps the result of each of its 1,300 files open until
    all are there. It raises its limit as far as it may itself.
    """
    if "FdQuotaExceeded" not in words:
        return None
    import resource  # not on Windows, where the build has another sentence

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return (
        f"Zig may not open more than {limit} files, which is too few to compile its C library. "
        f"Raise the hard limit: with --ulimit nofile={OPEN_FILES}:{OPEN_FILES} for the build of "
        f"an image by buildah, podman or docker; else with `ulimit -n {OPEN_FILES}`, as root."
    )


def write_sbom(path: Path, target: str) -> Path:
    """Write what a wheel is made of (PEP 770): CycloneDX, the same for the same input.

    What pip installs beside it is in its metadata, and in what scripts/sbom prints.
    """
    own = f"pkg:pypi/taskctl@{version()}"
    arch = TARGETS[target].arch
    linked = [] if arch is None else [_libc(compiler(arch))]
    found: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": "taskctl",
                "version": version(),
                "purl": own,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
                "properties": [{"name": "taskctl:wheel-target", "value": target}],
            }
        },
        "components": linked,
        "dependencies": [
            {"ref": own, "dependsOn": [one["bom-ref"] for one in linked]},
            *({"ref": one["bom-ref"]} for one in linked),
        ],
    }
    # What is in it decides on the number, so that it can be made again.
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(found, sort_keys=True))
    found["serialNumber"] = f"urn:uuid:{serial}"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    temporary.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
    return path


def _libc(command: Sequence[str]) -> dict[str, Any]:
    """Return the C library that is linked into the programs, as CycloneDX has it."""
    found: dict[str, Any] = {"type": "library", "bom-ref": "libc", "name": "libc"}
    if "ziglang" not in command:
        found["description"] = f"static C library of the machine that built, by {command[0]}"
        return found
    found |= {
        "name": "musl",
        "bom-ref": "musl",
        "description": f"as it comes with ziglang {importlib.metadata.version('ziglang')}",
        "licenses": [{"license": {"id": "MIT"}}],
    }
    if number := _musl_version():
        found |= {"version": number, "bom-ref": f"pkg:generic/musl@{number}"}
        found["purl"] = found["bom-ref"]
    return found


def _musl_version() -> str | None:
    spec = importlib.util.find_spec("ziglang")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        header = Path(folder, "lib", "libc", "musl", "src", "internal", "version.h")
        if header.exists():
            return header.read_text(encoding="utf-8").split('"')[1]
    return None


def main() -> int:
    """Compile by hand."""
    parser = argparse.ArgumentParser(description="Compile taskctl-init and the local node's shim.")
    parser.add_argument("--arch", choices=ARCHES, help="default: this machine's")
    parser.add_argument("--output", type=Path, help="default: taskctl/init/bin")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--force", action="store_true", help="compile what is up to date, too")
    how.add_argument(
        "--check", action="store_true", help="compile nothing; fail if one is not up to date"
    )
    args = parser.parse_args()
    try:
        if args.check:
            arch, output = args.arch or machine(), args.output or SOURCES / "bin"
            sources = programs()
            return 0 if all(is_current(s, output / s.stem, arch) for s in sources) else 1
        for binary in compile_all(args.arch or machine(), args.output, force=args.force):
            print(binary)
    except CompileError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
