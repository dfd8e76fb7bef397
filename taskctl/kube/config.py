"""Settings of a client, and where they find the API server.

The search, first hit wins: the path given; ``$KUBECONFIG``; the service account of the
pod we run in; the program's own kubeconfig in the working directory, if it keeps one there
(``ClientSettings.local_kubeconfig``); ``~/.kube/config``.

kubernetes_asyncio takes half a second to import, so plain kubeconfig users (static token,
token file, client certificate, basic) and the in-cluster case are read here; exec plugins
and auth providers go through the library.
"""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from taskctl.errors import ConfigError
from taskctl.kube.credentials import Credentials, NoCredentials, TokenFile
from taskctl.kube.limits import DEFAULT_BURST, DEFAULT_QPS
from taskctl.kube.paging import SMALL_PAGES, PageSizes
from taskctl.kube.retry import RetryPolicy
from taskctl.kube.timing import SYSTEM_TIMING, Timing
from taskctl.kube.tls import TlsSettings

SERVICE_ACCOUNT_DIR: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class RequestObserver(Protocol):
    """Is told of every request sent, for metrics."""

    def __call__(self, *, verb: str, resource: str, code: int, duration_s: float) -> None:
        """Take note of one request; ``code`` is 0 where no answer came."""
        ...


class RetryObserver(Protocol):
    """Is told of every request that is sent again, for metrics."""

    def __call__(self, *, verb: str, resource: str) -> None:
        """Take note of one repetition."""
        ...


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Settings of a client.

    Attributes:
        kubeconfig: path, or several joined by the path separator; None searches.
        context: context in the kubeconfig; None takes its current one.
        qps: requests a second over time; 0 means no limit. client-go's default of 5 is
            too low for a busy controller; those of Kubernetes that create pods by the
            thousand run with 100. So many keep one seat or two of the 245 that all service
            accounts of a cluster share.
        burst: requests at once before ``qps`` holds them back: two seconds' worth, so that
            what has gathered in a pause is sent without waiting.
        timeout_s: deadline of a request, pauses and repetitions included.
        user_agent: for the server's audit log.
        local_kubeconfig: a file below the working directory that is tried before
            ``~/.kube/config``; empty for none.
        local_command: starts an API server that writes ``local_kubeconfig``, for error
            messages; empty where there is none.
        pages: how large the pages of :meth:`KubeClient.list_all` may be.
        retry: how often a request is repeated.
        timing: clock, sleep, chance.
        observer: told of every request, or None.
        retry_observer: told of every request that is sent again, or None.
    """

    kubeconfig: str | os.PathLike[str] | None = None
    context: str | None = None
    qps: float = DEFAULT_QPS
    burst: int = DEFAULT_BURST
    timeout_s: float = 30.0
    user_agent: str = "python-kube"
    local_kubeconfig: str = ""
    local_command: str = ""
    pages: PageSizes = SMALL_PAGES
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    timing: Timing = SYSTEM_TIMING
    observer: RequestObserver | None = None
    retry_observer: RetryObserver | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the search for the API server looks at.

    Attributes:
        environ: environment variables.
        cwd: working directory.
        home: home directory.
        service_account_dir: where a pod has its token.
    """

    environ: Mapping[str, str]
    cwd: Path
    home: Path
    service_account_dir: Path = SERVICE_ACCOUNT_DIR

    @classmethod
    def of_process(cls) -> Surroundings:
        """Return those of this process."""
        return cls(
            environ=os.environ,
            cwd=Path.cwd(),
            home=Path(os.environ.get("HOME") or os.path.expanduser("~")),
        )


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach one API server.

    Attributes:
        server: address without a trailing slash; may have a path.
        source: where this comes from, in words for error messages.
        credentials: who we are.
        tls: how to check the server.
        namespace: the default one.
        headers: sent with every request (impersonation).
        proxy: URL of an HTTP proxy; None goes straight.
    """

    server: str
    source: str
    credentials: Credentials = field(default_factory=NoCredentials)
    tls: TlsSettings = field(default_factory=TlsSettings)
    namespace: str = "default"
    headers: tuple[tuple[str, str], ...] = ()
    proxy: str | None = field(default=None, repr=False)  # may carry a password


@dataclass(frozen=True, slots=True)
class KubeconfigPlace:
    """Kubeconfig files to be merged, first file first."""

    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class InClusterPlace:
    """The service account of the pod we run in."""

    directory: Path


def find_place(settings: ClientSettings, around: Surroundings) -> KubeconfigPlace | InClusterPlace:
    """Decide where the connection is described.

    Raises:
        ConfigError: nowhere; or the file named does not exist.
    """
    if settings.kubeconfig is not None:
        return KubeconfigPlace(_existing(os.fspath(settings.kubeconfig), "the kubeconfig given"))
    named = around.environ.get("KUBECONFIG")
    if named:
        return KubeconfigPlace(_existing(named, "$KUBECONFIG"))
    # A context is an entry of a kubeconfig, so who names one does not mean the pod's account.
    if settings.context is None and _in_cluster(around):
        return InClusterPlace(around.service_account_dir)
    usual = [around.home / ".kube" / "config"]
    if settings.local_kubeconfig:
        usual.insert(0, around.cwd / settings.local_kubeconfig)
    for path in usual:
        if path.is_file():
            return KubeconfigPlace((path,))
    remedy = "give --kubeconfig or set KUBECONFIG"
    if settings.local_command:
        remedy += f", or start the local stack with `{settings.local_command}`"
    raise ConfigError(
        f"no API server is configured: {remedy} (looked for "
        f"{' and '.join(map(str, usual))}, and this is not a pod with a service account)"
    )


def in_cluster_connection(
    place: InClusterPlace, around: Surroundings, timing: Timing
) -> Connection:
    """Describe the connection of a pod's service account.

    Raises:
        ConfigError: a variable or file is missing or wrong.
    """
    environ = around.environ
    host = environ.get("KUBERNETES_SERVICE_HOST", "")
    port = environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not port.isdecimal():
        raise ConfigError(f"KUBERNETES_SERVICE_PORT is {port!r}; it must be a port number")
    bracketed = f"[{host}]" if ":" in host and not host.startswith("[") else host
    ca_file = place.directory / "ca.crt"
    if not ca_file.is_file():
        raise ConfigError(
            f"{ca_file} is missing; a pod gets it with automountServiceAccountToken: true"
        )
    namespace_file = place.directory / "namespace"
    namespace = namespace_file.read_text().strip() if namespace_file.is_file() else "default"
    return Connection(
        server=f"https://{bracketed}:{port}",
        source=f"the pod's service account in {place.directory}",
        credentials=TokenFile(place.directory / "token", timing.clock),
        tls=TlsSettings(ca_data=ca_file.read_bytes(), read_ca=ca_file.read_bytes),
        namespace=namespace or "default",
    )


def proxy_for(server: str, configured: str | None, environ: Mapping[str, str]) -> str | None:
    """Return the proxy to go through; None for none.

    As in Go's net/http, which kubectl uses: a loopback address is never proxied, and the
    kubeconfig's ``proxy-url`` comes before ``HTTPS_PROXY``/``HTTP_PROXY`` and ``NO_PROXY``.

    Raises:
        ConfigError: the proxy is not an HTTP one.
    """
    parts = urlsplit(server)
    host = parts.hostname or ""
    proxy = configured
    if not proxy:
        if host == "localhost" or host == "::1" or host.startswith("127."):
            return None
        # The environment is read through urllib, which knows the rules of NO_PROXY.
        proxies: dict[str, Any] = {
            name[: -len("_proxy")].lower(): value
            for name, value in environ.items()
            if name.lower().endswith("_proxy") and value
        }
        proxy = proxies.get(parts.scheme)
        bypass = urllib.request.proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed
        if not proxy or bypass(host, proxies):
            return None
    if urlsplit(proxy).scheme not in ("http", "https"):
        raise ConfigError(f"the proxy {urlsplit(proxy).scheme}://… is not supported; use http://")
    return proxy


def _existing(joined: str, what: str) -> tuple[Path, ...]:
    paths = tuple(Path(part).expanduser() for part in joined.split(os.pathsep) if part)
    # As kubectl does: of several files, those that do not exist are passed over.
    present = tuple(path for path in paths if path.is_file())
    if not present:
        raise ConfigError(f"{what} ({joined}) does not exist; check the path")
    return present


def _in_cluster(around: Surroundings) -> bool:
    return (
        bool(around.environ.get("KUBERNETES_SERVICE_HOST"))
        and (around.service_account_dir / "token").is_file()
    )
