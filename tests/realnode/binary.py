"""The node's one binary: built once from Go modules, kept in the user's cache.

``TASKCTL_KUBERNETES_VERSION`` chooses another version than the one this project is tested with.
Its module file is then made at build time and trusts the module proxy's checksum database,
where that of the usual version is kept here, with all its checksums.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
USUAL_VERSION = "1.34.4"
VERSION = os.environ.get("TASKCTL_KUBERNETES_VERSION") or USUAL_VERSION
_STAGED = re.compile(r"^\s*(k8s\.io/\S+) => \./staging/", re.MULTILINE)
SOURCES = ("go.mod", "go.sum", "main.go")


def cache_dir() -> Path:
    """Return the folder for what outlives a checkout: $XDG_CACHE_HOME/taskctl."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "taskctl"


def ensure_binary() -> Path:
    """Return the binary's path; builds it first if it is not there (some minutes).

    Safe to call from several processes at once: one builds, the others wait.
    """
    return ensure_built(f"realnode-{VERSION}", [HERE / name for name in SOURCES], _build)


def ensure_built(name: str, sources: Sequence[Path], build: Callable[[Path], None]) -> Path:
    """Return the path of a program in the user's cache; builds it first if it is not there.

    Safe to call from several processes at once: one builds, the others wait.

    Args:
        name: what the program's name begins with; a digest of its sources follows.
        sources: the files that it is made of.
        build: writes the program to the path that it is given.
    """
    program = built_path(name, sources)
    if program.exists():
        return program
    cache = program.parent
    cache.mkdir(parents=True, exist_ok=True)
    # One at a time, whatever it is: each takes all processors that there are.
    with (cache / "realnode.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            temporary = program.with_suffix(f".{os.getpid()}")
            build(temporary)
            temporary.rename(program)
    return program


def built_path(name: str, sources: Sequence[Path]) -> Path:
    """Return where the program made of these sources is, or will be, in the user's cache."""
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources))
    return cache_dir() / f"{name}-{digest.hexdigest()[:10]}"


def _build(binary: Path) -> None:
    if re.fullmatch(r"\d+\.\d+\.\d+", VERSION) is None:
        raise SystemExit(f"TASKCTL_KUBERNETES_VERSION={VERSION}: must be like {USUAL_VERSION}")
    if shutil.which("go") is None:
        raise SystemExit(
            f"Building Kubernetes {VERSION} takes Go; install it, or use a machine with Docker "
            "and kind"
        )
    # stdout is for the kubeconfig's path.
    message = f"Building Kubernetes {VERSION} (once, about five minutes on two cores) ..."
    print(message, file=sys.stderr, flush=True)
    source = HERE if VERSION == USUAL_VERSION else _make_module(binary.parent)
    major, minor, _ = VERSION.split(".")
    stamp = "k8s.io/component-base/version.git"
    flags = f"-s -w -X {stamp}Version=v{VERSION} -X {stamp}Major={major} -X {stamp}Minor={minor}"
    run_go(source, "build", "-trimpath", "-ldflags", flags, "-o", str(binary), ".")


def _make_module(cache: Path) -> Path:
    """Make a module of the same program for another version; returns its directory."""
    directory = cache / f"realnode-source-{VERSION}"
    directory.mkdir(exist_ok=True)
    shutil.copy(HERE / "main.go", directory)
    (directory / "go.mod").write_text("module taskctl.dev/realnode\n\ngo 1.24.0\n")
    kubernetes = f"k8s.io/kubernetes@v{VERSION}"
    found = json.loads(run_go(directory, "mod", "download", "-json", kubernetes))
    text = module_text(Path(found["GoMod"]).read_text(), VERSION)
    (directory / "go.mod").write_text(text)
    run_go(directory, "mod", "tidy")
    return directory


def module_text(kubernetes: str, version: str) -> str:
    """Return a module file that takes Kubernetes' own parts at the same version.

    Args:
        kubernetes: the text of ``k8s.io/kubernetes``' module file, which names those parts.
        version: of Kubernetes, as ``1.34.4``; that of its parts begins with 0.
    """
    part = "v0." + version.partition(".")[2]
    replaced = "".join(f"\t{name} => {name} {part}\n" for name in _STAGED.findall(kubernetes))
    go = next(line for line in kubernetes.splitlines() if line.startswith("go "))
    return (
        f"module taskctl.dev/realnode\n\n{go}\n\n"
        f"require k8s.io/kubernetes v{version}\n\nreplace (\n{replaced})\n"
    )


def run_go(directory: Path, *arguments: str) -> str:
    """Run a command of Go's in a module; returns what it prints.

    Raises:
        SystemExit: it failed, with its words.
    """
    env = dict(os.environ, CGO_ENABLED="0")
    done = subprocess.run(
        ["go", *arguments], cwd=directory, env=env, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = done.stdout + done.stderr
        raise SystemExit(f"go {arguments[0]} {arguments[1]} failed in {directory}\n{said}")
    return done.stdout
