"""A real Prometheus that scrapes what the monitors in the cluster name.

The Prometheus operator is not run, and Debian's Prometheus is built without the discovery of
Kubernetes' objects: :func:`scrape_config` does the part of both, for the fields that taskctl's
monitors have.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.embedded.world import Object, eventually

Getter = Callable[[str, str | None, str], list[Object]]
GROUP: Final = "monitoring.coreos.com"
_KINDS: Final = {
    "ServiceMonitor": "servicemonitors",
    "PodMonitor": "podmonitors",
    "PrometheusRule": "prometheusrules",
}


def definitions() -> list[Object]:
    """Return CRDs of the operator's kinds that take any of their objects."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return [
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{GROUP}"},
            "spec": {
                "group": GROUP,
                "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
                "versions": [
                    {
                        "name": "v1",
                        "served": True,
                        "storage": True,
                        "schema": {
                            "openAPIV3Schema": {"type": "object", "properties": {"spec": anything}}
                        },
                    }
                ],
            },
        }
        for kind, plural in _KINDS.items()
    ]


def scrape_config(monitor: Object, get: Getter) -> Object:
    """Return the job for a ServiceMonitor or PodMonitor, with the targets that there are now.

    Args:
        monitor: the object. A field that no monitor of taskctl has had so far is an error.
        get: lists objects by kind, namespace (None for all of them) and label selector.
    """
    spec = dict(monitor["spec"])
    services = monitor["kind"] == "ServiceMonitor"
    (endpoint,) = spec.pop("endpoints" if services else "podMetricsEndpoints")
    selector, namespaces = spec.pop("selector"), spec.pop("namespaceSelector", {})
    namespace = None if namespaces == {"any": True} else monitor["metadata"]["namespace"]
    assert not spec, spec
    assert endpoint.keys() == {"port", "interval", "honorLabels"}, endpoint
    kind, find = ("endpoints", _of_endpoints) if services else ("pods", _of_pod)
    return {
        "job_name": f"{monitor['kind']}/{monitor['metadata']['name']}",
        "honor_labels": endpoint["honorLabels"],
        # The interval is for a person's patience, not for a test's.
        "scrape_interval": "1s",
        "static_configs": [
            {
                "targets": [address],
                "labels": {"namespace": found["metadata"]["namespace"], "pod": pod},
            }
            for found in get(kind, namespace, _words(selector))
            for address, pod in find(found, endpoint["port"])
        ],
    }


def _words(selector: Object) -> str:
    """Return a label selector as kubectl takes it."""
    words = [f"{key}={value}" for key, value in selector.get("matchLabels", {}).items()]
    for term in selector.get("matchExpressions", []):
        assert term["operator"] in {"Exists", "In"}, term
        chosen = f" in ({','.join(term['values'])})" if term["operator"] == "In" else ""
        words.append(term["key"] + chosen)
    return ",".join(words)


def _of_endpoints(endpoints: Object, port: str) -> Iterator[tuple[str, str]]:
    """Return addresses and pods behind a Service; its Endpoints have the Service's labels."""
    for subset in endpoints.get("subsets", []):
        (number,) = (one["port"] for one in subset["ports"] if one.get("name") == port)
        for one in [*subset.get("addresses", []), *subset.get("notReadyAddresses", [])]:
            yield f"{one['ip']}:{number}", one["targetRef"]["name"]


def _of_pod(pod: Object, port: str) -> Iterator[tuple[str, str]]:
    for container in pod["spec"]["containers"]:
        for one in container.get("ports", []):
            if one.get("name") == port:
                address = f"{pod['status']['podIP']}:{one['containerPort']}"
                yield address, pod["metadata"]["name"]


@dataclass(frozen=True)
class Prometheus:
    """One that runs, by its HTTP API.

    Attributes:
        url: of version 1 of the API.
    """

    url: str

    async def ask(self, path: str, **query: str) -> Any:
        """Return what the API answers; nothing as long as it does not listen."""
        url = f"{self.url}/{path}?{urllib.parse.urlencode(query)}"
        try:
            text = await asyncio.to_thread(_get, url)
        except OSError:
            return {}
        return json.loads(text)["data"]

    async def value(self, query: str) -> float | None:
        """Return the only value of a query; None if it has none."""
        result = (await self.ask("query", query=query)).get("result", [])
        return float(result[0]["value"][1]) if result else None

    async def health(self) -> dict[str, list[str]]:
        """Return the health of the targets by job: "up", or what went wrong."""
        found: dict[str, list[str]] = {}
        for target in (await self.ask("targets")).get("activeTargets", []):
            health = target["health"] + target["lastError"]
            found.setdefault(target["labels"]["job"], []).append(health)
        return found


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
    return text


@asynccontextmanager
async def scraping(
    program: str, directory: Path, jobs: Sequence[Object], rules: Object
) -> AsyncIterator[Prometheus]:
    """Run a Prometheus for the length of the block.

    Args:
        program: its path.
        directory: for its files.
        jobs: what it scrapes.
        rules: groups of rules, as in a file of rules.
    """
    (directory / "rules.json").write_text(json.dumps(rules))
    config = {
        "global": {"evaluation_interval": "1s"},
        "rule_files": ["rules.json"],
        "scrape_configs": list(jobs),
    }
    (directory / "prometheus.yml").write_text(json.dumps(config))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        program, f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (directory / "prometheus.log").open("wb") as log:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        await _listening(server, port, directory / "prometheus.log")
        yield Prometheus(f"http://127.0.0.1:{port}/api/v1")
    finally:
        server.terminate()
        await asyncio.to_thread(server.wait, 30)


async def _listening(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    async def answers() -> bool:
        assert server.poll() is None, log.read_text()
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    await eventually(answers, bool, timeout_s=60, what="a Prometheus that listens")
