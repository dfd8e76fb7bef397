"""Images on the disk: what is unpacked, shared, checked, refused and swept away."""

from __future__ import annotations

import collections
import gzip
import io
import json
import os
import stat
import tarfile
from pathlib import Path

import pytest

from taskctl.embedded.images import adding, bounds
from taskctl.embedded.images.model import MIB, ImageError, ImageLimits
from taskctl.embedded.images.names import ImageKind, look_up, parse_assignment
from taskctl.embedded.images.store import ImageStore
from tests import image_builder as build
from tests.image_builder import Image, Item

SMALL = ImageLimits(entries=50, bytes=4 * MIB, ratio_from_bytes=MIB, reserve_bytes=0)
BASE = build.layer(
    [
        build.directory("bin"),
        build.program("bin/sh", "base"),
        build.link("usr", "/bin"),
        build.hard("bin/bash", "bin/sh"),
        Item("set-id", b"x", mode=0o6755),
        Item("disk", kind=tarfile.BLKTYPE),
        Item("tty", kind=tarfile.CHRTYPE),
        Item("pipe", kind=tarfile.FIFOTYPE),
    ]
)
TOP = build.layer([Item("bin/.wh.bash"), build.program("usr/tool", "tool")])


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk of the test machine is shared; what a power cut does is not tested here."""
    monkeypatch.setattr(os, "sync", lambda: None)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images", SMALL)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    return path


def add(store: ImageStore, text: str) -> Path:
    image = adding.add(store, *parse_assignment(text))
    return store.tree_path(image.tree)


@pytest.mark.parametrize("form", ["layout", "oci", "oci:", "docker", "docker.gz", "plain"])
def test_every_form_is_unpacked(store: ImageStore, source: Path, form: str) -> None:
    image = Image([BASE, TOP], compress=form != "plain")
    if form in ("layout", "oci:"):
        path = build.write_layout(source / "layout", image)
    elif form in ("oci", "plain"):
        path = build.write_oci_archive(source / "a.tar", image)
    else:
        path = build.write_docker_archive(source / "a.tar", image)
    if form == "docker.gz":
        packed = path.with_suffix(".gz")
        packed.write_bytes(gzip.compress(path.read_bytes()))
        path = packed
    root = add(store, f"app={'oci:' if form == 'oci:' else ''}{path}")
    assert (root / "bin" / "tool").read_text() == "tool"
    assert sorted(os.listdir(root / "bin")) == ["sh", "tool"]
    assert os.readlink(root / "usr") == "/bin"
    assert not (root / "disk").exists()
    assert not (root / "tty").exists()
    assert stat.S_ISFIFO((root / "pipe").lstat().st_mode)
    assert stat.S_IMODE((root / "set-id").stat().st_mode) == 0o755
    assert all((root / name).is_dir() for name in ("dev", "proc", "sys", "etc"))


def test_layers_are_shared(store: ImageStore, source: Path) -> None:
    first = add(store, f"a={build.write_oci_archive(source / 'a.tar', Image([BASE]))}")
    other = Image([BASE, TOP], {"Env": ["A=1"]})
    second = add(store, f"b={build.write_docker_archive(source / 'b.tar', other)}")
    assert first != second
    assert (first / "bin" / "sh").stat().st_ino == (second / "bin" / "sh").stat().st_ino
    same = Image([BASE, TOP], {"Env": ["A=2"]})
    assert add(store, f"c={build.write_oci_archive(source / 'c.tar', same)}") == second
    assert look_up(store.names(), "c:x").config.env == {"A": "2"}  # type: ignore[union-attr]


def test_owners_and_modes(store: ImageStore, source: Path) -> None:
    items = [build.directory("home", 0o2775, uid=7, gid=8), Item("home/f", mode=0o640, uid=7)]
    root = add(store, f"a={build.write_oci_archive(source / 'a.tar', Image([build.layer(items)]))}")
    found, inner = (root / "home").stat(), (root / "home" / "f").stat()
    assert stat.S_IMODE(found.st_mode) == 0o2775
    assert stat.S_IMODE(inner.st_mode) == 0o640
    assert inner.st_mtime == 1_000_000_000
    if os.geteuid() == 0:
        assert (found.st_uid, found.st_gid, inner.st_uid) == (7, 8, 7)


def test_one_of_several_images_is_found_by_its_name(store: ImageStore, source: Path) -> None:
    images = [Image([BASE], name="a:1"), Image([TOP], name="docker.io/library/b:2")]
    for write in (build.write_oci_archive, build.write_docker_archive):
        path = write(source / "two.tar", *images)
        assert (add(store, f"b:2={path}") / "usr" / "tool").exists()
        with pytest.raises(ImageError, match="not among its 2 images"):
            add(store, f"c={path}")
        assert adding.archive_names(store, path) == ("a:1", "docker.io/library/b:2")


def test_an_archive_that_has_changed_is_read_again(store: ImageStore, source: Path) -> None:
    path = build.write_oci_archive(source / "a.tar", Image([BASE]))
    first = add(store, f"a={path}")
    inode = first.stat().st_ino
    assert add(store, f"a={path}").stat().st_ino == inode
    build.write_oci_archive(path, Image([BASE, TOP]))
    assert add(store, f"a={path}") != first


def test_what_nobody_names_is_swept_away(store: ImageStore, source: Path) -> None:
    first = add(store, f"a={build.write_oci_archive(source / 'a.tar', Image([BASE]))}")
    second = add(store, f"b={build.write_oci_archive(source / 'b.tar', Image([BASE, TOP]))}")
    assert store.sweep(frozenset()) == []
    assert store.forget("b")
    assert not store.forget("b")
    assert store.sweep(frozenset({second.name})) == []
    assert store.sweep(frozenset()) == [second.name]
    assert first.is_dir()
    assert len(list((store.directory / "layers").iterdir())) == 1
    store.forget("a")
    store.sweep(frozenset())
    assert list((store.directory / "layers").iterdir()) == []


@pytest.mark.parametrize("pick", ["config", "layer"])
def test_a_blob_that_is_not_what_its_digest_says(
    store: ImageStore, source: Path, pick: str
) -> None:
    image = Image([BASE], compress=False)
    path = build.write_layout(source / "layout", image)
    digest = build.digest(BASE if pick == "layer" else image.config_document())
    blob = path / "blobs" / digest.replace(":", "/")
    content = blob.read_bytes()
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ImageError, match=r"has the digest .*, not"):
        add(store, f"a={path}")
    assert store.names() == {}
    assert not list((store.directory / "trees").glob("*"))


def test_a_layer_that_is_not_what_its_diff_id_says(store: ImageStore, source: Path) -> None:
    image = Image([BASE])
    wrong = json.loads(image.config_document())
    wrong["rootfs"]["diff_ids"] = ["sha256:" + "0" * 64]
    files = {"c.json": json.dumps(wrong).encode(), "l.tar": BASE}
    files["manifest.json"] = json.dumps(
        [{"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["l.tar"]}]
    ).encode()
    with pytest.raises(ImageError, match="damaged or was changed"):
        add(store, f"a={build.write_tar(source / 'a.tar', files)}")
    assert not list((store.directory / "layers").iterdir())


def bomb(size: int) -> bytes:
    return build.layer([Item("big", b"\0" * size)])


def long_header() -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 2**33
    return info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 4096


REFUSED: dict[str, tuple[list[bytes], str]] = {
    "absolute": ([build.layer([Item("/tmp/x")])], "absolute"),
    "up": ([build.layer([Item("a/../../x")])], r"`\.\.`"),
    "through a link": (
        [build.layer([build.link("a", "/tmp")]), build.layer([Item("a/x", b"1")])],
        "leads to nothing",
    ),
    "a hard link out": ([build.layer([build.hard("a", "../../etc/passwd")])], r"`\.\.`"),
    "many entries": ([build.layer([Item(str(i)) for i in range(60)])], "more than 50 entries"),
    "too large": ([build.layer([Item("a", os.urandom(5 * MIB))])], "GiB"),
    "a bomb": ([bomb(3 * MIB)], "times larger"),
    "a header of 8 GiB": ([long_header()], "a header of the archive"),
    "no tar": ([b"this is no tar archive" * 100], "not a tar archive"),
    "cut off": (
        [build.layer([Item("a", b"1" * 5000)])[:2000]],
        "ends in the middle|not a tar archive",
    ),
    "no such owner": ([build.layer([Item("a", uid=2**40)])], "no such ids|not a tar archive"),
    "unknown kind": ([build.layer([Item("a", kind=b"Z")])], "unknown kind"),
}


@pytest.mark.parametrize(("layers", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_hostile_images_are_refused(
    store: ImageStore, source: Path, layers: list[bytes], message: str
) -> None:
    path = build.write_oci_archive(source / "a.tar", Image(layers))
    with pytest.raises(ImageError, match=message):
        add(store, f"a={path}")
    assert store.names() == {}
    left = [p for p in store.directory.rglob("*") if p.is_file() and p.name in ("x", "big")]
    assert left == []
    assert not list((store.directory / "trees").glob("*"))


def test_the_disk_s_reserve_is_kept(tmp_path: Path, source: Path) -> None:
    store = ImageStore(tmp_path / "images", ImageLimits(reserve_bytes=2**60))
    with pytest.raises(ImageError, match="are kept free"):
        add(store, f"a={build.write_oci_archive(source / 'a.tar', Image([BASE]))}")


def test_an_image_for_another_machine(store: ImageStore, source: Path) -> None:
    path = build.write_oci_archive(source / "a.tar", Image([BASE], architecture="s390x"))
    with pytest.raises(ImageError, match="is for linux/s390x"):
        add(store, f"a={path}")


def test_links_in_a_layout_are_not_followed(store: ImageStore, source: Path) -> None:
    path = build.write_layout(source / "layout", Image([BASE]))
    blob = max((path / "blobs" / "sha256").iterdir(), key=lambda p: p.stat().st_size)
    blob.rename(source / "elsewhere")
    blob.symlink_to(source / "elsewhere")
    with pytest.raises((ImageError, OSError)):
        add(store, f"a=oci:{path}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "must be NAME="),
        ("=x", "must be NAME="),
        ("a=", "must be NAME="),
        ("UP=/x", "not an image name"),
        ("a=/does/not/exist", "is not there"),
        ("a=oci:", "a path must follow"),
        ("a=docker://UP", "not an image reference"),
        ("a*=/tmp", "stands for many"),
        ("a*b*=docker://", "only be the last"),
        ("a=venv:/tmp", "no bin/python"),
        ("a=requirements:/does/not/exist", "cannot be read"),
    ],
)
def test_assignments_that_are_wrong(store: ImageStore, text: str, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        adding.add(store, *parse_assignment(text))


def test_names(store: ImageStore, tmp_path: Path) -> None:
    for name in ("app", "app:2", "reg.example/team/*", "reg.example/*"):
        kind = "docker://" if name.endswith("*") else str(tmp_path)
        adding.add(store, *parse_assignment(f"{name}={kind}"))
    adding.add(store, *parse_assignment("reg.example/one:1=docker://localhost:5000/one:1"))
    names = store.names()

    def source(reference: str) -> str | None:
        found = look_up(names, reference)
        return None if found is None else f"{found.kind}"

    assert source("app:1") == source("docker.io/library/app:2") == ImageKind.FOLDER
    assert source("other") is None
    assert source("reg.example/x:1") == ImageKind.REGISTRY
    found = look_up(names, "reg.example/one:1")
    assert found is not None
    assert found.source == "docker://localhost:5000/one:1"


def test_a_damaged_record_is_told(store: ImageStore, tmp_path: Path) -> None:
    adding.add(store, *parse_assignment(f"app={tmp_path}"))
    (store.directory / "names.json").write_text("{")
    with pytest.raises(ImageError, match="is damaged"):
        store.names()


def test_zstd() -> None:
    zstandard = pytest.importorskip("zstandard")
    packed = zstandard.ZstdCompressor().compress(BASE)
    reader = bounds.Decompressed(io.BytesIO(packed))
    parts = []
    while data := reader.read(1000):
        parts.append(data)
    assert b"".join(parts) == BASE


@pytest.mark.parametrize("size", [1, 7, 65536])
def test_gzip_members_one_after_another(size: int) -> None:
    packed = gzip.compress(BASE[:600]) + gzip.compress(BASE[600:]) + b"\0" * 20
    reader = bounds.Decompressed(io.BytesIO(packed))
    parts = []
    while data := reader.read(size):
        parts.append(data)
    assert b"".join(parts) == BASE


def test_gzip_cut_off() -> None:
    reader = bounds.Decompressed(io.BytesIO(gzip.compress(BASE)[:-9]))
    with pytest.raises(ImageError, match="ends too early"):
        collections.deque(iter(lambda: reader.read(65536), b""), maxlen=0)
