"""Make the files of a release: wheels, source archive, bill of materials, their hashes.

    python scripts/build_release.py TAG [--output DIR]

Nothing is built unless the tag is on this commit, the tree is clean, every file that states a
version states that of the tag, and the changelog has its date. So `taskctl --version` is the tag's.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.build_hook import ROOT, TARGETS
from scripts.build_wheels import SDIST, BuildError, build

# By file: what its version stands after, and in what form.
STATED: Final = {
    "pyproject.toml": r'^version = "(.+)"$',
    "taskctl/__init__.py": r'^__version__ = "(.+)"$',
    "Containerfile": r'org\.opencontainers\.image\.version="(.+?)"',
    "config/helm/taskctl/Chart.yaml": r'^appVersion: "?([^"\n]+)"?$',
}


def complaints(tag: str, root: Path = ROOT) -> Iterator[str]:
    """Yield what is wrong with the files for a release of that tag, each with its remedy."""
    if not re.fullmatch(r"v\d+\.\d+\.\d+((a|b|rc)\d+)?", tag):
        yield f"{tag}: a release is named vMAJOR.MINOR.PATCH, with aN, bN or rcN for a pre-release"
        return
    version = tag.removeprefix("v")
    for name, pattern in STATED.items():
        found = re.search(pattern, (root / name).read_text(encoding="utf-8"), re.MULTILINE)
        if found is None or found[1] != version:
            yield f"{name}: states version {found[1] if found else 'none'}; make it {version}"
    heading = rf"^## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)$"
    if not re.search(heading, (root / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE):
        yield f"CHANGELOG.md: has no heading `## {version} (YYYY-MM-DD)`; give it the date"


def state_of_tree(tag: str) -> Iterator[str]:
    """Yield why this commit is not what the tag names."""
    if changed := _git("status", "--porcelain"):
        yield f"the working copy has changes; commit or remove them:\n{changed}"
    if tag not in _git("tag", "--points-at", "HEAD").split():
        yield f"{tag} is not a tag of this commit; run: git tag -s {tag}"


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()


def make(output: Path) -> Iterator[Path]:
    """Build everything and yield it, the hashes last."""
    files = []
    for path in build([*TARGETS, SDIST], output):
        files.append(path)
        yield path
    bill = output / "taskctl.cdx.json"
    command = [sys.executable, str(ROOT / "scripts" / "gen_sbom.py"), "--output", str(bill)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise BuildError(done.stderr)
    files.append(bill)
    yield bill
    sums = output / "SHA256SUMS"
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    sums.write_text("".join(lines), encoding="utf-8")
    yield sums


def main() -> int:
    """Check, then build."""
    parser = argparse.ArgumentParser(prog="release", description="Make the files of a release.")
    parser.add_argument("tag", help="for example v0.1.0")
    parser.add_argument("--output", "-o", type=Path, default=ROOT / "dist", help="default: dist")
    args = parser.parse_args()
    try:
        wrong = [*complaints(args.tag), *state_of_tree(args.tag)]
        if wrong:
            print("\n".join(wrong), file=sys.stderr)
            return 1
        for path in make(args.output.resolve()):
            print(path, flush=True)
    except (BuildError, OSError, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
