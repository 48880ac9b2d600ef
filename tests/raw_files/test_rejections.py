"""Files that cannot be used: none is lost, counts add up, and many for one reason are said."""

import logging
import pickle

import pytest

from skyloom.raw_files import (
    REJECTION_COLUMNS,
    NothingUsableError,
    UnusableError,
    load_bytes,
    tabulate_rejections,
)


def lost(number, reason="wrong units"):
    return [(f"{reason} {k}.fits", reason, f"value {k}") for k in range(number)]


def test_every_file_has_a_row():
    table = tabulate_rejections(lost(3), 100, "a line")
    assert tuple(table.columns) == REJECTION_COLUMNS
    assert list(table.itertuples(index=False, name=None)) == lost(3)
    assert tuple(tabulate_rejections([], 1, "a line").columns) == REJECTION_COLUMNS


def test_the_error_counts_every_file_by_its_reason_and_holds_the_table():
    files = lost(3) + lost(1, "empty file")
    with pytest.raises(NothingUsableError) as caught:
        tabulate_rejections(files, 0, "a line")
    assert str(caught.value) == (
        "none of 4 files holds a line: 3 wrong units (such as wrong units 0.fits: value 0), "
        "1 empty file (empty file 0.fits: value 0)"
    )
    assert caught.value.rejected["file"].tolist() == [file for file, _, _ in files]


def test_no_files_are_said():
    with pytest.raises(NothingUsableError, match="none of 0 files holds a line: no observations"):
        tabulate_rejections([], 0, "a line")


def test_the_error_reaches_another_process_whole():
    with pytest.raises(NothingUsableError) as caught:
        tabulate_rejections(lost(2), 0, "a line")
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.rejected.equals(caught.value.rejected)


@pytest.mark.parametrize(
    ("n_lost", "n_accepted", "level"),
    [(2, 3, "WARNING"), (10, 100, "WARNING"), (1, 1, "INFO"), (2, 98, "INFO"), (5, 95, "INFO")],
)
def test_many_files_lost_for_one_reason_are_a_warning(caplog, n_lost, n_accepted, level):
    with caplog.at_level(logging.INFO, "skyloom"):
        tabulate_rejections(lost(n_lost), n_accepted, "a line")
    (record,) = caplog.records
    assert record.levelname == level
    assert f"{n_lost} of {n_lost + n_accepted} files are rejected: {n_lost} wrong" in record.message
    assert "wrong units 0.fits: value 0" in record.message


def test_many_files_lost_for_reasons_of_their_own_are_no_warning(caplog):
    files = [file for k in range(8) for file in lost(1, f"reason {k}")]
    with caplog.at_level(logging.INFO, "skyloom"):
        tabulate_rejections(files, 10, "a line")
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_where_all_files_are_used_nothing_is_said(caplog):
    with caplog.at_level(logging.INFO, "skyloom"):
        tabulate_rejections([], 10, "a line")
    assert not caplog.records


def test_a_long_value_is_shortened_in_the_message_only(caplog):
    files = [("a", "damaged", "word " * 1000)]
    with caplog.at_level(logging.INFO, "skyloom"):
        table = tabulate_rejections(files, 1, "a line")
    assert len(caplog.text) < 400
    assert table["value"][0] == "word " * 1000


def test_a_reason_that_is_known_before_the_file_is_opened_is_kept():
    def refuse():
        raise UnusableError("not a regular file", "a FIFO")

    with pytest.raises(UnusableError) as caught:
        load_bytes(refuse)
    assert (caught.value.reason, caught.value.value) == ("not a regular file", "a FIFO")
