"""A table is the same, whatever people and programs wrote it with."""

import bz2
import gzip
import io
import lzma

import numpy as np
import openpyxl
import pandas as pd
import pytest
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from skyloom.raw_files import UnusableError
from skyloom.raw_files.tables import find_column, numbers, read_table, warn_of_damaged

ROWS = [["00012", "0"], ["NGC 628", "1"], ["UGC7", "2"], ["s-4", "1"]]
PLAIN = "id,class\n00012,0\nNGC 628,1\nUGC7,2\ns-4,1\n"


def table_of(content, name="labels"):
    table, damaged = read_table(name, content.encode() if isinstance(content, str) else content)
    assert damaged.empty
    return table


LAYOUTS = {
    "commas": PLAIN,
    "semicolons": PLAIN.replace(",", ";"),
    "tabs": PLAIN.replace(",", "\t"),
    "bars": PLAIN.replace(",", "|"),
    "two blanks": PLAIN.replace(",", "   "),
    "fixed width": "id         class\n00012      0\nNGC 628    1\nUGC7       2\ns-4        1\n",
    "blanks after commas": PLAIN.replace(",", ", "),
    "padded": PLAIN.replace(",", "  , ").replace("\n", "  \n"),
    "Windows": "\ufeff" + PLAIN.replace(",", ";").replace("\n", "\r\n"),
    "old Mac": PLAIN.replace("\n", "\r"),
    "quoted": '"id","class"\n"00012","0"\n"NGC 628","1"\n"UGC7","2"\n"s-4","1"\n',
    "a frame": "| id | class |\n|----|-------|\n| 00012 | 0 |\n| NGC 628 | 1 |\n| UGC7 | 2 |\n"
    "| s-4 | 1 |\n",
    "comments": "# my labels\n# 2 = strong\n" + PLAIN,
    "other comments": "% mine\n// 2 = strong\n\n" + PLAIN,
    "comments below": PLAIN + "# the end\n",
    "a title": "Labels of the sample,\n" + PLAIN,
    "a title with commas": "Labels, by me, in spring\n\n" + PLAIN,
    "heading in a comment": "# id,class" + PLAIN[8:],
    "rows end with a comma": PLAIN.replace("\n", ",\n").replace("class,", "class"),
    "all end with a comma": PLAIN.replace("\n", ",\n"),
    "for Excel": "sep=;\n" + PLAIN.replace(",", ";"),
    "empty lines": PLAIN.replace("\n", "\n\n,\n"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_text_of_any_layout(layout):
    table = table_of(LAYOUTS[layout])
    assert list(table) == ["id", "class"]
    assert table.to_numpy().tolist() == ROWS


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_any_encoding(encoding):
    table = table_of("id;Größe\nÅ 1;2\n".encode(encoding))
    assert table.to_dict("records") == [{"id": "Å 1", "Größe": "2"}]


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed(compress):
    assert table_of(compress(PLAIN.encode())).to_numpy().tolist() == ROWS


def test_a_row_of_another_length_is_damaged_and_shifts_nothing(caplog):
    text = PLAIN.replace("628,1", "628,1,comment, here").replace("UGC7,2", "UGC7")
    table, damaged = read_table("a.csv", text.encode())
    assert table.to_numpy().tolist() == [ROWS[0], ROWS[3]]
    assert damaged.to_numpy().tolist() == [
        [3, "4 cells instead of 2", "NGC 628,1,comment, here"],
        [4, "1 cells instead of 2", "UGC7"],
    ]
    warn_of_damaged("a.csv", table, damaged)
    assert "2 of 4 rows of a.csv are damaged and left out: line 3: 4 cells" in caplog.text


def test_cells_in_quotes_may_hold_anything():
    text = 'id,class,note\na,1,"x, y ""z"""\nb,2,"two\nlines"\n3C 1",0,\n'
    assert table_of(text).to_numpy().tolist() == [
        ["a", "1", 'x, y "z"'],
        ["b", "2", "two lines"],
        ['3C 1"', "0", ""],
    ]


@pytest.mark.parametrize("mark", ["\t", "|", ";", ","])
def test_rows_of_units_and_dashes_are_no_data(mark):
    head = "#\n#  VizieR\n#Coosys\tJ2000\n#\n"
    text = head + "_RAJ2000|_DEJ2000|Name\ndeg|deg| \n---|---|---\n1.5|-2|a\n"
    table = table_of(text.replace("|", mark))
    assert table.to_dict("records") == [{"_RAJ2000": "1.5", "_DEJ2000": "-2", "Name": "a"}]


@pytest.mark.parametrize("kind", ["G", "M", "K"])
def test_classes_that_look_like_units_are_data(kind):
    assert table_of(f"id,type\n,{kind}\n")["type"].tolist() == [kind]


@settings(deadline=None)
@given(
    st.lists(st.tuples(*[st.from_regex(r"[A-Za-z0-9.+]{1,8}", fullmatch=True)] * 3), min_size=1),
    st.sampled_from([",", ";", "\t", "|", "  "]),
)
def test_what_is_written_comes_back(rows, mark):
    rows = [("id", *row) for row in rows]  # never a row of units alone
    heading = ["name", "class", "ra", "note"]
    table = table_of("\n".join(mark.join(row) for row in [heading, *rows]) + "\n")
    assert list(table) == heading
    assert list(table.itertuples(index=False, name=None)) == rows


# --- other formats --------------------------------------------------------------------------------
def workbook(**sheets):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


HEADED = [["id", "class"], *ROWS]
NOTES = [["what", "who"], ["all", "me"]]


@pytest.mark.parametrize(
    "sheets",
    [
        {"a": HEADED},
        {"a": [["Sample of galaxies"], [], *HEADED]},
        {"empty": [], "a": HEADED},
        {"notes": NOTES, "a": HEADED},
        {"a": [[None, None], ["Sample", None], *HEADED], "notes": NOTES},
    ],
    ids=["plain", "title", "second sheet", "after notes", "title and blank"],
)
def test_a_workbook_has_its_table_in_any_sheet_below_any_title(sheets):
    table = table_of(workbook(**sheets), name="labels.XLSM")
    assert list(table) == ["id", "class"]
    assert table.to_numpy().tolist() == ROWS
    assert "sheet 'a'" in table.attrs["origin"]


def test_numbers_in_a_workbook_are_as_they_are_shown():
    book = openpyxl.load_workbook(io.BytesIO(workbook(a=[["id", "class"], [12, 1.0], [7.5, None]])))
    book["a"]["A2"].number_format = "00000"
    stream = io.BytesIO()
    book.save(stream)
    assert table_of(stream.getvalue()).to_numpy().tolist() == [["00012", "1"], ["7.5", ""]]


def test_text_that_is_called_a_workbook_is_text():
    assert table_of(PLAIN, name="labels.xls").to_numpy().tolist() == ROWS


def test_a_workbook_without_a_table_names_its_sheets():
    with pytest.raises(UnusableError, match=r"sheets 'one' \(0 rows\), 'two' \(1 rows\)"):
        read_table("a.xlsx", workbook(one=[], two=[["id", "class"]]))


def test_an_old_workbook_says_what_to_do():
    with pytest.raises(UnusableError, match=r"a\.xls: save the table as \.xlsx or as text"):
        read_table("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1000))


@pytest.mark.parametrize("kind", ["fits", "votable", "ascii.ecsv", "ascii.ipac", "ascii.cds"])
def test_tables_of_astronomers(kind):
    made = Table({"id": ["00012", "NGC 628"], "class": [0, 1], "ra": [1.5, np.nan]})
    if kind == "ascii.cds":
        content = CDS
    else:
        stream = io.BytesIO() if kind in ("fits", "votable") else io.StringIO()
        made.write(stream, format=kind)
        content = stream.getvalue()
    table = table_of(content)
    assert list(table) == ["id", "class", "ra"]
    assert table.to_numpy().tolist() == [["00012", "0", "1.5"], ["NGC 628", "1", ""]]


CDS = """Title: Galaxies
Table: The sample
================================================================================
Byte-by-byte Description of file: table1.dat
--------------------------------------------------------------------------------
   Bytes Format Units Label Explanations
--------------------------------------------------------------------------------
   1-  7 A7     ---   id    Name
   9     I1     ---   class Class
  11- 13 F3.1   deg   ra    ? Right ascension
--------------------------------------------------------------------------------
00012   0 1.5
NGC 628 1
"""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b" \n\n", "empty file"),
        (b"# nothing\n", "no heading and no rows"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "no text"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\x1f\x8b\0\0", "damaged compression"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + 20 * b"\xff", r"damaged compression: a\.csv: "),
        (b"\x1f\x9d\x90abc", r"compressed by compress \(\.Z\): a\.csv: "),
        (b"PK\x03\x04 no archive", "damaged archive"),
        (b"SIMPLE  =  T", "FITS without a table"),
        (b"name ra dec\na 12 34 56 1 2 3\n", "line 2 has 7 cells instead of 3: 'a 12 34"),
    ],
)
def test_what_is_no_table_is_said(content, message):
    with pytest.raises(UnusableError, match=message):
        read_table("a.csv", content)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_table_or_refused(content):
    try:
        table, damaged = read_table("a", content)
    except UnusableError:
        return
    assert all(isinstance(name, str) for name in table)
    assert list(damaged) == ["row", "reason", "value"]


# --- columns and cells ----------------------------------------------------------------------------
def test_a_column_is_found_without_regard_to_case_and_blanks():
    table = pd.DataFrame(columns=["ID", "class", "Class", "Bending Angle [deg]"])
    assert find_column(table, "id") == "ID"
    assert find_column(table, "Class") == "Class"  # the exact one comes first
    assert find_column(table, "bending_angle") == "Bending Angle [deg]"
    assert find_column(table, "CLASS") is None  # either
    assert find_column(table, "ra") is None


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["9000,5", "-12,5"], [9000.5, -12.5]),
        (["9000.5", ""], [9000.5, np.nan]),
        (["15,000.5", "1,200"], [15000.5, 1200]),
        (["1,234,567", "8,000"], [1234567, 8000]),
        (["8,000", "7,5"], [8, 7.5]),  # European, as the other cell shows
        (["1.5D3", "2e-1"], [1500, 0.2]),
        (["−3", "–4"], [-3, -4]),
        (["--", "n/a"], [np.nan, np.nan]),
        ([5, 6.5], [5, 6.5]),
    ],
)
def test_numbers_are_understood_as_their_column_writes_them(cells, expected, caplog):
    np.testing.assert_array_equal(numbers(pd.Series(cells, name="v")), expected)
    assert not caplog.text


@pytest.mark.parametrize("cell", ["15,000", "5000 km/s", "<3", "unknown", "1.234,5"])
def test_what_is_no_number_counts_as_missing_and_is_said(cell, caplog):
    found = numbers(pd.Series(["1", cell], name="v"))
    np.testing.assert_array_equal(found, [1, np.nan])
    assert "1 of 2 values of the column 'v' are no numbers" in caplog.text
    assert repr(cell) in caplog.text
