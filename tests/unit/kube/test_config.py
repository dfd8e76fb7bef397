"""Where the connection is found and what is read from it."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from taskctl.clientsettings import CLIENT_SETTINGS
from taskctl.errors import ConfigError
from taskctl.kube.client import find_connection
from taskctl.kube.config import ClientSettings, Connection, Surroundings, proxy_for
from taskctl.kube.credentials import NoCredentials, StaticHeader, TokenFile
from taskctl.kube.kubeconfig import plain_connection, read_kubeconfig
from taskctl.kube.plugins import PluginCredentials
from taskctl.kube.timing import SYSTEM_TIMING
from tests.unit.kube.fakes import FakeTime


def kubeconfig(
    user: dict[str, Any] | None = None, server: str = "http://127.0.0.1:8080", **cluster: Any
) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "local",
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "contexts": [
            {"name": "local", "context": {"cluster": "c", "user": "u", "namespace": "team"}}
        ],
        "users": [{"name": "u", "user": {"token": "hush-hush"} if user is None else user}],
    }


def write(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(document))
    return path


def around(tmp_path: Path, **environ: str) -> Surroundings:
    return Surroundings(
        environ=environ,
        cwd=tmp_path / "work",
        home=tmp_path / "home",
        service_account_dir=tmp_path / "sa",
    )


def make_service_account(tmp_path: Path) -> None:
    directory = tmp_path / "sa"
    directory.mkdir()
    (directory / "token").write_text("pod-token\n")
    (directory / "namespace").write_text("prod")


async def find(
    tmp_path: Path, settings: ClientSettings | None = None, *, env: dict[str, str] | None = None
) -> Connection:
    return await find_connection(settings or CLIENT_SETTINGS, around(tmp_path, **(env or {})))


async def test_search_order(tmp_path: Path) -> None:
    home = write(tmp_path / "home/.kube/config", kubeconfig(server="http://home:1"))
    assert (await find(tmp_path)).server == "http://home:1"
    write(tmp_path / "work/.taskctl/kubeconfig", kubeconfig(server="http://stack:1"))
    assert (await find(tmp_path)).server == "http://stack:1"
    make_service_account(tmp_path)
    (tmp_path / "sa/ca.crt").write_bytes(b"CA")
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    assert (await find(tmp_path, env=pod)).server == "https://10.0.0.1:443"
    named = write(tmp_path / "env", kubeconfig(server="http://env:1"))
    assert (await find(tmp_path, env={"KUBECONFIG": str(named), **pod})).server == "http://env:1"
    given = ClientSettings(kubeconfig=home)
    assert (
        await find(tmp_path, given, env={"KUBECONFIG": str(named), **pod})
    ).server == "http://home:1"


async def test_nothing_found_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="taskctl local") as caught:
        await find(tmp_path)
    assert str(tmp_path / "home/.kube/config") in str(caught.value)
    with pytest.raises(ConfigError, match="set KUBECONFIG") as caught:
        await find(tmp_path, ClientSettings())
    assert "taskctl" not in str(caught.value).replace(str(tmp_path), "")


async def test_only_a_program_with_a_local_kubeconfig_takes_it(tmp_path: Path) -> None:
    write(tmp_path / "work/.taskctl/kubeconfig", kubeconfig(server="http://stack:1"))
    write(tmp_path / "home/.kube/config", kubeconfig(server="http://home:1"))
    assert (await find(tmp_path, ClientSettings())).server == "http://home:1"


async def test_a_named_file_must_exist(tmp_path: Path) -> None:
    write(tmp_path / "home/.kube/config", kubeconfig())
    with pytest.raises(ConfigError, match="does not exist"):
        await find(tmp_path, ClientSettings(kubeconfig="/nowhere/at/all"))
    with pytest.raises(ConfigError, match=r"\$KUBECONFIG"):
        await find(tmp_path, env={"KUBECONFIG": "/nowhere/at/all"})


async def test_static_token(tmp_path: Path) -> None:
    write(tmp_path / "home/.kube/config", kubeconfig())
    found = await find(tmp_path)
    assert isinstance(found.credentials, StaticHeader)
    assert await found.credentials.authorization() == "Bearer hush-hush"
    assert found.namespace == "team"
    assert "hush-hush" not in repr(found)
    assert "context 'local'" in found.source


async def test_basic_none_and_impersonation(tmp_path: Path) -> None:
    path = write(
        tmp_path / "k",
        kubeconfig({"username": "a", "password": "b", "as": "root", "as-groups": ["x", "y"]}),
    )
    found = await find(tmp_path, ClientSettings(kubeconfig=path))
    assert await found.credentials.authorization() == "Basic YTpi"
    assert found.headers == (
        ("Impersonate-User", "root"),
        ("Impersonate-Group", "x"),
        ("Impersonate-Group", "y"),
    )
    write(path, kubeconfig({}))
    found = await find(tmp_path, ClientSettings(kubeconfig=path))
    assert isinstance(found.credentials, NoCredentials)


async def test_password_in_the_address_is_sent_and_never_shown(tmp_path: Path) -> None:
    path = write(tmp_path / "k", kubeconfig({}, "http://local:hush%2Fhush@127.0.0.1:8080/base/"))
    found = await find(tmp_path, ClientSettings(kubeconfig=path))
    assert found.server == "http://127.0.0.1:8080/base"
    expected = base64.b64encode(b"local:hush/hush").decode()
    assert await found.credentials.authorization() == f"Basic {expected}"
    assert "hush" not in repr(found)
    write(path, kubeconfig({"token": "better"}, "http://local:hush@127.0.0.1:8080"))
    found = await find(tmp_path, ClientSettings(kubeconfig=path))
    assert await found.credentials.authorization() == "Bearer better"
    write(path, kubeconfig({}, "ftp://local:hush@127.0.0.1"))
    with pytest.raises(ConfigError, match="must be an http") as caught:
        await find(tmp_path, ClientSettings(kubeconfig=path))
    assert "hush" not in str(caught.value)


async def test_certificates_from_data_and_relative_files(tmp_path: Path) -> None:
    (tmp_path / "pki").mkdir()
    (tmp_path / "pki/crt").write_bytes(b"CERT")
    user = {
        "client-certificate": "pki/crt",
        "client-key-data": base64.b64encode(b"KEY").decode(),
    }
    ca = base64.b64encode(b"CA").decode()
    path = write(
        tmp_path / "k",
        kubeconfig(
            user,
            "https://host:6443/",
            **{"certificate-authority-data": ca, "tls-server-name": "kube"},
        ),
    )
    found = await find(tmp_path, ClientSettings(kubeconfig=path))
    assert (found.tls.cert_data, found.tls.key_data) == (b"CERT", b"KEY")
    assert (found.tls.ca_data, found.tls.server_name, found.tls.verify) == (b"CA", "kube", True)
    assert found.server == "https://host:6443"
    assert "KEY" not in repr(found)


async def test_several_files_merge_first_wins(tmp_path: Path) -> None:
    one = kubeconfig(server="http://one:1")
    two = kubeconfig(server="http://two:1")
    two["current-context"] = "other"
    two["contexts"].append({"name": "other", "context": {"cluster": "c2", "user": "u"}})
    two["clusters"].append({"name": "c2", "cluster": {"server": "http://c2:1"}})
    first, second = write(tmp_path / "1", one), write(tmp_path / "2", two)
    both = f"{first}:{second}:{tmp_path / 'absent'}"
    assert (await find(tmp_path, env={"KUBECONFIG": both})).server == "http://one:1"
    chosen = await find(tmp_path, ClientSettings(context="other"), env={"KUBECONFIG": both})
    assert chosen.server == "http://c2:1"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"current-context": ""}, "current-context is not set"),
        ({"current-context": "x"}, "there is no context 'x' .*there are: local"),
        ({"clusters": []}, "names the cluster 'c'"),
        ({"users": None}, "names the user 'u'"),
        ({"clusters": [{"name": "c", "cluster": {"server": "host:1"}}]}, "must be an http"),
        ({"clusters": [{"name": "c", "cluster": "x"}]}, "must be a mapping"),
        ({"users": [{"name": "u", "user": {"client-certificate-data": "QQ=="}}]}, "needs both"),
        ({"users": [{"name": "u", "user": {"client-key-data": "!"}}]}, "not base64"),
        ({"users": [{"name": "u", "user": {"client-key": "nope"}}]}, "cannot read"),
        ({"users": [{"name": "u", "user": {"token": 7}}]}, "must be a string"),
    ],
)
async def test_wrong_files_are_told_precisely(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = write(tmp_path / "k", kubeconfig() | change)
    with pytest.raises(ConfigError, match=message):
        await find(tmp_path, ClientSettings(kubeconfig=path))


async def test_broken_yaml_does_not_quote_the_file(tmp_path: Path) -> None:
    path = tmp_path / "k"
    path.write_text("users:\n- token: hush\n  - [\n")
    with pytest.raises(ConfigError, match="not valid YAML") as caught:
        await find(tmp_path, ClientSettings(kubeconfig=path))
    assert "hush" not in str(caught.value)


async def test_in_cluster(tmp_path: Path) -> None:
    make_service_account(tmp_path)
    pod = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    with pytest.raises(ConfigError, match=r"ca\.crt is missing"):
        await find(tmp_path, env=pod)
    (tmp_path / "sa/ca.crt").write_bytes(b"CA")
    found = await find(tmp_path, env=pod)
    assert found.server == "https://[fd00::1]:6443"
    assert found.namespace == "prod"
    assert found.tls.ca_data == b"CA"
    assert await found.credentials.authorization() == "Bearer pod-token"


async def test_token_file_is_read_once_a_minute_and_on_refusal(tmp_path: Path) -> None:
    time = FakeTime()
    path = tmp_path / "token"
    path.write_text("one")
    source = TokenFile(path, time)
    assert await source.authorization() == "Bearer one"
    path.write_text("two")
    time.advance(59)
    assert await source.authorization() == "Bearer one"
    time.advance(1)
    assert await source.authorization() == "Bearer two"
    assert await source.refresh("Bearer one")  # another request has read it already
    time.advance(2)
    assert not await source.refresh("Bearer two")
    path.write_text("three")
    assert not await source.refresh("Bearer two")  # within a second of the last reading
    time.advance(2)
    assert await source.refresh("Bearer two")
    path.unlink()
    time.advance(60)
    assert await source.authorization() == "Bearer three"


async def test_missing_token_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unreadable"):
        await TokenFile(tmp_path / "none", FakeTime()).authorization()


@pytest.mark.parametrize(
    ("server", "configured", "environ", "want"),
    [
        ("https://k:1", None, {}, None),
        ("https://k:1", None, {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("http://k:1", None, {"HTTPS_PROXY": "http://p:1"}, None),
        ("https://k:1", None, {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "k"}, None),
        ("https://k:1", "http://q:1", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "k"}, "http://q:1"),
        ("http://127.0.0.1:1", None, {"http_proxy": "http://p:1"}, None),
        ("http://localhost:1", None, {"HTTP_PROXY": "http://p:1"}, None),
    ],
)
def test_proxy(
    server: str, configured: str | None, environ: dict[str, str], want: str | None
) -> None:
    assert proxy_for(server, configured, environ) == want


def test_socks_proxy_is_refused() -> None:
    with pytest.raises(ConfigError, match="socks5"):
        proxy_for("https://k:1", "socks5://p:1", {})


def test_plain_connections_do_not_import_the_library(tmp_path: Path) -> None:
    path = write(tmp_path / "k", kubeconfig())
    program = (
        "import asyncio, sys\n"
        "from taskctl.kube.client import KubeClient\n"
        "from taskctl.kube.config import ClientSettings\n"
        "async def main():\n"
        f"    async with await KubeClient.connect(ClientSettings(kubeconfig={str(path)!r})): pass\n"
        "asyncio.run(main())\n"
        "sys.exit('kubernetes_asyncio' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# --- through the library --------------------------------------------------------------------


def exec_user(script: Path) -> dict[str, Any]:
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(script),
            "interactiveMode": "Never",
        }
    }


def plugin(tmp_path: Path, body: str) -> Path:
    script = tmp_path / "plugin"
    script.write_text(f"#!/bin/sh\necho run >> {tmp_path}/runs\n{body}\n")
    script.chmod(0o755)
    return script


def credential(token: str, expires: str = "") -> str:
    expiry = f', "expirationTimestamp": "{expires}"' if expires else ""
    return (
        'echo \'{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", '
        f'"status": {{"token": "{token}"{expiry}}}}}\''
    )


@pytest.mark.filterwarnings("default::DeprecationWarning")
async def test_exec_plugin(tmp_path: Path) -> None:
    script = plugin(tmp_path, credential("from-plugin"))
    path = write(tmp_path / "k", kubeconfig(exec_user(script)))
    config = read_kubeconfig((path,), None)
    assert config.needs_library
    time = FakeTime()
    source = PluginCredentials(config, time.timing)
    assert await source.authorization() == "Bearer from-plugin"
    assert await source.authorization() == "Bearer from-plugin"
    assert (tmp_path / "runs").read_text().count("run") == 1
    plugin(tmp_path, credential("renewed"))
    time.advance(10)
    assert await source.refresh("Bearer from-plugin")
    assert await source.authorization() == "Bearer renewed"


@pytest.mark.filterwarnings("default::DeprecationWarning")
async def test_exec_plugin_is_run_again_before_its_token_expires(tmp_path: Path) -> None:
    script = plugin(tmp_path, credential("short", "2026-01-01T01:00:00Z"))
    path = write(tmp_path / "k", kubeconfig(exec_user(script)))
    time = FakeTime()
    source = PluginCredentials(read_kubeconfig((path,), None), time.timing)
    await source.authorization()
    time.advance(50 * 60)
    await source.authorization()
    assert (tmp_path / "runs").read_text().count("run") == 1
    time.advance(6 * 60)
    await source.authorization()
    assert (tmp_path / "runs").read_text().count("run") == 2


@pytest.mark.filterwarnings("default::DeprecationWarning")
async def test_exec_plugin_that_fails(tmp_path: Path) -> None:
    script = plugin(tmp_path, "echo no luck >&2; exit 1")
    path = write(tmp_path / "k", kubeconfig(exec_user(script)))
    with pytest.raises(ConfigError, match="no credentials for user 'u'"):
        await find(tmp_path, ClientSettings(kubeconfig=path))


def test_library_is_not_used_for_plain_users(tmp_path: Path) -> None:
    config = read_kubeconfig((write(tmp_path / "k", kubeconfig()),), None)
    assert not config.needs_library
    assert plain_connection(config, SYSTEM_TIMING, {}).server == "http://127.0.0.1:8080"
