"""The image with Debian's Python: debootstrap, and less of it."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.realnode.images import ImageError, run, run_in

SUITE = "bookworm"
# What that suite brings; packages with compiled code are chosen for it.
PYTHON_VERSION = "3.11"
GLIBC = (2, 36)
PACKAGES = ("python3", "ca-certificates")
# apt, what only apt needs, and what serves installing packages or mounting disks.
PURGED = (
    "apt", "libapt-pkg6.0", "gpgv", "debian-archive-keyring", "libgnutls30", "libp11-kit0",
    "libnettle8", "libhogweed6", "libidn2-0", "libunistring2", "libtasn1-6", "libseccomp2",
    "libxxhash0", "e2fsprogs", "logsave", "libext2fs2", "libss2", "mount", "perl-base", "adduser",
)  # fmt: skip
EMPTIED = (
    "dev", "tmp", "var/log", "var/tmp", "var/cache", "var/lib/apt", "usr/share/doc",
    "usr/share/info", "usr/share/lintian", "usr/share/locale", "usr/share/man",
)  # fmt: skip
# Taken from the machine that builds; a container gets its own.
HOST_FILES = ("etc/hostname", "etc/resolv.conf", "etc/machine-id")
# Each is part of Python only if a library outside of Python is there.
CHECK = "import asyncio, bz2, ctypes, hashlib, lzma, sqlite3, ssl, uuid, zlib"


def make_root(root: Path) -> None:
    """Make the root file system; takes most of a minute.

    Raises:
        ImageError: debootstrap failed, or Python does not work in what it made.
    """
    run(
        "debootstrap", "--variant=minbase", "--force-check-gpg",
        f"--include={','.join(PACKAGES)}", SUITE, str(root),
    )  # fmt: skip
    # "--force-all" as some are essential by Debian's standards and perl serves debconf.
    run_in(root, "dpkg", "--purge", "--force-all", *PURGED)
    for directory in EMPTIED:
        _empty(root / directory)
    for name in HOST_FILES:
        (root / name).unlink(missing_ok=True)
    check(root)


def check(root: Path) -> None:
    """Raise ImageError if Python, or the version it should be, is not in the tree."""
    code = f"{CHECK}, sys; print('%d.%d' % sys.version_info[:2])"
    found = run_in(root, "python3", "-c", code).strip()
    if found != PYTHON_VERSION:
        raise ImageError(f"{SUITE} has Python {found}, not {PYTHON_VERSION}")


def _empty(directory: Path) -> None:
    for entry in directory.iterdir() if directory.is_dir() else ():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
