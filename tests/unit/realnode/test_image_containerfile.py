"""The Containerfile, how it is read, and that scripts/image does the same."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest

from taskctl import __version__
from taskctl.constants import DEFAULT_IMAGE
from taskctl.policy import workerpod
from tests.realnode import image_recipes, image_taskctl
from tests.realnode.image_containerfile import Copy, Stage, parse
from tests.realnode.image_recipes import PYTHON, ROOT, STAND_INS, TASKCTL, Recipe, recipes
from tests.realnode.images import ImageError

EXAMPLE = """\
# A comment.
FROM base:1 AS build
WORKDIR /src
COPY one two ./
RUN first && \\
    second

FROM base:2
COPY --from=build --chmod=0755 /a /b
ENV ONE=1 \\
    # about the next
    TWO="2 3"
LABEL org.example.title="a b"
USER 1:2
ENTRYPOINT ["program"]
CMD ["--help", "me"]
"""


def test_reads_stages() -> None:
    build, image = parse(EXAMPLE)
    assert build == Stage(
        "base:1",
        "build",
        copies=[Copy(("one", "two"), "./")],
        runs=["first &&      second"],
        workdir="/src",
    )
    assert image.copies == [Copy(("/a",), "/b", "build", "0755")]
    assert image.env == {"ONE": "1", "TWO": "2 3"}
    assert image.labels == {"org.example.title": "a b"}
    assert image.user == "1:2"
    assert image.config().entrypoint == ("program",)
    assert image.config().command == ("--help", "me")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "COPY a b\n",
        "FROM a b c d\n",
        "FROM a\nADD a b\n",
        "FROM a\nCOPY a\n",
        "FROM a\nCOPY --chown=1:1 a b\n",
        "FROM a\nENV A b\n",
        "FROM a\nCMD program --help\n",
    ],
)
def test_refuses_what_it_does_not_know(text: str) -> None:
    with pytest.raises(ImageError):
        parse(text)


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    return parse((ROOT / "Containerfile").read_text())


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Recipe]:
    busybox = tmp_path / "busybox"
    busybox.write_text("stands for busybox, which may not be installed")
    monkeypatch.setattr(image_recipes, "busybox", lambda: busybox)
    return recipes()


def test_image_is_what_worker_pods_expect(stages: list[Stage], known: dict[str, Recipe]) -> None:
    image = stages[-1]
    metadata = {"name": "c", "namespace": "n", "uid": "u"}
    pod = workerpod.build_worker({"metadata": metadata, "spec": {}}, "w")
    assert known[TASKCTL].reference == f"docker.io/library/{DEFAULT_IMAGE}"
    security = pod["spec"]["securityContext"]
    assert image.user == f"{security['runAsUser']}:{security['runAsGroup']}"
    assert image.entrypoint == ("taskctl",)
    # A read-only root could not keep what Python compiles.
    assert image.env["PYTHONDONTWRITEBYTECODE"] == "1"
    assert image.env["PYTHONPATH"] == image_taskctl.INSTALLED


def test_labels(stages: list[Stage]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    prefix = "org.opencontainers.image"
    labels = stages[-1].labels
    assert labels[f"{prefix}.version"] == __version__ == project["version"]
    assert labels[f"{prefix}.title"] == project["name"]
    assert labels[f"{prefix}.licenses"] == project["license"]
    assert set(labels) == {f"{prefix}.{name}" for name in (
        "version", "title", "licenses", "description")}  # fmt: skip


def test_steps_are_those_of_the_script(stages: list[Stage]) -> None:
    build, image = stages
    compiled = " ".join(image_taskctl.COMPILE)
    expected = [
        ["python", "-c"],  # the list of requirements, which the script reads itself
        [*image_taskctl.INSTALL_PACKAGES, "--constraint constraints.txt --target /packages"],
        ["rm -rf /packages/bin"],
        [f"{compiled} /packages"],
        ["pip install", "--constraint constraints.txt"],  # what the script has in its venv
        [*image_taskctl.BUILD_WHEEL, "--wheel-dir /wheels ."],
        [*image_taskctl.INSTALL_WHEEL, "--find-links /wheels --target /taskctl taskctl"],
        ["rm -rf /taskctl/bin /taskctl/share"],
        [f"{compiled} /taskctl"],
    ]
    assert len(build.runs) == len(expected)
    for run, parts in zip(build.runs, expected, strict=True):
        assert run.startswith(parts[0])
        assert " ".join(parts[1:]) in run
    assert [copy for copy in image.copies if copy.stage] == [
        Copy((f"/{name}",), image_taskctl.INSTALLED, "build")
        for name in (image_taskctl.PACKAGES, image_taskctl.TASKCTL)
    ]


def test_build_tools_are_those_of_the_wheel(stages: list[Stage]) -> None:
    build_system = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]
    [names] = (run for run in stages[0].runs if "hatchling" in run)
    wanted = [re.split("[<>=~]", requirement)[0] for requirement in build_system["requires"]]
    assert names.split("constraints.txt ")[1].split() == wanted


def test_one_python_in_all_stages(stages: list[Stage]) -> None:
    bases = {stage.base for stage in stages}
    assert len(bases) == 1
    [base] = bases
    assert STAND_INS[base] == PYTHON
    found = re.search(r":(\d\.\d+)-", base)
    assert found is not None
    assert stages[-1].runs[0].endswith(f" /usr/local/lib/python{found[1]}")


def test_copied_files_are_there_and_not_ignored(stages: list[Stage]) -> None:
    rules = (ROOT / ".dockerignore").read_text().split("\n")
    admitted = {rule[1:] for rule in rules if rule.startswith("!")}
    copies = [copy for stage in stages for copy in stage.copies if not copy.stage]
    sources = {source for copy in copies for source in copy.sources}
    assert sources == admitted
    assert "*" in rules
    for source in sources:
        assert (ROOT / source).exists(), source


def test_programs_are_executable(stages: list[Stage]) -> None:
    programs = [copy for copy in stages[-1].copies if not copy.stage]
    assert [copy.target for copy in programs] == ["/usr/local/bin/taskctl"]
    for copy in programs:
        assert copy.mode == "0755"
        # The script goes by the mode in the checkout.
        assert os.access(ROOT / copy.sources[0], os.X_OK)


def test_inputs_are_the_copied_files(stages: list[Stage], known: dict[str, Recipe]) -> None:
    sources = {
        source
        for stage in stages
        for copy in stage.copies
        if not copy.stage
        for source in copy.sources
    }
    assert sources <= set(known[TASKCTL].inputs)


@pytest.mark.parametrize("folder", sorted(path.parent for path in ROOT.glob("demo/*/image")))
def test_every_demo_has_an_image(folder: Path, known: dict[str, Recipe]) -> None:
    recipe = known[folder.name]
    assert recipe.reference == f"docker.io/library/{folder.name}:latest"
    assert recipe.inputs == (f"demo/{folder.name}/image",)
    [stage] = parse((folder / "Containerfile").read_text())
    assert recipe.base == STAND_INS[stage.base]


def test_a_demo_that_runs_something_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_recipes, "busybox", lambda: Path(__file__))
    for name in ("Containerfile", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    demo = tmp_path / "demo" / "new"
    demo.mkdir(parents=True)
    base = next(iter(STAND_INS))
    for text in (f"FROM {base}\nRUN true\n", "FROM elsewhere:1\nCOPY a /\n"):
        (demo / "Containerfile").write_text(text)
        with pytest.raises(ImageError):
            recipes(tmp_path)
    (demo / "Containerfile").write_text(f"FROM {base}\nCOPY a /\n")
    assert recipes(tmp_path)["new"].inputs == ("demo/new/a",)
