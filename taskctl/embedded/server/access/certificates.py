"""The server's own certificate authority, and the certificate that clients check.

Rules of the fields: RFC 5280. Python's strict mode wants both key identifiers and a critical
keyUsage of the authority, rustls a leaf that is not an authority, and all of them subjectAltNames.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import secrets
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from taskctl.embedded.files import write_private

log = logging.getLogger(__name__)

# As kubeadm: ten years and one.
_AUTHORITY_LIFE: Final = timedelta(days=3650)
_SERVER_LIFE: Final = timedelta(days=365)
# What is left of its life when a certificate is replaced.
_AUTHORITY_RENEWAL: Final = 2 * _SERVER_LIFE
_SERVER_RENEWAL: Final = timedelta(days=120)
# Clocks of virtual machines are set back; a certificate should not be of the future then.
_BACKDATED: Final = timedelta(days=1)
_AUTHORITY_BACKDATED: Final = timedelta(days=365)

DIRECTORY: Final = "tls"
AUTHORITY_FILE: Final = "ca.crt"
_AUTHORITY_PAIR: Final = "ca.pem"
_SERVER_PAIR: Final = "server.pem"
_ALWAYS: Final = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "127.0.0.1",
    "::1",
)


@dataclass(frozen=True, slots=True)
class _Pair:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        key = self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return self.certificate_pem + key

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True, slots=True)
class Certificates:
    """What the server shows, and what its clients trust.

    Attributes:
        authority_pem: certificate of the authority.
        server_pem: the server's certificate and its private key.
    """

    authority_pem: bytes
    server_pem: bytes = field(repr=False)

    def server_context(self) -> ssl.SSLContext:
        """Return a context for the listening side."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        self.load_into(context)
        return context

    def load_into(self, context: ssl.SSLContext) -> None:
        """Have connections that begin from now on get this certificate."""
        # The ssl module reads files only; this one is ours alone (0600) and lives for a moment.
        descriptor, path = tempfile.mkstemp(prefix="server-certificate-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(self.server_pem)
            context.load_cert_chain(path)
        finally:
            os.unlink(path)

    def client_context(self) -> ssl.SSLContext:
        """Return a context for a client that trusts this authority alone."""
        return ssl.create_default_context(cadata=self.authority_pem.decode("ascii"))


def ensure_certificates(
    directory: Path | None, hosts: Sequence[str], now: datetime
) -> Certificates:
    """Return valid certificates, made or renewed where there are none.

    The authority keeps its key when its certificate is renewed, so that clients that trust the old
    certificate accept servers under the new one.

    Args:
        directory: where they are kept, in a directory of their own; None keeps none.
        hosts: addresses and names of the server besides the usual ones.
        now: present time, with a zone.

    Raises:
        OSError: they cannot be stored, and the present ones are of no use.
    """
    names = tuple(dict.fromkeys((*_ALWAYS, *hosts)))
    if directory is None:
        authority = _make_authority(now, None)
        return _certificates(authority, _make_server(authority, names, now))
    place = directory / DIRECTORY
    place.mkdir(mode=0o700, exist_ok=True)
    authority = _authority(place, now)
    server = _read(place / _SERVER_PAIR)
    if server is None or not _is_good_server(server, authority, names, now):
        server = _store(place / _SERVER_PAIR, server, _make_server(authority, names, now), now)
    public = place / AUTHORITY_FILE
    if not public.exists() or public.read_bytes() != authority.certificate_pem:
        write_private(public, authority.certificate_pem)
    return _certificates(authority, server)


def _certificates(authority: _Pair, server: _Pair) -> Certificates:
    return Certificates(authority.certificate_pem, server.pem)


def _authority(place: Path, now: datetime) -> _Pair:
    found = _read(place / _AUTHORITY_PAIR)
    if found is not None and _holds(found.certificate, now, _AUTHORITY_RENEWAL):
        return found
    if found is None and (place / _AUTHORITY_PAIR).exists():
        log.error(
            "%s cannot be read; a new certificate authority is made. Containers that run now "
            "trust the old one: delete their pods",
            place / _AUTHORITY_PAIR,
        )
    return _store(place / _AUTHORITY_PAIR, found, _make_authority(now, found), now)


def _store(path: Path, old: _Pair | None, new: _Pair, now: datetime) -> _Pair:
    """Write the new pair; where that fails (a full disk) stay with the old while it is valid."""
    try:
        write_private(path, new.pem)
    except OSError as error:
        if old is None or not _holds(old.certificate, now, timedelta(0)):
            raise
        log.warning("%s cannot be renewed yet: %s", path, error)
        return old
    log.info("made %s, valid until %s", path, new.certificate.not_valid_after_utc)
    return new


def _holds(certificate: x509.Certificate, now: datetime, margin: timedelta) -> bool:
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - margin


def _is_good_server(server: _Pair, authority: _Pair, names: Sequence[str], now: datetime) -> bool:
    certificate = server.certificate
    if not _holds(certificate, now, _SERVER_RENEWAL):
        return False
    try:
        certificate.verify_directly_issued_by(authority.certificate)
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return set(_alternative_names(names)) <= set(found.value)


def _read(path: Path) -> _Pair | None:
    try:
        pem = path.read_bytes()
        key = serialization.load_pem_private_key(pem, None)
        certificate = x509.load_pem_x509_certificate(pem)
    except (OSError, ValueError, TypeError):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return None
    if key.public_key() != certificate.public_key():
        return None
    return _Pair(certificate, key)


def _make_authority(now: datetime, old: _Pair | None) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1()) if old is None else old.key
    # A name of its own: many trust stores look authorities up by name.
    name = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"embedded-ca-{secrets.token_hex(4)}")])
        if old is None
        else old.certificate.subject
    )
    usage = _key_usage(key_cert_sign=True, crl_sign=True)
    builder = (
        _builder(name, name, key, now - _AUTHORITY_BACKDATED, now + _AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
        )
    )
    return _Pair(builder.sign(key, hashes.SHA256()), key)


def _make_server(authority: _Pair, names: Sequence[str], now: datetime) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")])
    issuer = authority.certificate
    builder = (
        _builder(subject, issuer.subject, key, now - _BACKDATED, now + _SERVER_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_alternative_names(names)), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
    )
    return _Pair(builder.sign(authority.key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    begins: datetime,
    ends: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(**used: bool) -> x509.KeyUsage:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
        "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: used.get(name, False) for name in names})


def _alternative_names(names: Sequence[str]) -> list[x509.GeneralName]:
    result: list[x509.GeneralName] = []
    for name in names:
        try:
            result.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            result.append(x509.DNSName(name))
    return result
