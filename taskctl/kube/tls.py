"""How the server's certificate is checked, and which one we show."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp

from taskctl.errors import ConfigError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """TLS side of a connection.

    Attributes:
        ca_data: PEM certificates that vouch for the server; None takes the system's.
        verify: whether the server is checked at all.
        server_name: name to expect in the certificate; None takes the address.
        cert_data: our certificate, PEM; None for none.
        key_data: its private key, PEM.
        read_ca: reads ``ca_data`` again from where it came from; raises OSError or ConfigError.
    """

    ca_data: bytes | None = None
    verify: bool = True
    server_name: str | None = None
    cert_data: bytes | None = field(default=None, repr=False)
    key_data: bytes | None = field(default=None, repr=False)
    read_ca: Callable[[], bytes | None] | None = field(default=None, repr=False, compare=False)


class Trust:
    """The context of a connection, which follows a change of the authority.

    A certificate authority may be replaced while we run: the kubelet then writes another
    ``ca.crt`` into the pod, the local stack another kubeconfig.

    Args:
        settings: of the connection.

    Raises:
        ConfigError: a certificate or key is unreadable.
    """

    def __init__(self, settings: TlsSettings) -> None:
        self.context = make_context(settings)
        self._read_ca = settings.read_ca
        self._known = settings.ca_data

    async def follow(self, error: Exception) -> None:
        """After an error: trust the authority that is named now, if that is another one."""
        if self._read_ca is None or not isinstance(error, aiohttp.ClientConnectorCertificateError):
            return
        try:
            found = await asyncio.to_thread(self._read_ca)
            if found is None or found == self._known:
                return
            self.context.load_verify_locations(cadata=found.decode("ascii"))
        except (OSError, ConfigError, UnicodeDecodeError, ValueError) as problem:
            log.warning("the certificate authority cannot be read again: %s", problem)
            return
        self._known = found
        log.info("the certificate authority was replaced; connections use the new one")


def make_context(settings: TlsSettings) -> ssl.SSLContext:
    """Build the context.

    Raises:
        ConfigError: a certificate or key is unreadable.
    """
    try:
        cadata = settings.ca_data.decode("ascii") if settings.ca_data else None
        context = ssl.create_default_context(cadata=cadata)
    except (ssl.SSLError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"the certificate authority is not valid PEM: {error}") from error
    # Python 3.13 began to insist on extensions that many clusters' own authorities lack;
    # Go, and so kubectl, does not.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.cert_data is not None:
        load_client_certificate(context, settings.cert_data, settings.key_data or b"")
    return context


def load_client_certificate(context: ssl.SSLContext, cert: bytes, key: bytes) -> None:
    """Show this certificate on connections made from now on.

    Raises:
        ConfigError: certificate and key are unreadable or do not belong together.
    """
    # The ssl module reads files only; this one is ours alone (0600) and lives for a moment.
    descriptor, path = tempfile.mkstemp(prefix="kube-cert-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(cert + b"\n" + key)
        context.load_cert_chain(path)
    except ssl.SSLError as error:
        raise ConfigError(f"the client certificate or its key is not valid: {error}") from error
    finally:
        os.unlink(path)
