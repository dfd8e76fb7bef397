from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskctl.init import shim_binary_path
from tests.unit.embedded_node.shim_box import ShimBox

SOURCE = Path(__file__).resolve().parents[3] / "taskctl" / "init" / "shim"


@pytest.fixture(scope="session")
def sanitized_shim() -> Iterator[Path]:
    """Return a shim that ends with an error where it misuses memory."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("needs gcc")
    directory = Path(tempfile.mkdtemp(prefix="shim-sanitized-"))
    directory.chmod(0o755)
    binary = directory / "shim"
    flags = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    command = [gcc, *flags, "-o", str(binary), *map(str, SOURCE.glob("*.c"))]
    built = subprocess.run(command, capture_output=True)
    errors = built.stderr.decode()
    if "cannot find -lasan" in errors or "cannot find -lubsan" in errors:
        shutil.rmtree(directory)
        pytest.skip("gcc has no sanitizers here")
    assert built.returncode == 0, errors
    yield binary
    shutil.rmtree(directory)


@pytest.fixture
def open_tmp() -> Iterator[Path]:
    """Return a directory that any user may enter; pytest's own are private."""
    path = Path(tempfile.mkdtemp(prefix="shim-test-"))
    path.chmod(0o777)
    yield path
    subprocess.run(["rm", "-rf", str(path)], check=True)


@pytest.fixture(params=["built", "sanitized"])
def box(request: pytest.FixtureRequest, open_tmp: Path) -> ShimBox:
    if request.param == "sanitized":
        return ShimBox(open_tmp, request.getfixturevalue("sanitized_shim"))
    return ShimBox(open_tmp, shim_binary_path())


@pytest.fixture
def user_box(open_tmp: Path) -> ShimBox:
    """Return a box whose shims do not run as root."""
    if os.geteuid() != 0:
        return ShimBox(open_tmp, shim_binary_path())
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("needs setpriv to become another user")
    shim = open_tmp / "shim"  # the source tree may be closed to others
    shutil.copy(shim_binary_path(), shim)
    shim.chmod(0o755)
    user = "65500"
    prefix = [setpriv, "--reuid", user, "--regid", user, "--clear-groups", "--"]
    return ShimBox(open_tmp, shim, prefix)
