"""Rows of a table find their objects as people and Excel write ids, and what is left is said."""

import numpy as np
import pandas as pd
import pytest

from skyloom.raw_files.labels import (
    labels_by_id,
    match_ids,
    match_rows,
    warn_of_unmatched,
    with_positions,
)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("00012", "00012"),
        ("00012", "12"),
        ("12", "0012"),
        ("UGC7", "UGC7.fits"),
        ("UGC7", "ugc7.FITS.gz"),
        ("sym/0001", "sym/0001"),
        ("sym/0001", "sym/1"),
        ("J0123+45.6", "J0123+45.6"),
    ],
)
def test_an_id_is_known_as_people_and_excel_write_it(name, key):
    assert match_ids([name, "other"], [key, "more"]) == {name: key, "other": None}


@pytest.mark.parametrize(
    ("ids", "keys", "expected"),
    [
        (["12", "00012"], ["12"], {"12": "12", "00012": None}),  # the exact one comes first
        (["0012", "00012"], ["12"], {"0012": None, "00012": None}),
        (["12"], ["012", "0012"], {"12": None}),
        (["sym/1", "asym/1"], ["1"], {"sym/1": None, "asym/1": None}),
    ],
)
def test_what_could_mean_two_means_none(ids, keys, expected):
    assert match_ids(ids, keys) == expected


def test_labels_are_found_by_id_however_it_is_written():
    table = pd.DataFrame({"name": [7, 8.0, " A.fits ", None], "Class ": list("abcd")})
    found = labels_by_id(table, "name", ["class"])
    assert found["class"].to_dict() == {"7": "a", "8": "b", "A": "c"}


def test_a_label_table_without_its_column_is_refused():
    with pytest.raises(ValueError, match=r"no column \['kind'\]; its columns are \['name'\]"):
        labels_by_id(pd.DataFrame({"name": ["7"]}), "name", ["kind"])


def test_rows_that_contradict_each_other_are_refused_and_those_that_repeat_are_one():
    table = pd.DataFrame({"name": ["7", "7.0", "8"], "class": ["FR I", "fri", "bent"]})
    table["note"] = ["x", "y", "z"]  # not asked for
    assert labels_by_id(table, "name", ["class"])["class"].to_dict() == {"7": "FR I", "8": "bent"}
    table.loc[1, "class"] = "FRII"
    with pytest.raises(ValueError, match=r"more than one row for '7', .* 'FR I' and 'FRII'"):
        labels_by_id(table, "name", ["class"])


def test_a_row_is_found_by_id_else_by_position():
    table = pd.DataFrame({"ra": [10.0, 20, np.nan], "dec": [1.0, 2, np.nan]}, index=list("abc"))
    ra, dec = np.array([50, 20.0005, 21, np.nan]), np.array([5, 2.0, 2, np.nan])
    assert match_rows(["a", "x", "y", "z"], ra, dec, table, 10) == ["a", "b", None, None]


def test_positions_that_are_none_are_said(caplog):
    table = pd.DataFrame({"RA": ["10.5", "10.5", ""], "DEC": ["-91", "−1,5", ""]})
    found = with_positions(table)
    np.testing.assert_array_equal(found[["ra", "dec"]], [[np.nan] * 2, [10.5, -1.5], [np.nan] * 2])
    assert "1 of 3 positions of the label table are none on the sky, such as '10.5', '-91'" in (
        caplog.text
    )


def test_what_does_not_match_is_counted_and_some_are_named(caplog):
    warn_of_unmatched("label table", ["a", "b"], {"A": "a"}, "spectra")
    warn_of_unmatched("label table", ["a"], {"A": "a", "B": None}, "spectra")
    assert "1 of 2 rows of the label table are of none of the spectra, such as 'b'" in caplog.text
    assert "1 of 2 spectra have no row in the label table, such as 'B'" in caplog.text
    caplog.clear()
    warn_of_unmatched("label table", ["a"], {"A": "a"}, "spectra")
    assert not caplog.text
