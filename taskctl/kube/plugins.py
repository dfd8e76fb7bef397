"""Credentials that need kubernetes_asyncio: exec plugins, OIDC and cloud auth providers.

The only module that imports the library, and only when a kubeconfig user asks for it.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from taskctl.errors import ConfigError
from taskctl.kube.config import Connection
from taskctl.kube.kubeconfig import Kubeconfig, build_connection
from taskctl.kube.timing import Timing
from taskctl.kube.tls import load_client_certificate

# client-go renews as a token nears its end; the library's own margin is five minutes too.
_EXPIRY_MARGIN: Final = timedelta(minutes=5)
# Providers' tokens are looked at once a minute; the library refreshes those that expire.
_PROVIDER_PERIOD_S: Final = 60.0
_MIN_REFRESH_PERIOD_S: Final = 5.0
_PLUGIN_DEADLINE_S: Final = 60.0


class PluginCredentials:
    """Credentials fetched through kubernetes_asyncio.

    Args:
        config: the kubeconfig context.
        timing: for the age of what was fetched.
    """

    def __init__(self, config: Kubeconfig, timing: Timing) -> None:
        self._config = config
        self._clock = timing.clock
        self._header: str | None = None
        self._expires: datetime | None = None
        self._fetched_at_s: float | None = None
        self._fetching = asyncio.Lock()
        self._context: ssl.SSLContext | None = None
        self.certificate: tuple[bytes | None, bytes | None] = (None, None)

    def __repr__(self) -> str:
        return f"PluginCredentials({self._config.source})"

    def bind(self, context: ssl.SSLContext) -> None:
        """Show renewed client certificates through ``context``."""
        self._context = context

    async def authorization(self) -> str | None:
        """Return the header, fetching another one when it is about to expire."""
        if self._stale():
            async with self._fetching:
                if self._stale():
                    await self._fetch()
        return self._header

    async def refresh(self, refused: str | None) -> bool:
        """Fetch another one, unless another request has just done so."""
        certificate = self.certificate
        async with self._fetching:
            if self._header == refused and self._age_s() >= _MIN_REFRESH_PERIOD_S:
                await self._fetch()
        return self._header != refused or self.certificate != certificate

    def _stale(self) -> bool:
        if self._fetched_at_s is None:
            return True
        if self._expires is not None:
            near_end = self._clock.now() >= self._expires - _EXPIRY_MARGIN
            # A plugin whose credentials live under five minutes is not run for each request.
            return near_end and self._age_s() >= _MIN_REFRESH_PERIOD_S
        return "auth-provider" in self._config.user.values and self._age_s() >= _PROVIDER_PERIOD_S

    def _age_s(self) -> float:
        if self._fetched_at_s is None:
            return float("inf")
        return self._clock.monotonic_s() - self._fetched_at_s

    async def _fetch(self) -> None:
        loader, configuration = await self._load()
        self._fetched_at_s = self._clock.monotonic_s()
        self._header = configuration.api_key.get("BearerToken") or None
        self._expires = getattr(loader, "exec_plugin_expiry", None)
        if configuration.cert_file and configuration.key_file:
            certificate = await asyncio.to_thread(
                lambda: (
                    Path(configuration.cert_file).read_bytes(),
                    Path(configuration.key_file).read_bytes(),
                )
            )
            if certificate != self.certificate and self._context is not None:
                load_client_certificate(self._context, *certificate)
            self.certificate = certificate

    async def _load(self) -> tuple[Any, Any]:
        # Half a second of imports: off the loop, and only here.
        library = await asyncio.to_thread(_import_library)
        configuration = library.client.Configuration()
        files = os.pathsep.join(str(path) for path in self._config.files)
        try:
            async with asyncio.timeout(_PLUGIN_DEADLINE_S):
                loader = await library.config.load_kube_config(
                    config_file=files,
                    context=self._config.context,
                    client_configuration=configuration,
                    # OIDC servers may rotate the refresh token; kubectl must find the new one.
                    persist_config="auth-provider" in self._config.user.values,
                )
        except TimeoutError as error:
            raise ConfigError(
                f"{self._config.source}: the credentials of user {self._config.user.name!r} "
                f"did not come within {_PLUGIN_DEADLINE_S:.0f} s; try the plugin by hand"
            ) from error
        except Exception as error:  # the library and its plugins raise anything
            raise ConfigError(
                f"{self._config.source}: no credentials for user {self._config.user.name!r}: "
                f"{type(error).__name__}: {error}"
            ) from error
        return loader, configuration


async def library_connection(
    config: Kubeconfig, timing: Timing, environ: Mapping[str, str]
) -> Connection:
    """Describe the connection of a user with an exec plugin or auth provider.

    Raises:
        ConfigError: the credentials cannot be had.
    """
    credentials = PluginCredentials(config, timing)
    await credentials.authorization()
    return build_connection(
        config, credentials=credentials, client_cert=credentials.certificate, environ=environ
    )


def _import_library() -> Any:
    import kubernetes_asyncio.client  # slow, see above
    import kubernetes_asyncio.config

    return kubernetes_asyncio
