"""Quantities: every pair was stored so by an API server of Kubernetes 1.34."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl import quantity
from taskctl.embedded.server.values.quantity import canonical

STORED = {
    "1": "1", "1.0": "1", "0.5": "500m", "0.1": "100m", "1024Mi": "1Gi", "1048576Ki": "1Gi",
    "1000m": "1", "1500m": "1500m", "1e3": "1e3", "1E3": "1E3", "1000k": "1M", "0.001": "1m",
    "0.0001": "1m", "1n": "1m", "100u": "1m", "1Gi": "1Gi", "1.5Gi": "1536Mi", "0.5Ki": "512",
    "1023Mi": "1023Mi", "1000000": "1M", "1e6": "1e6", "1e-3": "1e-3", "12e6": "12e6",
    "1Ei": "1Ei", "9223372036854775807": "9223372036854775807",
    "9223372036854775808": "9223372036854775808",
    "99999999999999999999999": "99999999999999999999999", "+1": "+1", ".5": "500m", "5.": "5.",
    "0": "0", "-0": "0", "00": "0", "007": "007", "1.50": "1500m", "1100m": "1100m", "1Ki": "1Ki",
    "1024": "1024", "1024Ki": "1Mi", "1.25Mi": "1280Ki", "0.1Gi": "107374182400m",
    "1.1e3": "1100", "1e30": "1e30", "0.0000000001": "1m",
    "123456789.123456789": "123456789124m", "1E": "1E", "1 ": "1", " 1": "1", "1000.0": "1k",
}  # fmt: skip


@pytest.mark.parametrize(("text", "stored"), STORED.items())
def test_as_a_real_server_stores_them(text: str, stored: str) -> None:
    assert canonical(text, to_milli=True) == stored


def test_sizes_are_rounded_to_billionths() -> None:
    assert canonical("0.0001", to_milli=False) == "100u"
    assert canonical("1000m", to_milli=False) == "1"


@pytest.mark.parametrize(
    "text", ["", "x", "1e", "1Eis", "1k5", "1.2.3", "1ki", "1K", ".", "1e99999", "9" * 5000]
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        canonical(text, to_milli=True)


_SUFFIXES = {
    "": Fraction(1), "m": Fraction(1, 1000), "k": Fraction(1000), "M": Fraction(10**6),
    "G": Fraction(10**9), "Ki": Fraction(1024), "Mi": Fraction(1024**2), "e3": Fraction(1000),
}  # fmt: skip


def value(text: str) -> Fraction:
    suffix = max((one for one in _SUFFIXES if text.endswith(one)), key=len)
    if suffix:
        text = text.removesuffix(suffix)
    elif "e" in text:
        return Fraction(text)
    return Fraction(text) * _SUFFIXES[suffix]


@given(st.integers(0, 10**9), st.integers(0, 999), st.sampled_from(sorted(_SUFFIXES)))
def test_the_canonical_form_is_stable_and_never_less(whole: int, part: int, suffix: str) -> None:
    text = f"{whole}.{part:03d}{suffix}" if part else f"{whole}{suffix}"
    made = canonical(text, to_milli=False)
    assert canonical(made, to_milli=False) == made
    if not made.endswith(("u", "n", "T", "P", "E", "Gi", "Ti", "Pi", "Ei")) and "e" not in made:
        assert value(made) == value(text)


@pytest.mark.parametrize("text", ["1e1001", "1E-1001", "-1e999999999", "1e99999999999999999999"])
def test_an_exponent_that_would_fill_the_memory_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="exponent"):
        quantity.parse_quantity(text)
    assert quantity.parse_quantity("1e1000") == 10**1000
