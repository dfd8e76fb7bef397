"""What a container's processes cannot do to the kernel and the host, as root and as a user.

Each attack is a program that prints what it reached; the same program is run with everything
allowed as well, where that does no harm, so that a test cannot pass because the attack is broken.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from taskctl.init import shim_binary_path
from tests.unit.embedded_node.shim_box import Outcome, ShimBox

PYTHON = os.path.realpath(sys.executable)


@pytest.fixture(params=["root", "root, sanitized", "user"])
def guarded(request: pytest.FixtureRequest, open_tmp: Path) -> Guarded:
    if request.param == "user":
        return Guarded(request.getfixturevalue("user_box"), "umpf")
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if request.param == "root":
        return Guarded(ShimBox(open_tmp, shim_binary_path()), "mpf")
    return Guarded(ShimBox(open_tmp, request.getfixturevalue("sanitized_shim")), "mpf")


class Guarded:
    """Runs programs in containers of one kind of isolation."""

    def __init__(self, box: ShimBox, mode: str) -> None:
        self._box = box
        self._mode = mode
        self.is_root = not box.prefix and os.geteuid() == 0

    def sh(self, script: str, *extra: str) -> Outcome:
        return self._run(("sh", "-c", script), extra)

    def python(self, script: str, *extra: str) -> Outcome:
        # The interpreter may lie below /root or /tmp, where an ordinary user cannot go.
        interpreter = PYTHON if self.is_root else "/usr/bin/python3"
        if not os.path.exists(interpreter):
            pytest.skip(f"needs {interpreter}")
        return self._run((interpreter, "-I", "-c", script), extra)

    def _run(self, command: tuple[str, ...], extra: tuple[str, ...]) -> Outcome:
        result = self._box.run(self._mode, *command, extra=extra)
        if "create the process" in result.exit.message:
            pytest.skip(f"no user namespaces here: {result.exit.message}")
        assert not result.exit.start_error, result.exit.message
        return result


def test_devices_are_the_harmless_ones(guarded: Guarded) -> None:
    result = guarded.sh("ls /dev | sort | xargs; stat -f -c %T /dev; touch /dev/x || echo sealed")
    names = set(result.stdout[0].split())
    assert names == {
        "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
        "urandom", "zero",
    }  # fmt: skip
    assert result.stdout[-1] == "sealed"


def test_devices_work(guarded: Guarded) -> None:
    script = (
        "echo lost > /dev/null; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c;"
        " echo x > /dev/full || echo full; echo out > /dev/stdout; echo mine > /dev/shm/f;"
        " cat /dev/shm/f"
    )
    assert guarded.sh(script).stdout == ["3", "3", "full", "out", "mine"]


def test_shared_memory_and_terminals_are_private(guarded: Guarded) -> None:
    secret = Path("/dev/shm") / f"taskctl-test-{os.getpid()}"
    secret.write_text("host")
    try:
        script = (
            "import os, multiprocessing as m; print(sorted(os.listdir('/dev/shm')));"
            " m.Lock(); master, slave = os.openpty(); print(os.ttyname(slave))"
        )
        result = guarded.python(script)
    finally:
        secret.unlink()
    assert result.stdout == ["[]", "/dev/pts/0"], result.stderr


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/vm/drop_caches",
        "/proc/sysrq-trigger",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/kernel/uevent_helper",
    ],
)
def test_the_kernel_cannot_be_told(guarded: Guarded, path: str) -> None:
    if not Path(path).exists():
        pytest.skip("this kernel has no such file")
    # Opened for writing, never written: on a host without protection nothing must happen.
    assert guarded.sh(f"(: >> {path}) 2>/dev/null && echo open || echo shut").stdout == ["shut"]


def test_no_mount_of_the_kernel_is_writable(guarded: Guarded) -> None:
    script = (
        "grep -E ' /(sys|proc/(sys|bus|irq|fs))(/| )' /proc/self/mountinfo"
        " | awk '{print $5, $6}' | grep -v ' ro' || echo none"
    )
    assert guarded.sh(script).stdout == ["none"]


def test_hidden_files_of_the_kernel_are_empty(guarded: Guarded) -> None:
    script = (
        "cat /proc/keys /proc/timer_list /proc/kcore 2>/dev/null | head -c 9 | wc -c;"
        " ls -A /sys/firmware 2>/dev/null | wc -l"
    )
    assert guarded.sh(script).stdout == ["0", "0"]


def test_no_capability_is_left(guarded: Guarded) -> None:
    result = guarded.sh("grep -E 'Cap(Prm|Eff|Bnd|Inh|Amb)' /proc/self/status | cut -f 2 | sort -u")
    assert result.stdout == ["0" * 16]
    status = guarded.sh("grep -E 'NoNewPrivs|Seccomp:' /proc/self/status | cut -f 2")
    assert status.stdout == ["1", "2"]


def test_what_was_asked_for_is_kept(guarded: Guarded) -> None:
    if not guarded.is_root:
        pytest.skip("an ordinary user's program has no capabilities after exec")
    result = guarded.sh("grep CapEff /proc/self/status | cut -f 2", "cap", "13", "cap", "0")
    assert int(result.stdout[0], 16) == 1 << 13 | 1
    kept = guarded.sh("mount -t tmpfs none /mnt && echo mounted", "cap", "21")
    assert kept.stdout == ["mounted"]  # CAP_SYS_ADMIN opens the filter for mount(), too


RAW_SOCKETS = """
import socket
for family, kind, protocol in [(socket.AF_INET, socket.SOCK_RAW, 255),
                               (socket.AF_PACKET, socket.SOCK_RAW, 0x0300)]:
    try:
        socket.socket(family, kind, protocol)
        print("open")
    except OSError as error:
        print(type(error).__name__)
