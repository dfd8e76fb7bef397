"""Who may ask the page's server."""

from __future__ import annotations

import pytest

from taskctl.errors import ConfigError
from taskctl.ui.guard import POLICY, Guard, new_token, parse_origin

GUARD = Guard("secret", 8080)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1:8080", True),
        ("localhost:8080", True),
        ("LOCALHOST:8080", True),
        ("[::1]:8080", True),
        ("127.0.0.1", False),
        ("127.0.0.1:80", False),
        ("evil.example:8080", False),
        ("127.0.0.1:8080.evil.example", False),
        ("", False),
        (None, False),
    ],
)
def test_the_host_must_be_this_server(host: str | None, allowed: bool) -> None:
    assert GUARD.host_allowed(host) is allowed


@pytest.mark.parametrize(
    ("headers", "required", "allowed"),
    [
        ({}, False, True),
        ({}, True, False),
        ({"Origin": "http://127.0.0.1:8080"}, True, True),
        ({"Origin": "http://localhost:8080"}, True, False),  # another host than the one asked
        ({"Origin": "http://127.0.0.1:8081"}, False, False),
        ({"Origin": "https://127.0.0.1:8080"}, False, False),
        ({"Origin": "null"}, False, False),
        ({"Origin": "http://evil.example"}, False, False),
        ({"Sec-Fetch-Site": "same-origin"}, False, True),
        ({"Sec-Fetch-Site": "none"}, False, True),
        ({"Sec-Fetch-Site": "same-site"}, False, False),
        ({"Sec-Fetch-Site": "cross-site"}, False, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:8080"}, True, False),
    ],
)
def test_other_pages_are_refused(headers: dict[str, str], required: bool, allowed: bool) -> None:
    asked = {"Host": "127.0.0.1:8080", **headers}
    assert GUARD.origin_allowed(asked, required=required) is allowed


def test_the_session_is_neither_the_token_nor_what_guards_changes() -> None:
    assert len({GUARD.token, GUARD.session, GUARD.csrf}) == 3
    assert GUARD.session_right(GUARD.session)
    assert GUARD.csrf_right(GUARD.csrf)
    for wrong in (None, "", GUARD.token, GUARD.csrf, "é"):
        assert not GUARD.session_right(wrong)
    assert not GUARD.csrf_right(GUARD.session)
    assert GUARD.token_right("secret")
    for not_it in (None, 7, "", "Secret", ["secret"]):
        assert not GUARD.token_right(not_it)


def test_servers_on_other_ports_have_other_cookies_and_tokens() -> None:
    assert Guard("a", 1).cookie_name != Guard("a", 2).cookie_name
    assert new_token() != new_token()
    assert "secret" not in repr(GUARD)


def test_the_policy_allows_no_inline_script() -> None:
    assert "unsafe" not in POLICY
    assert "default-src 'none'" in POLICY
    assert "frame-ancestors 'none'" in POLICY


# --- behind a proxy ----------------------------------------------------------------------------

PROXIED = Guard("secret", 8080, origins=("https://tasks.example", "http://plain.example:81"))


@pytest.mark.parametrize(
    ("host", "origin", "allowed", "secure"),
    [
        ("tasks.example", "https://tasks.example", True, True),
        ("TASKS.example", "https://tasks.example", True, True),
        ("tasks.example", "http://tasks.example", False, True),
        ("tasks.example", "https://tasks.example:444", False, True),
        ("tasks.example", "https://evil.example", False, True),
        ("plain.example:81", "http://plain.example:81", True, False),
        ("127.0.0.1:8080", "http://127.0.0.1:8080", True, False),
        ("127.0.0.1:8080", "https://tasks.example", False, False),
    ],
)
def test_a_page_belongs_to_the_name_it_was_asked_by(
    host: str, origin: str, allowed: bool, secure: bool
) -> None:
    assert PROXIED.host_allowed(host)
    assert PROXIED.origin_allowed({"Host": host, "Origin": origin}, required=True) is allowed
    assert PROXIED.is_secure(host) is secure


@pytest.mark.parametrize("host", ["plain.example", "tasks.example:8080", "x.tasks.example", ""])
def test_other_names_are_refused_behind_a_proxy_too(host: str) -> None:
    assert not PROXIED.host_allowed(host)


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://tasks.example", "https://tasks.example"),
        ("https://Tasks.Example:443/", "https://tasks.example"),
        ("http://a:80", "http://a"),
        ("http://a:8443", "http://a:8443"),
        ("https://[fd00::1]:8443", "https://[fd00::1]:8443"),
    ],
)
def test_an_origin_is_written_as_browsers_do(text: str, origin: str) -> None:
    assert parse_origin(text) == origin


@pytest.mark.parametrize(
    "text",
    ["", "tasks.example", "ftp://a", "https://", "https://a/path", "https://a?b", "https://u@a",
     "https://a:port", "https://a:99999", "*", "null"],
)  # fmt: skip
def test_what_is_not_an_origin_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match="origin"):
        parse_origin(text)
