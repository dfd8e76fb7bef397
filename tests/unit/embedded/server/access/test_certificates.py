"""The authority and the server's certificate: made once, renewed in time, accepted by clients."""

import ipaddress
import ssl
import stat
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from taskctl.embedded.server.access import certificates
from taskctl.embedded.server.access.certificates import Certificates, ensure_certificates

NOW = datetime(2026, 6, 1, tzinfo=UTC)
NAMES = (
    "localhost", "127.0.0.1", "::1", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)  # fmt: skip


def leaf(found: Certificates) -> x509.Certificate:
    return x509.load_pem_x509_certificate(found.server_pem)


def authority(found: Certificates) -> x509.Certificate:
    return x509.load_pem_x509_certificate(found.authority_pem)


def handshake(server: Certificates, trusted: Certificates, name: str) -> None:
    """Have both sides of a connection talk in memory, as strictly as Python can."""
    context = trusted.client_context()
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    here, there = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(here, there, server_hostname=name)
    other = server.server_context().wrap_bio(there, here, server_side=True)
    for _ in range(4):
        for side in (client, other):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    assert client.getpeercert()


@pytest.mark.parametrize("name", [*NAMES, "192.0.2.7", "my-machine"])
def test_clients_accept_it_under_each_name(name: str) -> None:
    made = ensure_certificates(None, ("192.0.2.7", "my-machine"), datetime.now(UTC))
    handshake(made, made, name)


@pytest.mark.parametrize("name", ["192.0.2.8", "kubernetes.evil", "example.com"])
def test_and_under_no_other(name: str) -> None:
    made = ensure_certificates(None, (), datetime.now(UTC))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(made, made, name)


def test_another_authority_is_not_believed() -> None:
    now = datetime.now(UTC)
    ours, other = ensure_certificates(None, (), now), ensure_certificates(None, (), now)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(other, ours, "localhost")


def test_fields(tmp_path: Path) -> None:
    made = ensure_certificates(tmp_path, (), NOW)
    top, server = authority(made), leaf(made)
    server.verify_directly_issued_by(top)
    for certificate, is_authority in ((top, True), (server, False)):
        extensions = certificate.extensions
        basic = extensions.get_extension_for_class(x509.BasicConstraints)
        usage = extensions.get_extension_for_class(x509.KeyUsage)
        assert (basic.critical, basic.value.ca) == (True, is_authority)
        assert (usage.critical, usage.value.key_cert_sign) == (True, is_authority)
        assert usage.value.digital_signature is not is_authority
        extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    purposes = server.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.SERVER_AUTH]
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = {str(one) for one in names.get_values_for_type(x509.IPAddress)}
    assert addresses == {"127.0.0.1", "::1"} == {str(ipaddress.ip_address(a)) for a in addresses}
    assert set(names.get_values_for_type(x509.DNSName)) | addresses == set(NAMES)
    assert server.issuer == top.subject
    assert top.subject != authority(ensure_certificates(None, (), NOW)).subject
    for path in (tmp_path / "tls").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert b"PRIVATE" not in (tmp_path / "tls" / "ca.crt").read_bytes()
    assert "PRIVATE" not in repr(made)


def test_made_once(tmp_path: Path) -> None:
    first = ensure_certificates(tmp_path, (), NOW)
    assert ensure_certificates(tmp_path, (), NOW + timedelta(days=200)) == first


def test_renewed_before_it_ends_by_the_same_authority(tmp_path: Path) -> None:
    first = ensure_certificates(tmp_path, (), NOW)
    later = NOW + timedelta(days=300)
    second = ensure_certificates(tmp_path, (), later)
    assert second.authority_pem == first.authority_pem
    assert leaf(second).serial_number != leaf(first).serial_number
    assert leaf(second).not_valid_after_utc > later + timedelta(days=360)
    assert ensure_certificates(tmp_path, (), later) == second


def test_a_new_name_makes_a_new_certificate(tmp_path: Path) -> None:
    first = ensure_certificates(tmp_path, (), NOW)
    second = ensure_certificates(tmp_path, ("192.0.2.7",), NOW)
    assert second.server_pem != first.server_pem
    assert ensure_certificates(tmp_path, (), NOW) == second


def test_who_trusts_the_old_authority_accepts_servers_of_the_renewed_one(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    old = ensure_certificates(tmp_path, (), now - timedelta(days=9 * 365))
    new = ensure_certificates(tmp_path, (), now)
    assert authority(new).not_valid_after_utc > authority(old).not_valid_after_utc
    assert authority(new).subject == authority(old).subject
    handshake(new, old, "localhost")
    handshake(new, new, "localhost")


def test_a_clock_that_was_set_back(tmp_path: Path) -> None:
    first = ensure_certificates(tmp_path, (), NOW)
    earlier = NOW - timedelta(days=40)
    second = ensure_certificates(tmp_path, (), earlier)
    assert second.authority_pem == first.authority_pem
    assert leaf(second).not_valid_before_utc < earlier


@pytest.mark.parametrize("content", [b"", b"rubbish", b"-----BEGIN CERTIFICATE-----\n"])
@pytest.mark.parametrize("name", ["ca.pem", "server.pem", "ca.crt"])
def test_damaged_files_are_made_again(tmp_path: Path, name: str, content: bytes) -> None:
    first = ensure_certificates(tmp_path, (), NOW)
    (tmp_path / "tls" / name).write_bytes(content)
    second = ensure_certificates(tmp_path, (), NOW)
    leaf(second).verify_directly_issued_by(authority(second))
    assert (second.authority_pem == first.authority_pem) is (name != "ca.pem")
    assert (tmp_path / "tls" / "ca.crt").read_bytes() == second.authority_pem


def test_a_certificate_of_another_authority_is_replaced(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, (), NOW)
    foreign = ensure_certificates(None, (), NOW)
    (tmp_path / "tls" / "server.pem").write_bytes(foreign.server_pem)
    found = ensure_certificates(tmp_path, (), NOW)
    leaf(found).verify_directly_issued_by(authority(found))


def test_a_full_disk_at_renewal_leaves_the_valid_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ensure_certificates(tmp_path, (), NOW)

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(certificates, "write_private", full)
    assert ensure_certificates(tmp_path, (), NOW + timedelta(days=300)) == first
    with pytest.raises(OSError, match="No space"):
        ensure_certificates(tmp_path, (), NOW + timedelta(days=400))
