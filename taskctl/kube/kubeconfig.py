"""Own reader of kubeconfig files, for users that need no plugin.

Rules as in client-go's clientcmd: of several files the first to name an entry wins, and
relative paths are relative to the file they stand in.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import yaml

from taskctl.errors import ConfigError
from taskctl.kube.config import Connection, proxy_for
from taskctl.kube.credentials import Credentials, NoCredentials, StaticHeader, TokenFile
from taskctl.kube.timing import Timing
from taskctl.kube.tls import TlsSettings

# The C loader is many times faster and not in every build of PyYAML.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class _NamedEntry:
    """A cluster or user, and the file it was read from."""

    name: str
    values: Mapping[str, Any]
    file: Path

    def text(self, field: str) -> str:
        value = self.values.get(field)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise ConfigError(f"{self.file}: {field} of {self.name!r} must be a string")
        return value

    def file_or_data(self, field: str) -> bytes | None:
        """Return ``<field>-data`` decoded, else the content of the file ``<field>`` names."""
        data = self.text(f"{field}-data")
        if data:
            try:
                return base64.b64decode(data, validate=True)
            except binascii.Error as error:
                raise ConfigError(
                    f"{self.file}: {field}-data of {self.name!r} is not base64"
                ) from error
        name = self.text(field)
        if not name:
            return None
        path = self.path(name)
        try:
            return path.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"{self.file}: {field} of {self.name!r}: cannot read {path}: {error.strerror}"
            ) from error

    def path(self, name: str) -> Path:
        return self.file.parent / Path(name).expanduser()


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """One context of the merged files.

    Attributes:
        context: its name.
        cluster: how to reach the server.
        user: who we are.
        namespace: the default one.
        files: where it was read from.
    """

    context: str
    cluster: _NamedEntry
    user: _NamedEntry
    namespace: str
    files: tuple[Path, ...]

    @property
    def needs_library(self) -> bool:
        """Whether the user is one for kubernetes_asyncio: exec plugin or auth provider."""
        return "exec" in self.user.values or "auth-provider" in self.user.values

    @property
    def source(self) -> str:
        """Where the connection comes from, for error messages."""
        files = ", ".join(str(file) for file in self.files)
        return f"context {self.context!r} of kubeconfig {files}"


def read_kubeconfig(paths: tuple[Path, ...], context: str | None) -> Kubeconfig:
    """Read and merge kubeconfig files and pick a context.

    Args:
        paths: files, the first to name an entry wins.
        context: None takes ``current-context``.

    Raises:
        ConfigError: a file is unreadable or something is missing; says what and where.
    """
    documents = [(path, _read(path)) for path in paths]
    where = ", ".join(str(path) for path in paths)
    if context is None:
        context = next(
            (str(doc["current-context"]) for _, doc in documents if doc.get("current-context")), ""
        )
        if not context:
            raise ConfigError(
                f"{where}: current-context is not set; choose one with --context or "
                "`kubectl config use-context`"
            )
    chosen = _find(documents, "contexts", context)
    if chosen is None:
        names = ", ".join(sorted(_names(documents, "contexts"))) or "none"
        raise ConfigError(f"{where}: there is no context {context!r} (there are: {names})")
    inner = _NamedEntry(context, _mapping(chosen, "context"), chosen.file)
    cluster = _find(documents, "clusters", inner.text("cluster"))
    if cluster is None:
        raise ConfigError(
            f"{where}: context {context!r} names the cluster {inner.text('cluster')!r}, "
            "which is not in the file"
        )
    user_name = inner.text("user")
    user = _find(documents, "users", user_name) if user_name else None
    if user_name and user is None:
        raise ConfigError(
            f"{where}: context {context!r} names the user {user_name!r}, which is not in the file"
        )
    return Kubeconfig(
        context=context,
        cluster=_NamedEntry(cluster.name, _mapping(cluster, "cluster"), cluster.file),
        user=_NamedEntry("", {}, chosen.file)
        if user is None
        else _NamedEntry(user.name, _mapping(user, "user"), user.file),
        namespace=inner.text("namespace") or "default",
        files=paths,
    )


def plain_connection(config: Kubeconfig, timing: Timing, environ: Mapping[str, str]) -> Connection:
    """Describe the connection of a user that needs no plugin.

    Raises:
        ConfigError: a field is missing or wrong.
    """
    user = config.user
    return build_connection(
        config,
        credentials=_credentials(user, timing),
        client_cert=(user.file_or_data("client-certificate"), user.file_or_data("client-key")),
        environ=environ,
    )


def build_connection(
    config: Kubeconfig,
    *,
    credentials: Credentials,
    client_cert: tuple[bytes | None, bytes | None],
    environ: Mapping[str, str],
) -> Connection:
    """Describe a connection from the cluster's half of the file and given credentials.

    Raises:
        ConfigError: a field is missing or wrong.
    """
    cluster = config.cluster
    server, from_address = _split_address(cluster)
    if from_address is not None and isinstance(credentials, NoCredentials):
        credentials = from_address
    certificate, key = client_cert
    if (certificate is None) != (key is None):
        raise ConfigError(
            f"{config.user.file}: user {config.user.name!r} needs both client-certificate "
            "and client-key"
        )
    return Connection(
        server=server,
        source=config.source,
        credentials=credentials,
        tls=TlsSettings(
            ca_data=cluster.file_or_data("certificate-authority"),
            verify=cluster.values.get("insecure-skip-tls-verify") is not True,
            server_name=cluster.text("tls-server-name") or None,
            cert_data=certificate,
            key_data=key,
            read_ca=lambda: _read_authority(config),
        ),
        namespace=config.namespace,
        headers=_impersonation(config.user),
        proxy=proxy_for(server, cluster.text("proxy-url") or None, environ),
    )


def _read_authority(config: Kubeconfig) -> bytes | None:
    now = read_kubeconfig(config.files, config.context)
    return now.cluster.file_or_data("certificate-authority")


def _split_address(cluster: _NamedEntry) -> tuple[str, Credentials | None]:
    """Return the server's address without user and password, and those as credentials.

    The address is written to logs and errors, and must not carry a secret there.
    """
    parts = urlsplit(cluster.text("server").rstrip("/"))
    host = parts.netloc.rpartition("@")[2]
    bare = urlunsplit((parts.scheme, host, parts.path, "", ""))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"{cluster.file}: server of cluster {cluster.name!r} is {bare!r}; "
            "it must be an http:// or https:// address"
        )
    if parts.username is None:
        return bare, None
    return bare, StaticHeader.basic(unquote(parts.username), unquote(parts.password or ""))


def _credentials(user: _NamedEntry, timing: Timing) -> Credentials:
    # client-go's order: a token file is preferred, since it can be renewed.
    token_file = user.text("tokenFile")
    if token_file:
        return TokenFile(user.path(token_file), timing.clock)
    token = user.text("token")
    if token:
        return StaticHeader.bearer(token.strip())
    if user.text("username"):
        return StaticHeader.basic(user.text("username"), user.text("password"))
    return NoCredentials()


def _impersonation(user: _NamedEntry) -> tuple[tuple[str, str], ...]:
    headers: list[tuple[str, str]] = []
    if user.text("as"):
        headers.append(("Impersonate-User", user.text("as")))
    if user.text("as-uid"):
        headers.append(("Impersonate-Uid", user.text("as-uid")))
    headers += [("Impersonate-Group", str(group)) for group in user.values.get("as-groups") or ()]
    for key, values in (user.values.get("as-user-extra") or {}).items():
        headers += [(f"Impersonate-Extra-{key}", str(value)) for value in values]
    return tuple(headers)


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.load(path.read_bytes(), Loader=_Loader)  # a safe loader
    except OSError as error:
        raise ConfigError(f"cannot read the kubeconfig {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        # The parser's own message may quote the line, and with it a token.
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark is not None else ""
        raise ConfigError(f"the kubeconfig {path} is not valid YAML{line}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"the kubeconfig {path} is not a mapping")
    return document


def _find(
    documents: list[tuple[Path, dict[str, Any]]], section: str, name: str
) -> _NamedEntry | None:
    for path, document in documents:
        for entry in document.get(section) or ():
            if isinstance(entry, dict) and entry.get("name") == name:
                return _NamedEntry(name, entry, path)
    return None


def _names(documents: list[tuple[Path, dict[str, Any]]], section: str) -> set[str]:
    return {
        str(entry.get("name"))
        for _, document in documents
        for entry in document.get(section) or ()
        if isinstance(entry, dict)
    }


def _mapping(entry: _NamedEntry, field: str) -> Mapping[str, Any]:
    value = entry.values.get(field)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{entry.file}: {field} of {entry.name!r} must be a mapping")
    return value
