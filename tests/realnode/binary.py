"""The node's one binary: built once from Go modules, kept in the user's cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
VERSION = "1.34.4"
SOURCES = ("go.mod", "go.sum", "main.go")


def cache_dir() -> Path:
    """Return the folder for what outlives a checkout: $XDG_CACHE_HOME/taskctl."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "taskctl"


def ensure_binary() -> Path:
    """Return the binary's path; builds it first if it is not there (some minutes).

    Safe to call from several processes at once: one builds, the others wait.
    """
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in SOURCES))
    binary = cache / f"realnode-{VERSION}-{digest.hexdigest()[:10]}"
    if binary.exists():
        return binary
    with (cache / "realnode.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.exists():
            _build(binary)
    return binary


def _build(binary: Path) -> None:
    if shutil.which("go") is None:
        raise SystemExit(
            f"Building Kubernetes {VERSION} takes Go; install it, or use a machine with Docker "
            "and kind"
        )
    print(f"Building Kubernetes {VERSION} (once, about five minutes on two cores) ...", flush=True)
    major, minor, _ = VERSION.split(".")
    stamp = "k8s.io/component-base/version.git"
    flags = f"-s -w -X {stamp}Version=v{VERSION} -X {stamp}Major={major} -X {stamp}Minor={minor}"
    temporary = binary.with_suffix(f".{os.getpid()}")
    subprocess.run(
        ["go", "build", "-trimpath", "-ldflags", flags, "-o", str(temporary), "."],
        cwd=HERE,
        env=dict(os.environ, CGO_ENABLED="0"),
        check=True,
    )
    temporary.rename(binary)
