"""Runs a demo on the embedded default: starts the local stack, then the demo's four steps.

    ./scripts/demo counter [--limit N] [--data-dir DIR]

Each step is a small script that also works by hand, against any cluster that $KUBECONFIG
names: demo/counter/setup, start, watch, verify.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
STEPS = ("setup", "start", "watch", "verify")
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30


def image_name(demo: Path) -> str:
    """Return the image that the demo's Task names; its files are in the demo's image/ folder."""
    for line in (demo / "task.yaml").read_text().splitlines():
        key, _, value = line.strip().partition(":")
        if key == "image":
            return value.strip().strip('"')
    raise SystemExit(f"{demo / 'task.yaml'} names no image")


@contextmanager
def local_stack(demo: Path, data_dir: Path) -> Iterator[Path]:
    """Run ``taskctl local`` for as long as the block lasts; yields the kubeconfig's path."""
    command = [
        sys.executable,
        "-m",
        "taskctl",
        "local",
        "--no-cluster",
        "--data-dir",
        str(data_dir),
    ]
    command += ["--image", f"{image_name(demo)}={demo / 'image'}"]
    log_path = data_dir / "demo-stack.log"
    with log_path.open("wb") as log:
        stack = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_ready(stack, data_dir, log_path)
        yield data_dir / "kubeconfig"
    finally:
        stack.send_signal(signal.SIGTERM)
        try:
            stack.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            stack.kill()
            stack.wait()


def wait_ready(stack: subprocess.Popen[bytes], data_dir: Path, log_path: Path) -> None:
    """Wait until ``taskctl local`` says that it is ready."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not (data_dir / "ready").exists():
        if stack.poll() is not None or time.monotonic() > deadline:
            sys.stderr.write(log_path.read_text(errors="replace"))
            raise SystemExit(f"The local stack did not start; its logs are in {data_dir}/logs.")
        time.sleep(0.05)


def run_steps(demo: Path, kubeconfig: Path, limit: int) -> int:
    """Run the demo's steps in order; returns the first exit code that is not 0."""
    env = dict(os.environ, KUBECONFIG=str(kubeconfig), LIMIT=str(limit), PYTHON=sys.executable)
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', os.defpath)}"
    for step in STEPS:
        print(f"\n=== {step}", flush=True)
        code = subprocess.run([str(demo / step)], env=env, check=False).returncode
        if code != 0:
            print(f"Step {step} failed with exit code {code}.", file=sys.stderr)
            return code
    return 0


def show_logs(data_dir: Path) -> None:
    for path in sorted((data_dir / "logs").glob("*.log")):
        tail = path.read_text(errors="replace").splitlines()[-40:]
        print(f"--- {path.name}", *tail, sep="\n", file=sys.stderr)


def main() -> int:
    demos = sorted(path.parent.name for path in HERE.glob("*/setup"))
    parser = argparse.ArgumentParser(prog="demo", description="Run a demo on the local stack.")
    parser.add_argument("demo", choices=demos)
    parser.add_argument("--limit", type=int, default=50, help="count up to this (default: 50)")
    parser.add_argument("--data-dir", type=Path, help="keep the stack's state here")
    args = parser.parse_args()

    demo = HERE / args.demo
    with tempfile.TemporaryDirectory(prefix="taskctl-demo-") as temporary:
        data_dir = args.data_dir or Path(temporary) / "data"
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with local_stack(demo, data_dir.resolve()) as kubeconfig:
            code = run_steps(demo, kubeconfig, args.limit)
            if code != 0:
                show_logs(data_dir)
    return code


if __name__ == "__main__":
    sys.exit(main())
