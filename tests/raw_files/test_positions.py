"""Positions are found in the columns in which catalogues have them."""

import numpy as np
import pandas as pd
import pytest

from skyloom.raw_files.positions import positions_of_table


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
