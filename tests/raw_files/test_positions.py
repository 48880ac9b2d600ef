"""Positions are understood however they are written, and never guessed."""

import numpy as np
import pytest

from skyloom.raw_files.positions import degrees, position


@pytest.mark.parametrize(
    ("ra", "dec", "expected"),
    [
        (10.5, -0.25, (10.5, -0.25)),
        ("3.2", "0.1", (3.2, 0.1)),  # degrees, however small
        ("10,5", "-0,25", (10.5, -0.25)),
        ("12:34:56.7", "-00:15:00", (188.73625, -0.25)),
        ("12 34 56.7", "+30 00 00", (188.73625, 30)),
        ("12h34m56.7s", "-00d12m36s", (188.73625, -0.21)),
        ("188.73625", "\N{MINUS SIGN}5", (188.73625, -5)),
        ("'00:00:00.0'", "'+89:59:60.0'", None),  # 60 seconds are none
        (-10, 5, (350, 5)),
        ("", "5", None),
        ("none", "none", None),
        (10, 127, None),
        (np.nan, 5, None),
        (400, 5, None),
    ],
)
def test_a_position_is_understood_or_missing(ra, dec, expected):
    assert position(ra, dec) == pytest.approx(expected or (np.nan, np.nan), nan_ok=True, abs=1e-6)


def test_text_without_letters_is_in_hours_only_where_that_is_said():
    assert degrees("12:00:00", hours=True) == pytest.approx(180)
    assert degrees("12:00:00") == pytest.approx(12)
