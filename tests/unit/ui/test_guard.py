"""Who may ask the page's server."""

from __future__ import annotations

import pytest

from taskctl.ui.guard import POLICY, Guard, new_token

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
