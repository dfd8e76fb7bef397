"""The build hook: what is compiled, when, and what the wheel says about it."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from taskctl import init
from taskctl.errors import ConfigError

SOURCE = '#include "part.h"\nint main(void) { return CODE; }\n'


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "part.h").write_text("enum { CODE = 5 };\n")
    path = folder / "program.c"
    path.write_text(SOURCE)
    return path


def test_compiles_once(build_hook: ModuleType, source: Path, tmp_path: Path) -> None:
    binary = build_hook.compile_one(source, tmp_path / "program", build_hook.machine())
    assert subprocess.run([binary], check=False).returncode == 5
    first = binary.stat().st_ino
    build_hook.compile_one(source, binary, build_hook.machine())
    assert binary.stat().st_ino == first, "left as it is"
    (source.parent / "part.h").write_text("enum { CODE = 6 };\n")
    build_hook.compile_one(source, binary, build_hook.machine())
    assert subprocess.run([binary], check=False).returncode == 6
    second = binary.stat().st_ino
    build_hook.compile_one(source, binary, build_hook.machine(), force=True)
    assert binary.stat().st_ino != second


def test_another_command_is_another_binary(
    build_hook: ModuleType, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = build_hook.compile_one(source, tmp_path / "program", build_hook.machine())
    first = binary.stat().st_ino
    monkeypatch.setattr(build_hook, "version", lambda: "9.9.9")
    build_hook.compile_one(source, binary, build_hook.machine())
    assert binary.stat().st_ino != first


def test_builds_at_once_do_not_disturb_each_other(
    build_hook: ModuleType, source: Path, tmp_path: Path
) -> None:
    binary = tmp_path / "program"
    arguments = (source, binary, build_hook.machine())
    threads = [threading.Thread(target=build_hook.compile_one, args=arguments) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert subprocess.run([binary], check=False).returncode == 5
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["program"]


def test_mistake_in_the_source(build_hook: ModuleType, source: Path, tmp_path: Path) -> None:
    source.write_text("int main(void) { int unused; return 0; }\n")
    with pytest.raises(build_hook.CompileError, match="unused"):
        build_hook.compile_one(source, tmp_path / "program", build_hook.machine())
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_too_few_open_files_names_the_remedy(build_hook: ModuleType, tmp_path: Path) -> None:
    words = "crypt.c:1:1: note: failed to spawn: ProcessFdQuotaExceeded"
    said = tmp_path / "said"
    said.write_text(words)
    with pytest.raises(build_hook.CompileError) as raised:
        build_hook._run(["sh", "-c", f"cat {said} >&2; exit 1"])
    assert "--ulimit nofile=20000:20000" in str(raised.value)
    assert words not in str(raised.value), "Zig says it some hundred times"
    assert build_hook.too_few_open_files("error: unused variable") is None


def test_no_compiler(build_hook: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_hook.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(build_hook.shutil, "which", lambda _: None)
    with pytest.raises(build_hook.CompileError, match="pip install ziglang"):
        build_hook.compiler("x86_64")


def test_c_compiler_instead(build_hook: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_hook.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(build_hook.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert build_hook.compiler(build_hook.machine()) == ["/usr/bin/cc"]
    other = next(arch for arch in build_hook.ARCHES if arch != build_hook.machine())
    with pytest.raises(build_hook.CompileError, match="cannot build for"):
        build_hook.compiler(other)


def test_unknown_machine(build_hook: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_hook.platform, "machine", lambda: "riscv64")
    with pytest.raises(build_hook.CompileError, match="riscv64"):
        build_hook.machine()


def initialize(build_hook: ModuleType, target: str, version: str = "standard") -> dict[str, Any]:
    hook = object.__new__(build_hook.CustomBuildHook)
    type(hook).target_name = property(lambda _: target)
    build_data: dict[str, Any] = {"pure_python": True, "artifacts": [], "force_include": {}}
    hook.initialize(version, build_data)
    return build_data


@pytest.fixture
def compiled(build_hook: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Nothing is compiled; returns for which architecture and into which folder it would be."""
    asked: list[tuple[str, str]] = []

    def compile_all(arch: str, output: Path | None = None) -> list[Path]:
        folder = output or build_hook.SOURCES / "bin"
        asked.append((arch, folder.relative_to(build_hook.ROOT).as_posix()))
        return [folder / "shim"]

    monkeypatch.setattr(build_hook, "compile_all", compile_all)
    monkeypatch.delenv(build_hook.TARGET_VARIABLE, raising=False)
    return asked


