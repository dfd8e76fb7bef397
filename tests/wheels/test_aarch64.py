"""The programs for aarch64, as the wheel brings them, run by QEMU on another machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from zipfile import ZipFile

import pytest

from scripts.build_hook import machine
from tests.unit.init.fake_agent import TOKEN, Agent, Init, shell
from tests.wheels.project import PROJECT

pytestmark = pytest.mark.timeout(1000)

QEMUS = ("qemu-aarch64-static", "qemu-aarch64")


@pytest.fixture(scope="module")
def programs(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a script for each program that starts it by QEMU."""
    qemu = next((path for name in QEMUS if (path := shutil.which(name))), None)
    if machine() != "aarch64" and qemu is None:
        if os.environ.get("TASKCTL_REQUIRE_QEMU") == "1":
            pytest.fail("TASKCTL_REQUIRE_QEMU=1, but there is no qemu-aarch64 on PATH")
        pytest.skip("no qemu-aarch64: install qemu-user")
    folder = tmp_path_factory.mktemp("aarch64")
    with ZipFile(wheels["linux-aarch64"]) as archive:
        archive.extractall(folder)
    scripts = folder / "scripts"
    scripts.mkdir()
    for program in (folder / "taskctl" / "init" / "bin").iterdir():
        program.chmod(0o755)  # which zipfile does not, but pip does
        script = scripts / program.name
        script.write_text(f'#!/bin/sh\nexec {qemu or ""} {program} "$@"\n')
        script.chmod(0o755)
    return scripts


def test_it_knows_its_version(programs: Path) -> None:
    done = subprocess.run(
        [programs / "taskctl-init", "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert PROJECT["version"] in done.stdout + done.stderr
    assert done.returncode == 0


def test_it_runs_a_task_and_reports_it(programs: Path, tmp_path: Path) -> None:
    with Agent(tmp_path / "agent.sock") as agent:
        init = Init(programs / "taskctl-init", agent, tmp_path)
        try:
            link = agent.accept()
            link.answer(link.expect("hello"), token=TOKEN)
            link.answer(link.expect("next"), **shell("echo out; exit 3", uid="u", attempt=4))
            report = link.expect("exited")
            assert (report["uid"], report["attempt"], report["code"]) == ("u", 4, 3)
            assert report["tail"] == b"out\n"
            link.answer(report, action="exit", code=3)
            assert init.wait() == 3, init.err
            assert init.out == "out\n"
        finally:
            init.close()
