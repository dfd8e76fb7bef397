"""What layers make together, against a model that is written another way."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskctl.embedded.images.model import Entry, EntryKind, ImageError, Meta
from taskctl.embedded.images.tree import (
    Directory,
    Fifo,
    File,
    Node,
    Symlink,
    add_mount_points,
    merge,
    split,
)

META = Meta(0o755)


def file(path: str, number: int = 0) -> Entry:
    return Entry(path, EntryKind.FILE, META, number=number)


def folder(path: str) -> Entry:
    return Entry(path, EntryKind.DIRECTORY, META)


def symlink(path: str, target: str) -> Entry:
    return Entry(path, EntryKind.SYMLINK, META, target=target)


def hardlink(path: str, target: str) -> Entry:
    return Entry(path, EntryKind.HARDLINK, META, target=target)


def paths(root: Directory, prefix: str = "") -> dict[str, Node]:
    found: dict[str, Node] = {}
    for name, node in root.children.items():
        found[prefix + name] = node
        if isinstance(node, Directory):
            found |= paths(node, f"{prefix}{name}/")
    return found


def names(*layers: list[Entry]) -> set[str]:
    return set(paths(merge(layers)))


HOSTILE = {
    "absolute": [file("/etc/passwd")],
    "up": [file("../x")],
    "up inside": [file("a/../../x")],
    "only up": [folder("..")],
    "hard link up": [file("a"), hardlink("b", "../a")],
    "hard link absolute": [hardlink("b", "/etc/passwd")],
    "hard link to nothing": [hardlink("b", "a")],
    "hard link to a directory": [folder("a"), hardlink("b", "a")],
    "hard link through a link out": [symlink("a", "../.."), hardlink("b", "a/etc/passwd")],
    "through a link out": [symlink("a", "../../tmp"), file("a/x")],
    "through an absolute link to nothing": [symlink("a", "/tmp/outside"), file("a/x")],
    "through links": [symlink("a", "."), symlink("a/b", ".."), file("b/x")],
    "through a chain": [folder("d"), symlink("d/a", ".."), symlink("b", "d/a/.."), file("b/x")],
    "in a circle": [symlink("a", "b"), symlink("b", "a"), file("a/x")],
    "below a file": [file("a"), file("a/x")],
    "below a link to a file": [file("a"), symlink("b", "a"), file("b/x")],
    "the root is a file": [file("./")],
    "a link to nothing at all": [symlink("a", "")],
    "hides itself": [file("a/.wh..")],
    "hides above": [file("a/.wh...")],
    "hides no name": [file("a/.wh.")],
    "below a whiteout": [file(".wh.a/x")],
    "a long name": [file("x" * 256)],
    "a deep path": [file("a/" * 200 + "x")],
}


@pytest.mark.parametrize("entries", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_layers_are_refused(entries: list[Entry]) -> None:
    with pytest.raises(ImageError):
        merge([entries])


def test_links_lead_within_the_image() -> None:
    base = [folder("usr"), folder("usr/lib"), symlink("lib", "usr/lib"), symlink("abs", "/usr")]
    found = names(base, [file("lib/a"), file("abs/b"), hardlink("c", "lib/a")])
    assert found >= {"usr/lib/a", "usr/b", "c"}


def test_an_upper_layer_replaces_and_hides() -> None:
    base = [folder("a"), file("a/one"), file("a/two"), file("b"), folder("c"), file("c/x")]
    assert names(base, [file("a/.wh.one")]) == {"a", "a/two", "b", "c", "c/x"}
    assert names(base, [file(".wh.a")]) == {"b", "c", "c/x"}
    assert names(base, [file("a/.wh..wh..opq")]) == {"a", "b", "c", "c/x"}
    assert names(base, [file("a")]) == {"a", "b", "c", "c/x"}
    assert names(base, [file(".wh.missing"), file("no/.wh.x")]) == names(base)
    assert names(base, [file(".wh..wh.plnk")]) == names(base)  # aufs kept its own there


def test_a_whiteout_spares_its_own_layer() -> None:
    """Wherever it stands in the layer (OCI image spec, layer.md)."""
    base = [folder("a"), file("a/old")]
    for entries in (
        [folder("a"), file("a/.wh..wh..opq"), file("a/new")],
        [folder("a"), file("a/new"), file("a/.wh..wh..opq")],
        [file("a/new"), file(".wh.a")],
    ):
        assert names(base, entries) == {"a", "a/new"}


def test_a_whiteout_does_not_follow_links() -> None:
    base = [folder("b"), file("b/x"), symlink("a", "b")]
    entries = [folder("a"), file("a/.wh..wh..opq"), file("a/.wh.x"), file("a/y")]
    assert names(base, entries) == {"a", "a/y", "b", "b/x"}


def test_a_directory_keeps_what_is_below_and_replaces_a_link() -> None:
    base = [folder("b"), file("b/x"), symlink("a", "b")]
    assert names(base, [folder("b")]) == {"a", "b", "b/x"}
    found = paths(merge([base, [folder("a")]]))
    assert isinstance(found["a"], Directory)
    assert found["a"].children == {}


def test_hard_links_share_a_node_over_layers() -> None:
    found = paths(merge([[file("a", 7)], [hardlink("b", "./a")]]))
    assert found["a"] is found["b"]


def test_mount_points_are_no_links() -> None:
    hostile = [
        *(symlink(name, "/workspace") for name in ("dev", "proc", "sys")),
        symlink("etc/hosts", "../../../host"),
        Entry("etc/resolv.conf", EntryKind.FIFO, META),
    ]
    root = merge([hostile])
    add_mount_points(root)
    found = paths(root)
    assert all(isinstance(found[name], Directory) for name in ("dev", "proc", "sys"))
    assert all(isinstance(found[f"etc/{n}"], File) for n in ("hosts", "resolv.conf", "hostname"))


PART = st.sampled_from(["a", "b", "c", "..", ".", "", ".wh.a", ".wh.b", ".wh..wh..opq"])
PATH = st.lists(PART, min_size=1, max_size=4).map("/".join)
TARGET = st.one_of(PATH, PATH.map(lambda path: f"/{path}"), PATH.map(lambda path: f"../{path}"))
ENTRY = st.one_of(
    st.builds(file, PATH, st.integers(0, 9)),
    st.builds(folder, PATH),
    st.builds(symlink, PATH, TARGET),
    st.builds(hardlink, PATH, TARGET),
)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.lists(ENTRY, max_size=6), max_size=3))
def test_whatever_is_in_the_layers_a_tree_is_a_tree(layers: list[list[Entry]]) -> None:
    """It is refused, or every name is one that a directory can hold, and no directory in two."""
    try:
        root = merge(layers)
    except ImageError:
        return
    seen: set[int] = set()
    for path, node in paths(root).items():
        assert posixpath.normpath(path) == path
        assert ".." not in path.split("/")
        assert not any(part.startswith(".wh.") for part in path.split("/"))
        assert isinstance(node, (Directory, File, Symlink, Fifo))
        if isinstance(node, Directory):
            assert id(node) not in seen
            seen.add(id(node))


PLAIN = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map("/".join)
PLAIN_ENTRY = st.one_of(
    st.builds(lambda path: ("file", path), PLAIN),
    st.builds(lambda path: ("dir", path), PLAIN),
    st.builds(lambda path: ("hide", path), PLAIN),
    st.builds(lambda path: ("opaque", path), PLAIN),
)


def drop(state: dict[str, str], path: str, *, itself: bool) -> None:
    for known in list(state):
        if known.startswith(f"{path}/") or (itself and known == path):
            del state[known]


def model(layers: list[list[tuple[str, str]]]) -> dict[str, str]:
    """The same by sets of paths: what is below is hidden first, then added to."""
    state: dict[str, str] = {}
    for entries in layers:
        for kind, path in entries:
            if kind in ("hide", "opaque"):
                drop(state, path, itself=kind == "hide")
        for kind, path in entries:
            if kind not in ("file", "dir"):
                continue
            parts = path.split("/")
            for depth in range(1, len(parts)):
                if state.setdefault("/".join(parts[:depth]), "dir") != "dir":
                    raise ImageError("below a file")
            if kind == "file":
                drop(state, path, itself=True)
            state[path] = kind
    return state


def as_entries(layer: list[tuple[str, str]]) -> list[Entry]:
    made = []
    for kind, path in layer:
        if kind in ("file", "dir"):
            made.append(file(path) if kind == "file" else folder(path))
        elif kind == "hide":
            made.append(file(posixpath.join(posixpath.dirname(path), f".wh.{path[-1]}")))
        else:
            made.append(file(f"{path}/.wh..wh..opq"))
    return made


@settings(max_examples=500, deadline=None)
@given(st.lists(st.lists(PLAIN_ENTRY, max_size=6), max_size=4))
def test_layers_make_what_a_model_says(layers: list[list[tuple[str, str]]]) -> None:
    try:
        expected: dict[str, str] | None = model(layers)
    except ImageError:
        expected = None
    try:
        root = merge(as_entries(layer) for layer in layers)
    except ImageError:
        assert expected is None
        return
    kinds = {p: "dir" if isinstance(n, Directory) else "file" for p, n in paths(root).items()}
    assert kinds == expected


@given(st.text(max_size=40))
def test_a_path_is_refused_or_stays_inside(text: str) -> None:
    try:
        parts = split(text)
    except ImageError:
        return
    assert not set(parts) & {"", ".", ".."}
    assert not any("/" in part for part in parts)
