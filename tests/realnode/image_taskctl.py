"""The image of taskctl: what the Containerfile does, on Debian's Python.

Its steps are the Containerfile's, and its user, environment and files are read from there.
Only the base differs, hence also for which Python packages with compiled code are chosen.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from packaging.requirements import Requirement

from tests.realnode.image_containerfile import Stage
from tests.realnode.image_python import GLIBC, PYTHON_VERSION
from tests.realnode.images import ImageError, Layer, copy_file, copy_tree, run, run_in, unpacked

CONSTRAINTS = "scripts/constraints.txt"
# The Containerfile runs the same words; a test holds the two together.
INSTALL_PACKAGES = ("pip", "install", "--no-cache-dir", "--no-compile", "--only-binary=:all:")
BUILD_WHEEL = ("pip", "wheel", "--no-deps", "--no-build-isolation")
INSTALL_WHEEL = (
    "pip", "install", "--no-cache-dir", "--no-compile", "--no-deps", "--no-index",
)  # fmt: skip
# A start trusts the compiled files without a look at the sources: nobody can change either.
COMPILE = ("python3", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash")
# Proves that every compiled package was built for that Python. The fixtures need pytest, which no
# image of taskctl has.
IMPORT_ALL = """
import importlib, pkgutil, taskctl
for module in pkgutil.walk_packages(taskctl.__path__, "taskctl."):
    if module.name != "taskctl.testing.plugin":
        importlib.import_module(module.name)
"""
# Both go to one directory of the image, each from one of its own.
INSTALLED = "/opt/taskctl"
PACKAGES = "packages"
TASKCTL = "taskctl"


def packages_layer(wanted: Sequence[str], source: Path, work: Path, base: Path) -> Layer:
    """Return the layer with everything that taskctl depends on.

    Args:
        wanted: the requirements.
        source: copy of the project, as far as the image is made of it.
        work: empty folder.
        base: archive of the image with Python.

    Raises:
        ImageError: a package cannot be installed, or has no build for that Python.
    """
    requirements = work / "requirements.txt"
    requirements.write_text("\n".join(wanted) + "\n")
    _pip(
        INSTALL_PACKAGES, *_platform_options(), "--constraint", str(source / CONSTRAINTS),
        "--target", str(work / PACKAGES), "--requirement", str(requirements),
    )  # fmt: skip
    unmet = list(unmet_requirements(work / PACKAGES))
    if unmet:
        raise ImageError(f"pip chose packages for another Python: {'; '.join(unmet)}")
    root = unpacked(base)
    _compile(root, work / PACKAGES)
    return _taken(root, work, PACKAGES)


def taskctl_layers(source: Path, work: Path, base: Path, image: Stage) -> list[Layer]:
    """Return the layers with taskctl itself.

    Args:
        source: copy of the project, as far as the image is made of it.
        work: empty folder.
        base: archive of the image with the packages.
        image: the Containerfile's last stage.

    Raises:
        ImageError: the wheel cannot be built, or does not run.
    """
    wheels = work / "wheels"
    _pip(BUILD_WHEEL, "--wheel-dir", str(wheels), str(source))
    _pip(
        INSTALL_WHEEL, *_platform_options(), "--find-links", str(wheels),
        "--target", str(work / TASKCTL), "taskctl",
    )  # fmt: skip
    root = unpacked(base)
    _compile(root, work / TASKCTL)
    search = {"PYTHONPATH": f"/{TASKCTL}:{INSTALLED}"}
    run_in(root, "python3", "-c", IMPORT_ALL, env=search)
    layers = [_taken(root, work, TASKCTL)]
    for copy in image.copies:
        if not copy.stage:
            [name] = copy.sources
            copy_file(source / name, work / "files" / copy.target.lstrip("/"))
            layers.append(Layer(work / "files" / copy.target.lstrip("/"), copy.target))
    return layers


def _compile(root: Path, installed: Path) -> None:
    """Put what pip installed into the root, and compile it with the Python there."""
    shutil.rmtree(installed / "bin", ignore_errors=True)
    name = installed.name
    shutil.rmtree(root / name, ignore_errors=True)  # of a build that was killed
    copy_tree(installed, root / name)
    run_in(root, *COMPILE, f"/{name}")


def _taken(root: Path, work: Path, name: str) -> Layer:
    """Take it out again: the root serves the next build too."""
    return Layer((root / name).rename(work / f"{name}-compiled"), INSTALLED)


def _pip(command: Sequence[str], *arguments: str) -> None:
    run(sys.executable, "-m", *command, *arguments)


def _platform_options() -> Iterator[str]:
    """Yield pip's options for the image's Python, whatever Python runs this."""
    yield from ("--implementation", "cp", "--python-version", PYTHON_VERSION)
    major, newest = GLIBC
    machine = platform.machine()
    yield from ("--platform", f"manylinux2014_{machine}")
    for minor in range(17, newest + 1):
        yield from ("--platform", f"manylinux_{major}_{minor}_{machine}")


def unmet_requirements(installed: Path) -> Iterator[str]:
    """Yield what installed packages ask for and is not there.

    pip judges ``; python_version < "3.12"`` by the Python that it runs on, not by the one that
    it installs for.
    """
    environment = {"python_version": PYTHON_VERSION, "python_full_version": f"{PYTHON_VERSION}.0"}
    environment["extra"] = ""
    there = {
        _normal(found.name): found
        for found in importlib.metadata.distributions(path=[str(installed)])
    }
    for name, found in sorted(there.items()):
        for line in found.requires or ():
            wanted = Requirement(line)
            if wanted.marker is not None and not wanted.marker.evaluate(environment):
                continue
            given = there.get(_normal(wanted.name))
            if given is None or not wanted.specifier.contains(given.version, prereleases=True):
                yield f"{name} needs {line}"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
