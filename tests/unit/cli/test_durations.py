from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from taskctl.cli.durations import between_s, percentile, precise, short_age

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0s"),
        (45, "45s"),
        (119, "119s"),
        (192, "3m12s"),
        (180, "3m"),
        (3600, "60m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (30 * 3600, "30h"),
        (52 * 3600, "2d4h"),
        (30 * 86400, "30d"),
    ],
)
def test_short_age_is_kubectls(seconds: float, text: str) -> None:
    assert short_age(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0004, "0.4 ms"),
        (0.0714, "71 ms"),
        (1.254, "1.25 s"),
        (61.04, "61.0 s"),
        (192, "3m12s"),
    ],
)
def test_precise(seconds: float, text: str) -> None:
    assert precise(seconds) == text


def test_between_is_never_negative_and_knows_the_unknown() -> None:
    later = NOW + timedelta(seconds=2)
    assert between_s(NOW, later) == 2
    assert between_s(later, NOW) == 0
    assert between_s(None, NOW) is None
    assert between_s(NOW, None) is None


def test_percentile_is_the_nearest_rank() -> None:
    values = [float(n) for n in range(1, 101)]
    assert percentile(values[::-1], 0.5) == 51
    assert percentile(values, 0.99) == 99
    assert percentile([7.0], 0.99) == 7
