"""Build the wheels of all platforms; see scripts/build_hook.py for what is in them.

    python scripts/build_wheels.py [--output DIR] [--sdist] [TARGET]...

Prints the path of each. Nothing is downloaded: hatchling and ziglang are those of this environment.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.build_hook import COMPILE_TIMEOUT_S, ROOT, TARGET_VARIABLE, TARGETS

SDIST: Final = "sdist"


class BuildError(Exception):
    """A wheel could not be built; the message is what hatchling said."""


def build(targets: Sequence[str], output: Path) -> Iterator[Path]:
    """Build and yield one file after another.

    Args:
        targets: keys of ``TARGETS``, or ``SDIST``.
        output: directory; made if it is not there.

    Raises:
        BuildError: see above.
    """
    output.mkdir(parents=True, exist_ok=True)
    for target in targets:
        with tempfile.TemporaryDirectory(prefix=".build-", dir=output) as folder:
            [built] = _build(target, Path(folder))
            yield built.replace(output / built.name)


def _build(target: str, folder: Path) -> Iterator[Path]:
    kind = SDIST if target == SDIST else "wheel"
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)],
        cwd=ROOT,
        env=os.environ | ({} if target == SDIST else {TARGET_VARIABLE: target}),
        capture_output=True,
        text=True,
        timeout=COMPILE_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise BuildError(f"{target}: {done.stdout}{done.stderr}")
    return folder.iterdir()


def main() -> int:
    """Build what the command line names."""
    parser = argparse.ArgumentParser(
        prog="wheels", description="Build the wheels of all platforms."
    )
    parser.add_argument("target", nargs="*", choices=[[], *TARGETS], help="default: all")
    parser.add_argument("--output", "-o", type=Path, default=ROOT / "dist", help="default: dist")
    parser.add_argument("--sdist", action="store_true", help="also the source archive")
    args = parser.parse_args()
    targets = [*(args.target or TARGETS), *([SDIST] if args.sdist else [])]
    try:
        for path in build(targets, args.output.resolve()):
            print(path, flush=True)
    except (BuildError, OSError, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
