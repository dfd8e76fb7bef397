"""Makes this Python look like macOS's as far as Python code can see, then runs the command line.

    python as_macos.py --version

What only Linux has is taken away, by the lists of typeshed (``sys.platform != "darwin"`` there); so
code that needs it fails as it would on a Mac. Compiled packages stay those of Linux, and the kernel
is Linux: this shows that the client's Python asks for nothing that macOS lacks, and no more.
"""

from __future__ import annotations

import os
import platform
import resource
import select
import signal
import socket
import sys
import sysconfig
import types

LINUX_ONLY = {
    os: """
        O_PATH O_TMPFILE O_DIRECT O_NOATIME O_LARGEFILE O_RSYNC EFD_CLOEXEC
        CLONE_NEWNS SPLICE_F_MOVE GRND_NONBLOCK MFD_CLOEXEC POSIX_FADV_WILLNEED P_PIDFD
        SCHED_BATCH SCHED_IDLE SCHED_RESET_ON_FORK RWF_APPEND XATTR_CREATE
        copy_file_range eventfd eventfd_read eventfd_write fdatasync getrandom getresgid getresuid
        getxattr listxattr memfd_create pidfd_open pipe2 posix_fadvise posix_fallocate removexattr
        sched_getaffinity sched_getparam sched_getscheduler sched_rr_get_interval
        sched_setaffinity sched_setparam sched_setscheduler setns setresgid setresuid setxattr
        splice unshare waitid
    """,
    resource: "prlimit RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_OFILE RLIMIT_RTPRIO RLIMIT_SIGPENDING",
    select: "epoll EPOLLIN EPOLLOUT EPOLLERR EPOLLHUP EPOLL_CLOEXEC POLLRDHUP",
    signal: "pidfd_send_signal sigtimedwait sigwaitinfo SIGPWR SIGSTKFLT SIGPOLL SIGRTMIN SIGRTMAX",
    socket: """
        AF_ALG AF_CAN AF_NETLINK AF_PACKET AF_VSOCK MSG_CMSG_CLOEXEC MSG_NOSIGNAL MSG_ERRQUEUE
        SOCK_CLOEXEC SOCK_NONBLOCK SO_BINDTODEVICE SO_DOMAIN SO_MARK SO_PASSCRED SO_PEERCRED
        SO_PROTOCOL TCP_CORK TCP_KEEPIDLE TCP_QUICKACK TCP_USER_TIMEOUT
    """,
}


def pretend() -> None:
    """Take away what macOS has not; before anything else is loaded."""
    sysconfig.get_config_vars()  # from a file that is named after the platform
    sys.platform = "darwin"
    for module, names in LINUX_ONLY.items():
        for name in names.split():
            if hasattr(module, name):
                delattr(module, name)
    system = types.SimpleNamespace(
        sysname="Darwin", nodename="mac", release="24.0.0", version="", machine="arm64"
    )
    os.uname = lambda: system  # type: ignore[assignment,return-value]
    platform.system = lambda: "Darwin"
    platform.machine = lambda: "arm64"
    proxies = types.ModuleType("_scproxy")  # urllib asks macOS for its settings
    proxies.__dict__.update(_get_proxy_settings=dict, _get_proxies=dict)
    sys.modules["_scproxy"] = proxies


def main() -> None:
    """Run ``taskctl`` with this process's arguments."""
    pretend()
    from taskctl.__main__ import main as run

    sys.argv[0] = "taskctl"
    run()


if __name__ == "__main__":
    main()
