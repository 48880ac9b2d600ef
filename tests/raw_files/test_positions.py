"""Positions are understood however they are written, and never guessed."""

import numpy as np
import pandas as pd
import pytest

from skyloom.raw_files.positions import degrees, position, positions_of_table


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
        ("'24:00:00.0'", "'+89:59:60.0'", (360, 90)),  # as rounding writes them
        ("12H34M56.7S", "-00D12M36S", (188.73625, -0.21)),
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


@pytest.mark.parametrize(
    "table",
    [
        {"RAdeg": "10.5", "DEdeg": "-0.25"},
        {"_RAJ2000": "10.5", "_DEJ2000": "-00.25"},
        {"RA_ICRS": "10.5", "DE_ICRS": "−0.25"},
        {"RA": "10,5", "DEC": "-0,25"},
        {"ra": "00:42:00", "dec": "-00:15:00"},
        {"RAJ2000": "00 42 00.0", "DEJ2000": "-00 15 00"},
        {"ra": "0h42m0s", "dec": "-0d15m0s"},
        {"RA (h)": "0.7", "Dec": "-0.25"},
        {"RAh": "00", "RAm": "42", "RAs": "00.0", "DE-": "-", "DEd": "00", "DEm": "15", "DEs": "0"},
        {"RAh": "00", "RAm": "42", "DE-": "-", "DEd": "00", "DEm": "15"},
    ],
    ids=lambda table: " ".join(table),
)
def test_columns_and_forms_of_catalogues(table):
    found = positions_of_table(pd.DataFrame(table, index=["a"]))
    np.testing.assert_allclose(found[["ra", "dec"]], [[10.5, -0.25]], atol=1e-9)


@pytest.mark.parametrize(("ra", "dec"), [("", "1"), ("400", "1"), ("10", "-91"), ("x", "y")])
def test_what_is_no_place_has_no_position(ra, dec):
    found = positions_of_table(pd.DataFrame({"ra": [ra], "dec": [dec]}))
    assert found[["ra", "dec"]].isna().all(axis=None)


def test_columns_can_be_named_and_missing_ones_are():
    table = pd.DataFrame({"x": ["1"], "y": ["2"], "ra": ["3"]})
    assert positions_of_table(table, "X", "y")[["ra", "dec"]].to_numpy().tolist() == [[1, 2]]
    with pytest.raises(KeyError, match="no column for dec among x, y, ra"):
        positions_of_table(table)
