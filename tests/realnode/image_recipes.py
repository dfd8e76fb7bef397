"""Which images there are: what each is made of, and how."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from scripts import build_hook
from tests.realnode import image_python
from tests.realnode.image_containerfile import Stage, parse
from tests.realnode.image_taskctl import CONSTRAINTS, packages_layer, taskctl_layers
from tests.realnode.images import PATH, Config, ImageError, Layer, busybox, busybox_root, copy_tree

ROOT = Path(__file__).resolve().parents[2]
CONTAINERFILE = "Containerfile"
VERSION_LABEL = "org.opencontainers.image.version"
HERE = "tests/realnode"
PYTHON, BUSYBOX, SCRATCH, TASKCTL = "python", "busybox", "scratch", "taskctl"
# taskctl's dependencies: no image for anybody to use, but a layer that changes seldom.
PACKAGES = "taskctl-packages"
# What stands for the images of a registry.
STAND_INS = {
    "docker.io/library/python:3.12-slim": PYTHON,
    "docker.io/library/busybox:stable": BUSYBOX,
}


@dataclass(frozen=True)
class Source:
    """What a recipe works with."""

    tree: Path
    """Copy of the inputs."""
    work: Path
    """Empty folder."""
    base: Path | None
    """Archive of the image below."""

    def below(self) -> Path:
        """Return the base of a recipe that has one."""
        if self.base is None:
            raise ImageError("this recipe needs a base")
        return self.base


@dataclass(frozen=True)
class Recipe:
    """How one image is made."""

    reference: str
    """Its name for containerd and pods."""
    inputs: tuple[str, ...]
    """Files and folders, from the project's root, that decide what comes out."""
    make: Callable[[Source], list[Layer]]
    config: Config = field(default_factory=Config)
    base: str | None = None
    """Name of the recipe below."""
    values: str = ""
    """What else decides: what was read from files of which the rest does not matter."""


def recipes(root: Path = ROOT) -> dict[str, Recipe]:
    """Return the recipe of each image by name.

    Raises:
        ImageError: a Containerfile says something that is not done here.
    """
    python, own = (f"{HERE}/image_{name}.py" for name in ("python", "taskctl"))
    path = {"PATH": PATH}
    found = {
        TASKCTL: _taskctl(parse((root / CONTAINERFILE).read_text()), own),
        PACKAGES: _packages(root, own),
        PYTHON: Recipe(
            "localhost/taskctl-test-python:1",
            (python,),
            _python,
            Config(command=["python3"], env=path),
        ),
        SCRATCH: Recipe(
            "localhost/taskctl-test-scratch:1",
            (f"{HERE}/scratch", "scripts/build_hook.py"),
            _scratch,
            Config(entrypoint=["/probe"]),
        ),
        BUSYBOX: Recipe(
            "localhost/taskctl-test-busybox:1",
            (),
            _busybox,
            Config(command=["sh"], env=path),
            values=hashlib.sha256(busybox().read_bytes()).hexdigest(),
        ),
    }
    demos = sorted(file.parent for file in root.glob(f"demo/*/{CONTAINERFILE}"))
    return found | {folder.name: _demo(root, folder.name) for folder in demos}


def _python(source: Source) -> list[Layer]:
    image_python.make_root(source.work / "root")
    return [Layer(source.work / "root")]


def _busybox(source: Source) -> list[Layer]:
    return [Layer(busybox_root(source.work / "root"))]


def _scratch(source: Source) -> list[Layer]:
    """One static program, and not even a folder beside it."""
    program = source.work / "root" / "probe"
    program.parent.mkdir()
    code = source.tree / HERE / "scratch" / "probe.c"
    build_hook.compile_one(code, program, build_hook.machine())
    return [Layer(program.parent)]


def _packages(root: Path, own: str) -> Recipe:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    # With what workers hand on to tasks, for functions that are sent by value.
    wanted: list[str] = project["dependencies"]
    for extra in ("client", "local", "otel"):
        wanted = wanted + extras[extra]

    def make(source: Source) -> list[Layer]:
        return [packages_layer(wanted, source.tree, source.work, source.below())]

    return Recipe(
        f"localhost/{PACKAGES}:1", (CONSTRAINTS, own), make, base=PYTHON, values="\n".join(wanted)
    )


def _taskctl(stages: list[Stage], own: str) -> Recipe:
    image = stages[-1]
    copies = [copy for stage in stages for copy in stage.copies if not copy.stage]
    sources = [source for copy in copies for source in copy.sources]

    def make(source: Source) -> list[Layer]:
        return taskctl_layers(source.tree, source.work, source.below(), image)

    return Recipe(
        f"docker.io/library/taskctl:{image.labels[VERSION_LABEL]}",
        (*sources, own),
        make,
        image.config(),
        PACKAGES,
        values=repr(image.copies),
    )


def _demo(root: Path, name: str) -> Recipe:
    folder = f"demo/{name}"
    stages = parse((root / folder / CONTAINERFILE).read_text())
    image = stages[-1]
    if len(stages) > 1 or image.runs or any(copy.stage or copy.mode for copy in image.copies):
        raise ImageError(f"{folder}/{CONTAINERFILE} may only copy files onto its base")
    if image.base not in STAND_INS:
        raise ImageError(f"{folder}/{CONTAINERFILE}: nothing here stands for {image.base}")
    sources = [source for copy in image.copies for source in copy.sources]
    return Recipe(
        f"docker.io/library/{name}:latest",
        tuple(f"{folder}/{source.rstrip('/')}" for source in sources),
        lambda source: _copied(source, folder, image),
        image.config(),
        STAND_INS[image.base],
        values=repr(image.copies),
    )


def _copied(source: Source, folder: str, image: Stage) -> list[Layer]:
    layers: list[Layer] = []
    for copy in image.copies:
        for name in copy.sources:
            staged = source.work / str(len(layers))
            copy_tree(source.tree / folder / name, staged)
            layers.append(Layer(staged, copy.target))
    return layers