"""


def test_the_loopback_cannot_be_listened_to(guarded: Guarded) -> None:
    assert guarded.python(RAW_SOCKETS).stdout == ["PermissionError", "PermissionError"]
    if guarded.is_root:
        assert guarded.python(RAW_SOCKETS, "privileged", "yes").stdout == ["open", "open"]


def test_the_hosts_sockets_are_out_of_reach(guarded: Guarded) -> None:
    result = guarded.sh("ls -A /run | wc -l; ls -A /var/run/ | wc -l; touch /run/mine && echo own")
    assert result.stdout == ["0", "0", "own"]
    assert not Path("/run/mine").exists()


ABSTRACT = """
import socket, sys
def reach(name):
    try:
        socket.socket(socket.AF_UNIX).connect(name)
        print("reached")
    except OSError as error:
        print(type(error).__name__)
reach("\\0" + sys.argv[1])
own = socket.socket(socket.AF_UNIX)
own.bind("\\0own" + sys.argv[1])
own.listen()
reach("\\0own" + sys.argv[1])
"""


def test_the_hosts_abstract_sockets_are_out_of_reach(guarded: Guarded) -> None:
    if tuple(int(part) for part in os.uname().release.split(".")[:2]) < (6, 12):
        pytest.skip("this kernel cannot keep a process from abstract sockets")
    name = f"taskctl-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as bus:
        bus.bind("\0" + name)
        bus.listen()
        script = ABSTRACT.replace("sys.argv[1]", repr(name))
        result = guarded.python(script)
        free = guarded.python(script, "privileged", "yes") if guarded.is_root else None
    assert result.stdout == ["PermissionError", "reached"], result.stderr
    if free is not None:
        assert free.stdout == ["reached", "reached"]


# Calls with arguments that do nothing even where they are allowed.
CALLS = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *args):
    ctypes.set_errno(0)
    getattr(libc, name)(*args)
    return errno.errorcode.get(ctypes.get_errno(), "done")
def number(n, *args):
    ctypes.set_errno(0)
    libc.syscall(n, *args)
    return errno.errorcode.get(ctypes.get_errno(), "done")
print("unshare", call("unshare", 0x10000000))                     # CLONE_NEWUSER
print("mount", call("mount", None, None, None, 0, None))
print("umount", call("umount2", b"/no/such/path", 0))
print("setns", call("setns", -1, 0))
print("io_uring_setup", number(425, 0, None))
print("clone3", number(435, None, 0))
print("unknown", number(5000))
print("getppid", call("getppid"))
"""


def test_calls_that_lead_out_are_refused(guarded: Guarded) -> None:
    result = guarded.python(CALLS)
    assert dict(line.split() for line in result.stdout) == {
        "unshare": "EPERM",
        "mount": "EPERM",
        "umount": "EPERM",
        "setns": "EPERM",
        "io_uring_setup": "EPERM",
        "clone3": "ENOSYS",
        "unknown": "ENOSYS",
        "getppid": "done",
    }, result.stderr
    free = dict(line.split() for line in guarded.python(CALLS, "calls", "all").stdout)
    assert free["clone3"] != "ENOSYS"
    assert free["unshare"] == "done"


def test_threads_and_processes_still_start(guarded: Guarded) -> None:
    script = (
        "import subprocess, threading, os; t = threading.Thread(target=print, args=('thread',));"
        " t.start(); t.join(); print(subprocess.check_output(['printf', 'process'], text=True));"
        " pid = os.fork(); pid or os._exit(0); print(os.waitpid(pid, 0)[1])"
    )
    result = guarded.python(script)
    assert result.stdout == ["thread", "process", "0"], result.stderr


def test_other_processes_are_out_of_reach(guarded: Guarded) -> None:
    victim = os.getpid()
    script = (
        f"ls -d /proc/{victim} 2>/dev/null; kill -0 {victim} 2>/dev/null && echo reached; echo done"
    )
    assert guarded.sh(script).stdout == ["done"]
