"""``scripts/install`` says Ready only with programs made from the sources that are there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TIMEOUT_S = 60
# Stands in for Zig's compiler, which takes a while.
COMPILER = """
import pathlib, sys
code = pathlib.Path(sys.argv[-1]).read_text().split("return ")[1].split(";")[0]
if not code.isdigit():
    sys.exit(f"{code}: what is that?")
pathlib.Path(sys.argv[sys.argv.index("-o") + 1]).write_text(f"#!/bin/sh\\nexit {code}\\n")
"""


@dataclass
class Checkout:
    """A small copy of the repository with an environment that is up to date by its stamp."""

    root: Path

    @property
    def python(self) -> str:
        return f'PYTHONPATH={self.root} exec {sys.executable} -S "$@"'

    @property
    def binary(self) -> Path:
        return self.root / "taskctl" / "init" / "bin" / "tiny"

    def make(self) -> None:
        (self.root / "taskctl" / "init" / "tiny").mkdir(parents=True)
        (self.root / "taskctl" / "__init__.py").write_text('__version__ = "1.2.3"\n')
        self.source("5")
        (self.root / "scripts").mkdir()
        for name in ("scripts/install", "scripts/lib.sh", "scripts/build_hook.py"):
            shutil.copy(ROOT / name, self.root / name)
        for name in ("pyproject.toml", "scripts/constraints.txt"):
            (self.root / name).touch()
        (self.root / "ziglang").mkdir()
        (self.root / "ziglang" / "__init__.py").touch()
        (self.root / "ziglang" / "__main__.py").write_text(COMPILER)
        self.program(".venv/bin/python", self.python)

    def source(self, code: str) -> None:
        path = self.root / "taskctl" / "init" / "tiny" / "main.c"
        path.write_text(f"int main(void) {{ return {code}; }}\n")

    def program(self, name: str, script: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def stamp(self, kind: str) -> None:
        script = f'. scripts/lib.sh; echo "{kind} $(fingerprint)" >.venv/.taskctl-stamp'
        subprocess.run(["sh", "-c", script, "scripts/x"], cwd=self.root, check=True)

    def set_up(self, kind: str = "dev") -> subprocess.CompletedProcess[str]:
        """Run what ``scripts/install`` runs; unless told otherwise, nothing can be installed."""
        if not (self.root / "bin" / "uv").exists():
            self.program("bin/uv", 'echo "$@" >>installed; exit 1')
        env = {**os.environ, "PATH": f"{self.root / 'bin'}:{os.environ['PATH']}"}
        script = f"set -eu; . scripts/lib.sh; setup_env {kind}; echo Ready"
        return subprocess.run(
            ["sh", "-c", script, "scripts/x"],
            cwd=self.root,
            env=env,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )

    def answer(self) -> int:
        return subprocess.run([self.binary], check=False).returncode


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    made = Checkout(tmp_path / "checkout")
    made.make()
    made.stamp("dev")
    return made


def test_a_missing_program_is_built(checkout: Checkout) -> None:
    done = checkout.set_up()
    assert (done.returncode, done.stdout) == (0, "Ready\n"), done.stderr
    assert checkout.answer() == 5
    assert not (checkout.root / "installed").exists(), "the environment itself was right"


def test_a_stale_program_is_built_again_and_a_current_one_is_kept(checkout: Checkout) -> None:
    checkout.set_up()
    current = checkout.binary.read_bytes()
    checkout.binary.write_bytes(current.replace(b"taskctl-build:", b"taskctl-older:"))
    checkout.set_up()
    assert checkout.binary.read_bytes() == current
    kept = checkout.binary.stat().st_ino
    checkout.set_up()
    assert checkout.binary.stat().st_ino == kept


def test_changed_sources_and_versions_change_the_stamp(checkout: Checkout) -> None:
    checkout.set_up()
    checkout.source("6")
    assert checkout.set_up().returncode != 0, "the environment is set up again, which fails here"
    checkout.stamp("dev")
    assert checkout.set_up().returncode == 0
    (checkout.root / "taskctl" / "__init__.py").write_text('__version__ = "1.2.4"\n')
    assert checkout.set_up().returncode != 0


@pytest.mark.parametrize("kind", ["dev", "run"])
def test_without_a_compiler_installing_brings_one(checkout: Checkout, kind: str) -> None:
    checkout.stamp(kind)
    build = checkout.root / "scripts" / "build_hook.py"
    checkout.program("python", checkout.python)
    checkout.program("bin/uv", f"touch installed; {checkout.root}/python {build} >/dev/null")
    # An environment for running: no ziglang in it, and neither cc nor gcc works.
    checkout.program(".venv/bin/python", f'exec {sys.executable} -S "$@"')
    for name in ("cc", "gcc"):
        checkout.program(f"bin/{name}", "exit 1")
    done = checkout.set_up(kind)
    assert (done.returncode, done.stdout) == (0, "Ready\n"), done.stderr
    assert (checkout.root / "installed").exists()
    assert checkout.answer() == 5


def test_never_ready_without_programs(checkout: Checkout) -> None:
    checkout.source("nonsense")
    checkout.stamp("dev")
    checkout.program("bin/uv", "exit 0")
    done = checkout.set_up()
    assert done.returncode != 0
    assert "Ready" not in done.stdout
    assert "taskctl-init could not be built" in done.stderr
    assert "nonsense" in done.stderr