@pytest.mark.skipif(sys.platform != "linux", reason="the tag is for Linux")
def test_wheel_is_for_this_platform(
    build_hook: ModuleType, compiled: list[tuple[str, str]]
) -> None:
    arch = build_hook.machine()
    found = initialize(build_hook, "wheel")
    assert found == {
        "pure_python": False,
        "artifacts": ["/taskctl/init/bin/shim"],
        "force_include": {},
        "tag": f"py3-none-manylinux2014_{arch}.manylinux_2_17_{arch}.musllinux_1_1_{arch}",
        "sbom_files": [f"build/wheels/linux-{arch}/taskctl.cdx.json"],
    }
    assert compiled == [(arch, "taskctl/init/bin")]
    sdist = initialize(build_hook, "sdist")
    assert sdist == {"pure_python": True, "artifacts": [], "force_include": {}}
    assert len(compiled) == 1, "a source archive holds no binaries"


def test_wheel_for_another_platform_leaves_the_programs_of_this_one_alone(
    build_hook: ModuleType, compiled: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = next(name for name in build_hook.TARGETS if name != build_hook.own_target())
    arch = build_hook.TARGETS[other].arch
    monkeypatch.setenv(build_hook.TARGET_VARIABLE, other)
    found = initialize(build_hook, "wheel")
    folder = build_hook.BUILD / other
    assert found["force_include"] == {str(folder / "shim"): "taskctl/init/bin/shim"}
    assert (found["artifacts"], found["tag"]) == ([], build_hook.TARGETS[other].tag)
    assert compiled == [(arch, f"build/wheels/{other}")]
    initialize(build_hook, "wheel", "editable")
    assert compiled[1:] == [(build_hook.machine(), "taskctl/init/bin")], "for this machine"


def test_wheel_for_macos_has_no_programs(
    build_hook: ModuleType, compiled: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_hook.sys, "platform", "darwin")
    assert build_hook.own_target() == "macos"
    found = initialize(build_hook, "wheel")
    assert (found["tag"], found["artifacts"], found["force_include"], compiled) == (
        "py3-none-macosx_11_0_universal2", [], {}, []
    )  # fmt: skip


def test_unknown_platforms_are_refused(
    build_hook: ModuleType, compiled: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(build_hook.TARGET_VARIABLE, "linux-riscv64")
    with pytest.raises(build_hook.CompileError, match="linux-riscv64: there are linux-x86_64"):
        initialize(build_hook, "wheel")
    monkeypatch.delenv(build_hook.TARGET_VARIABLE)
    monkeypatch.setattr(build_hook.sys, "platform", "win32")
    with pytest.raises(build_hook.CompileError, match="Linux and macOS, not for win32"):
        initialize(build_hook, "wheel")
    assert compiled == []


def test_what_is_linked_in_depends_on_the_compiler(
    build_hook: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert build_hook._libc(["/usr/bin/cc"])["description"].endswith("by /usr/bin/cc")
    found = build_hook._libc(build_hook._zig("aarch64"))
    assert found["purl"] == f"pkg:generic/musl@{found['version']}"
    monkeypatch.setattr(build_hook, "_musl_version", lambda: None)
    assert "version" not in build_hook._libc(build_hook._zig("aarch64"))


def test_all_programs_are_compiled(build_hook: ModuleType) -> None:
    assert {path.name for path in build_hook.programs()} == {"shim", "taskctl-init"}


def test_a_folder_of_units_is_one_program(build_hook: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "adder"
    folder.mkdir()
    (folder / "add.h").write_text("int add(int a, int b);\n")
    (folder / "add.c").write_text('#include "add.h"\nint add(int a, int b) { return a + b; }\n')
    (folder / "main.c").write_text('#include "add.h"\nint main(void) { return add(3, 4); }\n')
    binary = build_hook.compile_one(folder, tmp_path / "out", build_hook.machine())
    assert subprocess.run([binary], check=False).returncode == 7
    first = binary.stat().st_ino
    build_hook.compile_one(folder, binary, build_hook.machine())
    assert binary.stat().st_ino == first, "left as it is"
    (folder / "add.c").write_text('#include "add.h"\nint add(int a, int b) { return a - b; }\n')
    build_hook.compile_one(folder, binary, build_hook.machine())
    assert subprocess.run([binary], check=False).returncode == 255


def test_units_are_short(build_hook: ModuleType) -> None:
    long = {
        path.name: lines
        for path in build_hook.SOURCES.glob("*/*.[ch]")
        if (lines := len(path.read_text().splitlines())) > 500
    }
    assert not long


def test_binaries_are_found(build_hook: ModuleType) -> None:
    build_hook.compile_all(build_hook.machine())
    assert init.init_binary_path().name == "taskctl-init"
    assert init.shim_binary_path().name == "shim"


def test_missing_binary_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(init, "_BIN", tmp_path)
    with pytest.raises(ConfigError, match=r"python scripts/build_hook\.py"):
        init.init_binary_path()
    (tmp_path / "shim").touch(mode=0o644)
    with pytest.raises(ConfigError, match="not executable"):
        init.shim_binary_path()


def test_released_binary_is_static_and_small(build_hook: ModuleType) -> None:
    content = init.init_binary_path().read_bytes()
    assert content[:4] == b"\x7fELF"
    assert b"ld-linux" not in content
    assert b"ld-musl" not in content
    assert len(content) < 200_000
