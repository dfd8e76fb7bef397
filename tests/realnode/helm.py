"""Helm, for the tests of the chart: built once from its Go module, kept in the user's cache.

``python3 -m tests.realnode.helm`` prints its path.

Its module file in ``helm_source`` takes Kubernetes' libraries and what these are made of at the
versions of the node's own binary. Go then compiles them once for both, and Helm takes a minute
on two cores instead of five.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Final

from tests.realnode.binary import HERE, built_path, ensure_built, run_go

VERSION: Final = "3.19.5"
SOURCE: Final = HERE / "helm_source"
PROGRAM: Final = "helm.sh/helm/v3/cmd/helm"


def ensure_helm() -> Path:
    """Return the program's path; builds it first if it is not there.

    Raises:
        SystemExit: there is no Go, or the build failed; with its words.
    """
    return ensure_built(*_built_from(), _build)


def find_helm() -> str | None:
    """Return the path of the Helm built here, or else of one on PATH; None if there is neither."""
    program = built_path(*_built_from())
    return str(program) if program.exists() else shutil.which("helm")


def _built_from() -> tuple[str, list[Path]]:
    return f"helm-{VERSION}", [SOURCE / "go.mod", SOURCE / "go.sum"]


def _build(program: Path) -> None:
    if shutil.which("go") is None:
        raise SystemExit(f"Building Helm {VERSION} takes Go; install it, or put a helm on PATH")
    # stdout is for the program's path.
    print(f"Building Helm {VERSION} (once, a minute or two) ...", file=sys.stderr, flush=True)
    flags = f"-s -w -X helm.sh/helm/v3/internal/version.version=v{VERSION}"
    run_go(SOURCE, "build", "-trimpath", "-ldflags", flags, "-o", str(program), PROGRAM)


if __name__ == "__main__":
    print(ensure_helm())
