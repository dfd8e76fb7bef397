"""Print a software bill of materials (CycloneDX 1.6, JSON) of the wheel and what it is run with.

    python scripts/gen_sbom.py [--wheel FILE] [--extra NAME]... [--output FILE]

The versions are those of scripts/constraints.txt, with which the tests were run. Who depends on
whom and under which licence is read from the metadata of the packages that are installed; one that
is missing, or has another version, is an error and not a gap. The same input gives the same output.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tomllib
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parent.parent
SPEC_VERSION: Final = "1.6"
RUN_EXTRAS: Final = ("client", "controller", "local", "otel", "zstd")
MUSL_REF: Final = "musl"
_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "https://cyclonedx.org/taskctl")

Json = dict[str, Any]


class SbomError(Exception):
    """It cannot be said what the wheel is made of; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Package:
    """A package that is installed, at the version that the constraints name.

    Attributes:
        name: in the form that package indexes compare.
        version: of it.
        licence: as CycloneDX has it; empty: it does not say.
        requires: names of the packages that it asks for here.
    """

    name: str
    version: str
    licence: Json
    requires: tuple[str, ...]

    @property
    def ref(self) -> str:
        """Its package URL."""
        return f"pkg:pypi/{self.name}@{self.version}"


def pinned(text: str) -> dict[str, str]:
    """Return the version of each package in a file of constraints.

    Raises:
        SbomError: a line names no single version.
    """
    found: dict[str, str] = {}
    for line in (line.partition("#")[0].strip() for line in text.splitlines()):
        if not line:
            continue
        name, equals, version = line.partition("==")
        if not equals:
            raise SbomError(f"scripts/constraints.txt: {line!r} names no single version")
        found[canonicalize_name(name.strip())] = version.partition(";")[0].strip()
    return found


def needed(lines: list[str], extras: frozenset[str]) -> Iterator[Requirement]:
    """Yield the requirements that hold on this machine, with some extras."""
    for requirement in map(Requirement, lines):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": one}) for one in ("", *extras)):
            yield requirement


def installed(name: str, extras: frozenset[str], versions: Mapping[str, str]) -> Package:
    """Return a package and what it asks for.

    Raises:
        SbomError: it is not installed, or not at the version that the constraints name.
    """
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise SbomError(f"{name} is not installed; run ./scripts/install") from None
    wanted = versions.get(name)
    if found.version != wanted:
        raise SbomError(
            f"{name} {found.version} is installed, scripts/constraints.txt has {wanted or 'none'}; "
            "run ./scripts/install"
        )
    requires = {canonicalize_name(one.name) for one in needed(found.requires or [], extras)}
    return Package(name, found.version, licence_of(found.metadata), tuple(sorted(requires)))


def licence_of(described: Any) -> Json:
    """Return the most exact that a package's metadata says of its licence."""
    if expression := described.get("License-Expression"):
        return {"expression": str(expression)}
    prefix = "License :: OSI Approved :: "
    named = [one for one in described.get_all("Classifier", []) if one.startswith(prefix)]
    if named:
        return {"license": {"name": "; ".join(one.removeprefix(prefix) for one in named)}}
    text = str(described.get("License") or "").strip()
    if not text or "\n" in text:  # the whole licence, as some have it
        return {}
    return {"license": {"name": text}}


def closure(roots: list[str], extras: frozenset[str], versions: Mapping[str, str]) -> list[Package]:
    """Return the packages that these requirements bring, by name."""
    wanted: dict[str, frozenset[str]] = {}
    todo = list(needed(roots, extras))
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        before = wanted.get(name)
        asked = (before or frozenset()) | frozenset(requirement.extras)
        if asked == before:
            continue
        wanted[name] = asked
        installed(name, asked, versions)
        todo += needed(metadata.distribution(name).requires or [], asked)
    return [installed(name, wanted[name], versions) for name in sorted(wanted)]


def component(package: Package) -> Json:
    """Return a package as CycloneDX has it."""
    found: Json = {
        "type": "library",
        "bom-ref": package.ref,
        "name": package.name,
        "version": package.version,
        "purl": package.ref,
    }
    if package.licence:
        found["licenses"] = [package.licence]
    return found


def document(project: Json, packages: list[Package], versions: Mapping[str, str]) -> Json:
    """Return the bill of materials without hashes of the wheel."""
    own = f"pkg:pypi/{project['name']}@{project['version']}"
    direct = {
        canonicalize_name(Requirement(line).name)
        for extra in ("", *RUN_EXTRAS)
        for line in (project["optional-dependencies"][extra] if extra else project["dependencies"])
    }
    refs = {package.name: package.ref for package in packages}
    musl = {
        "type": "library",
        "bom-ref": MUSL_REF,
        "name": "musl",
        "description": "C library linked into taskctl-init and the shim: the one that comes with "
        f"ziglang {versions['ziglang']}",
        "licenses": [{"license": {"id": "MIT"}}],
    }
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC_VERSION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": project["name"],
                "version": project["version"],
                "description": project["description"],
                "purl": own,
                "licenses": [{"license": {"id": project["license"]}}],
            }
        },
        "components": [*map(component, packages), musl],
        "dependencies": [
            {"ref": own, "dependsOn": [*sorted(refs[n] for n in direct if n in refs), MUSL_REF]},
            *(
                {"ref": one.ref, "dependsOn": [refs[name] for name in one.requires]}
                for one in packages
            ),
            {"ref": MUSL_REF},
        ],
    }


def build(extras: tuple[str, ...], wheel: Path | None = None) -> Json:
    """Return the bill of materials.

    Args:
        extras: of the project, to be counted in.
        wheel: a file whose hash is to be in it.

    Raises:
        SbomError: see above.
        OSError: the wheel cannot be read.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    unknown = set(extras) - set(project["optional-dependencies"])
    if unknown:
        raise SbomError(f"--extra {sorted(unknown)[0]}: pyproject.toml has none of that name")
    versions = pinned((ROOT / "scripts" / "constraints.txt").read_text())
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    found = document(project, closure(lines, frozenset(), versions), versions)
    if wheel is not None:
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        found["metadata"]["component"]["hashes"] = [{"alg": "SHA-256", "content": digest}]
    # What is in it decides on the number, so that it can be made again.
    serial = uuid.uuid5(_NAMESPACE, json.dumps(found, sort_keys=True))
    return {**found, "serialNumber": f"urn:uuid:{serial}"}


def main() -> int:
    """Print it, or write it to a file."""
    parser = argparse.ArgumentParser(description="Print what the wheel is made of and run with.")
    parser.add_argument("--wheel", type=Path, help="also its SHA-256")
    parser.add_argument(
        "--extra", action="append", help=f"only these; default: {', '.join(RUN_EXTRAS)}"
    )
    parser.add_argument("--output", "-o", type=Path, help="default: standard output")
    args = parser.parse_args()
    try:
        found = build(tuple(args.extra) if args.extra else RUN_EXTRAS, args.wheel)
        text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
        if args.output is not None:
            args.output.write_text(text, encoding="utf-8")
        else:
            sys.stdout.write(text)
    except (SbomError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
