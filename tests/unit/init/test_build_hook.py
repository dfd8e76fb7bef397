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


def initialize(build_hook: ModuleType, target: str) -> dict[str, Any]:
    hook = object.__new__(build_hook.CustomBuildHook)
    type(hook).target_name = property(lambda _: target)
    build_data: dict[str, Any] = {"pure_python": True, "artifacts": []}
    hook.initialize("standard", build_data)
    return build_data


@pytest.mark.skipif(sys.platform != "linux", reason="the tag is for Linux")
def test_wheel_is_for_this_platform(
    build_hook: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []

    def compile_all(arch: str) -> list[Path]:
        compiled.append(arch)
        return [build_hook.SOURCES / "bin" / "shim"]

    monkeypatch.setattr(build_hook, "compile_all", compile_all)
    arch = build_hook.machine()
    assert initialize(build_hook, "wheel") == {
        "pure_python": False,
        "artifacts": ["/taskctl/init/bin/shim"],
        "tag": f"py3-none-manylinux2014_{arch}.musllinux_1_1_{arch}",
    }
    assert compiled == [arch]
    assert initialize(build_hook, "sdist") == {"pure_python": True, "artifacts": []}
    assert compiled == [arch], "a source archive holds no binaries"


def test_all_programs_are_compiled(build_hook: ModuleType) -> None:
    names = {path.stem for path in build_hook.SOURCES.glob("*.c")}
    assert "taskctl-init" in names


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
