"""Where notifications may go: what an administrator lists, and no address that is off limits."""

from __future__ import annotations

import pytest

from taskctl.errors import ConfigError
from taskctl.policy.hostlist import address_refusal, host_refusal, parse_allowed, target_of


@pytest.mark.parametrize(
    ("entry", "urls"),
    [
        (
            "hooks.example.com",
            ["https://hooks.example.com", "https://HOOKS.example.com.:443/a?b=c"],
        ),
        ("HTTPS://hooks.example.com:443", ["https://hooks.example.com/"]),
        ("hooks.example.com:8443", ["https://hooks.example.com:8443/"]),
        ("hooks.example.com:*", ["https://hooks.example.com/", "https://hooks.example.com:1/"]),
        ("*.example.com", ["https://a.example.com/", "https://b.a.example.com/"]),
        ("http://receiver.team.svc:8080", ["http://receiver.team.svc:8080/x"]),
        ("http://receiver", ["http://receiver", "http://receiver:80/"]),
        ("http://127.0.0.1:*", ["http://127.0.0.1:4711/"]),
        ("[::1]:8443", ["https://[::1]:8443/", "https://[0:0:0:0:0:0:0:1]:8443/"]),
    ],
)
def test_what_an_entry_allows(entry: str, urls: list[str]) -> None:
    for url in urls:
        assert host_refusal(url, parse_allowed([entry])) is None, url


@pytest.mark.parametrize(
    ("entry", "urls"),
    [
        ("", []),
        (
            "hooks.example.com",
            [
                "http://hooks.example.com/",
                "https://hooks.example.com:8443/",
                "https://a.hooks.example.com/",
                "https://hooks.example.com.evil.org/",
                "https://evil.org/hooks.example.com",
                "https://evil.org?hooks.example.com",
                "https://evil.org/@hooks.example.com",
                "ftp://hooks.example.com/",
            ],
        ),
        ("*.example.com", ["https://example.com/", "https://evilexample.com/"]),
        ("127.0.0.1:*", ["https://2130706433/", "https://0x7f.1/", "https://127.1/"]),
    ],
)
def test_what_it_does_not_allow(entry: str, urls: list[str]) -> None:
    allowed = parse_allowed([entry] if entry else [])
    for url in [*urls, "https://other.example.org/"]:
        assert host_refusal(url, allowed) is not None, url


def test_a_refusal_says_what_would_allow_it() -> None:
    for url, entry in (
        ("https://hooks.example.com/a", "hooks.example.com"),
        ("https://hooks.example.com:8443", "hooks.example.com:8443"),
        ("http://receiver:8080/", "http://receiver:8080"),
        ("http://receiver/", "http://receiver"),
        ("https://[fe80::1]/", "[fe80::1]"),
    ):
        refusal = host_refusal(url, ())
        assert refusal is not None
        assert f"--notify-allow {entry} (or" in refusal
        assert host_refusal(url, parse_allowed([entry])) is None


@pytest.mark.parametrize(
    "text",
    ["", "*", "https://", "a b", "a/b", "user@a", "*.1.2.3.4", "*.[::1]", "[::zz]", "a:0",
     "a:70000", "ftp://a", "a:b", "https://a/", "*.*.a", ".a", "-a", "a.*"],
)  # fmt: skip
def test_entries_that_name_no_host(text: str) -> None:
    with pytest.raises(ConfigError, match="--notify-allow"):
        parse_allowed(["good.example.com", text])


@pytest.mark.parametrize(
    "url",
    ["https://", "https:///a", "mailto:a@b", "https://user:word@a/", "https://a:99999/", "//a/"],
)
def test_urls_that_lead_nowhere(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        target_of(url)
    assert host_refusal(url, parse_allowed(["a:*", "http://a:*"])) is not None


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("169.254.169.254", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("::ffff:169.254.169.254", "link-local"),
        ("64:ff9b::a9fe:a9fe", "link-local"),
        ("2002:a9fe:a9fe::", "link-local"),
        ("fd00:ec2::254", "metadata"),
        ("100.100.100.200", "metadata"),
        ("168.63.129.16", "metadata"),
        ("192.0.0.192", "metadata"),
        ("127.0.0.1", "this machine"),
        ("127.9.9.9", "this machine"),
        ("::1", "this machine"),
        ("::ffff:127.0.0.1", "this machine"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("nonsense", "not an address"),
    ],
)
def test_addresses_that_are_off_limits(address: str, what: str) -> None:
    refusal = address_refusal(address)
    assert refusal is not None
    assert what in refusal


@pytest.mark.parametrize("address", ["10.96.0.7", "192.168.1.1", "93.184.216.34", "fd12::1",
                                     "2606:2800:220:1::1"])  # fmt: skip
def test_addresses_of_services(address: str) -> None:
    assert address_refusal(address) is None
