"""Tables as people and programs write them: text of any layout, Excel, FITS, VOTable."""

from __future__ import annotations

import csv
import io
import itertools
import logging
import lzma
import re
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from skyloom.raw_files.files import UnusableError, unpacked
from skyloom.raw_files.text import MINUS, decode

DAMAGED_COLUMNS = ("row", "reason", "value")
"""Columns of the table of damaged rows: line of the file, what is wrong, and the line."""

MISSING = frozenset(
    {"", "nan", "na", "n/a", "<na>", "null", "none", "-", "--", "---", "...", "\N{EM DASH}"}
)
"""How tables write that there is nothing, in lower case."""

logger = logging.getLogger(__name__)

_SAMPLE = 200  # rows by which a layout is judged
_TOP = 30  # rows in which a heading is sought
_COMMENT = re.compile(r"\s*(#|%|//)")
_RULE = re.compile(r"[-=+:_|,;\s]*[-=]{2,}[-=+:_|,;\s]*|[-=+:_|\s]*\+[-=+:_|\s]*")
_NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eEdD][+-]?\d+)?")
_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200e\u200f\u2060\ufeff\u00ad"))
# By such a word a heading is known among titles, rows and sheets.
_USUAL = re.compile(
    r"(.*_)?(id|ids|name|names|object|source|sources|star|galaxy|designation|obsid|file|filename"
    r"|cig|agc|class|classes|class_value|label|type|sptype|spt|spectral_type|subclass|keep"
    r"|_?raj?2?0?0?0?|_?dec?j?2?0?0?0?|radeg|dedeg|rah|ded|ra_.*|dec?_.*|rv|velocity|v|snrg?"
    r"|bending_angle|angle)"
)
_UNITS = frozenset(
    {
        "deg", "degree", "degrees", "arcsec", "arcmin", "mas", "h", "m", "s", "hr", "min", "sec",
        "hms", "dms", "h:m:s", "d:m:s", "km/s", "km s-1", "km.s-1", "mag", "jy", "mjy", "jy/beam",
        "mjy/beam", "yr", "mpc", "kpc", "pc", "nm", "angstrom", "k", "[-]", "char", "string",
        "double", "float", "int",
    }
)  # fmt: skip


class _Layout(NamedTuple):
    """How the cells of a line are found."""

    words: str
    split: Callable[[str], list[str]]


def read_table(name: str, content: bytes) -> tuple[pd.DataFrame, pd.DataFrame]:
    r"""Read a table, whatever wrote it.

    Parameters
    ----------
    name : str
        File name, for messages only.
    content : bytes
        The whole file, perhaps compressed (gzip, bzip2, xz, or alone in a ZIP archive). Text in
        any encoding with a heading and a row a line; cells are separated by commas, semicolons,
        tabs, bars or blanks, whichever gives consistent rows. Titles and comments may stand above
        the heading, a row of units and one of dashes below it, as in VizieR's tables. Or an Excel
        workbook, of which the sheet is taken whose heading has the most usual names; a FITS,
        VOTable, ECSV or IPAC table; or a table of a journal with its description above
        (machine-readable table, CDS).

    Returns
    -------
    table : pandas.DataFrame of str
        Cells without the blanks around them, empty where there is nothing. ``attrs["origin"]``
        says where it was found, for messages.
    damaged : pandas.DataFrame
        `DAMAGED_COLUMNS` of the lines that have more or fewer cells than the heading: which cell
        is which is not known.

    Raises
    ------
    UnusableError
        If there is no table; says what was found.

    Examples
    --------
    >>> table, damaged = read_table("a.csv", b"# mine\nid; class\n007; 1\n8;2;3\n")
    >>> table
        id class
    0  007     1
    >>> damaged
       row                reason  value
    0    4  3 cells instead of 2  8;2;3
    """
    content = _unpacked(name, content)
    if not content.strip():
        raise UnusableError("empty file", name)
    damaged = pd.DataFrame(columns=list(DAMAGED_COLUMNS))
    if content[:4] == b"PK\x03\x04":
        return _of_workbook(name, content), damaged
    if content[:8] == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1":
        return _of_old_workbook(name, content), damaged
    text = "" if content[:9] == b"SIMPLE  =" else decode(content)
    if (kind := _kind(content, text)) is not None:
        return _of_astropy(name, content, text, kind), damaged
    if re.match(r"\s*<(!doctype|html|head|table)", text, re.IGNORECASE):
        raise UnusableError("a web page, no table", f"{name}: {text.strip()[:60]!r}")
    return _of_text(name, text)


def _unpacked(name, content):
    """The bytes within any compression."""
    try:
        while (inside := unpacked(content)) is not content:
            content = inside
    except UnusableError as error:
        raise UnusableError(error.reason, f"{name}: {error.value}") from error
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise UnusableError("damaged compression", f"{name}: {error}") from error
    if content.startswith(b"PK\x03\x04"):
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                inside = [each for each in archive.namelist() if not each.endswith("/")]
                if len(inside) == 1:
                    return archive.read(inside[0])
        except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
            raise UnusableError("damaged archive", f"{name}: {error}") from error
    return content


# --- text ----------------------------------------------------------------------------------------
def _by_mark(mark):
    def split(line):
        line = line.strip(" ") if mark == "\t" else line.strip()
        if mark == "|" and line.startswith("|"):  # as in a frame
            line = line[1:].removesuffix("|")
        elif mark == " ":
            line = re.sub(r"\s", " ", line)
        elif mark == "\t":
            line = line.strip("\n")
        try:
            cells = next(csv.reader([line], delimiter=mark, skipinitialspace=True, strict=True), [])
        except csv.Error:  # a lone quotation mark
            cells = line.split(None if mark == " " else mark)
        return [_clean(cell) for cell in cells]

    return split


def _by_wide_blanks(line):
    return [_clean(cell) for cell in re.split(r"\s{2,}|\t", line.strip())]


def _clean(cell):
    return " ".join(cell.translate(_INVISIBLE).split())


_LAYOUTS = (
    *(_Layout(words, _by_mark(mark)) for words, mark in
      (("tabs", "\t"), ("semicolons", ";"), ("bars", "|"), ("commas", ","))),
    _Layout("two or more blanks", _by_wide_blanks),
    _Layout("blanks", _by_mark(" ")),
)  # fmt: skip


def _of_text(name, text):
    """The layout under which most rows have as many cells as the heading."""
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    lines = [
        (number, line) for number, line in lines
        if not re.fullmatch(r'"?sep=.?"?', line.strip(), re.IGNORECASE)  # for Excel
    ]  # fmt: skip
    comments = list(itertools.takewhile(lambda each: _COMMENT.match(each[1]), lines))
    body = _whole_rows([each for each in lines[len(comments) :] if not _COMMENT.match(each[1])])
    body = [(number, line) for number, line in body if not _RULE.fullmatch(line)]
    if not body:
        raise UnusableError("no table", f"{name} has no heading and no rows")
    if comments:  # the last one may be the heading
        number, line = comments[-1]
        comments = [(number, _COMMENT.sub("", line).strip())]
    best = None
    for layout in _LAYOUTS:
        start, width, share = _judge(layout, comments, body)
        if width > 1 and (best is None or share > best[-1]):
            best = (layout, start, share)
    layout, start, _ = best or (_LAYOUTS[3], 0, 0)
    rows = [(number, line, layout.split(line)) for number, line in comments + body]
    start = start if best else len(comments)
    heading, rows = rows[start], rows[start + 1 :]
    names = _without_end(heading[2])
    good, damaged = [], []
    for number, line, cells in rows:
        if len(cells) > len(names):
            cells = cells[: len(names)] + _without_end(cells[len(names) :])
        if len(cells) != len(names):
            words = f"{len(cells)} cells instead of {len(names)}"
            damaged.append((number, words, line.strip()))
        elif any(cells) and cells != names:  # a heading may be repeated
            good.append(cells)
    damaged = pd.DataFrame(damaged, columns=list(DAMAGED_COLUMNS))
    if damaged.shape[0] and not good:
        first = damaged.iloc[0]
        raise UnusableError(
            "no row fits the heading",
            f"{name}, separated by {layout.words}: heading in line {heading[0]} {names}, line "
            f"{first['row']} has {first['reason']}: {first['value'][:80]!r}",
        )
    origin = f"{name}, heading in line {heading[0]}, separated by {layout.words}"
    return _tabulated(names, good, origin), damaged


def _whole_rows(lines):
    """Join lines of which a quoted cell goes on in the next; a lone quotation mark joins none."""
    rows, k = [], 0
    while k < len(lines):
        number, line = lines[k]
        joined, last = line, k
        if re.search(r'(^|[,;\t|])\s*"', line):
            while joined.count('"') % 2 and last + 1 < len(lines) and last - k < 5:
                last += 1
                joined += " " + lines[last][1]
        if joined.count('"') % 2 or lines[last][1].count('"') % 2 == 0:
            joined, last = line, k
        rows.append((number, joined))
        k = last + 1
    return rows


def _judge(layout, comments, body):
    """Where the heading is, how many columns it has, and the share of rows that fit it."""
    rows = [layout.split(line) for _, line in comments + body[:_SAMPLE]]
    widths = Counter(len(_without_end(row)) for row in rows[len(comments) :])
    start = _heading(rows, len(comments), widths.most_common(1)[0][0])
    names, rest = _without_end(rows[start]), rows[start + 1 :]
    fit = sum(len(row) >= len(names) and not any(row[len(names) :]) for row in rest)
    usual = sum(map(_is_usual, names)) > 0
    # Without any row the names have to tell.
    return start, len(names), (fit / len(rest) if rest else float(usual)) + usual


def _heading(rows, n_comments, width):
    """Index of the row that names the columns: one with usual names, else the first whole one."""
    usual = [sum(map(_is_usual, row)) for row in rows[:_TOP]]
    # A title has such words, too, but not as many as cells; data have none.
    if max(usual) and (best := int(np.argmax(usual))) >= n_comments - 1:
        named = [cell for cell in rows[best] if cell]
        if len(named) > 1 and not any(map(_NUMBER.fullmatch, named)):
            return best
    last = rows[n_comments - 1] if n_comments else []
    first = rows[n_comments] if n_comments < len(rows) else []
    if len(last) > 1 and len(last) == len(first) and any(map(_NUMBER.fullmatch, first)):
        return n_comments - 1
    for k, row in enumerate(rows[:_TOP]):
        filled = sum(map(bool, row))
        if k >= n_comments and filled > 1 and filled >= width - 1:
            return k
    return n_comments


def _is_usual(cell):
    return bool(_USUAL.fullmatch(plain_name(cell)))


def _without_end(cells):
    """The cells without the empty ones at the end."""
    while cells and not cells[-1]:
        cells = cells[:-1]
    return cells


def _tabulated(names, rows, origin):
    """Table of cells; rows of units and dashes below the heading are no data."""
    names = [name or f"column {k}" for k, name in enumerate(names, 1)]
    for k, name in enumerate(names):
        if (again := names[:k].count(name)) and name:
            names[k] = f"{name}.{again}"
    if rows and _is_of_units(rows[0]):
        rows = rows[1:]
    table = pd.DataFrame(rows, columns=names, dtype=str)
    table.attrs["origin"] = origin
    return table


def _is_of_units(cells):
    words = [re.sub(r"[\"'()\[\]]", "", cell).lower() for cell in cells if cell]
    # Some of the units are spectral types and classes, too: a row of such words alone is data.
    return all(word in _UNITS for word in words) and any(len(word) > 1 for word in words)


# --- other formats -------------------------------------------------------------------------------
def _kind(content, text):
    """Format by which astropy reads a table, or None."""
    if content[:9] == b"SIMPLE  =":
        return "fits"
    start = text[:2000]
    for kind, pattern in (
        ("votable", r"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<VOTABLE"),
        ("ascii.ecsv", r"# %ECSV"),
        ("ascii.ipac", r"(\\[^\n]*\n)+\||(\|[^\n]*\n){2,4} *[^|\s]"),
    ):
        if re.match(pattern, start, re.DOTALL if kind == "votable" else 0):
            return kind
    if re.match(r"#\s+1\s+[A-Z]\w*\s", start):
        return "ascii.sextractor"
    return "ascii.cds" if re.search(r"^Byte-by-byte Description", text, re.MULTILINE) else None


def _of_astropy(name, content, text, kind):
    from astropy.table import Table

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # units and the like that do not matter here
            if kind in ("fits", "votable"):
                table = Table.read(io.BytesIO(content), format=kind)
            else:
                table = Table.read(text, format=kind)
    except Exception as error:
        # astropy raises many kinds of exception on damaged bytes.
        words = {"fits": "FITS without a table"}.get(kind, f"damaged table ({kind})")
        raise UnusableError(words, f"{name}: {type(error).__name__}: {error}") from error
    table = table[[each for each in table.colnames if table[each].ndim == 1]]
    columns = [[_as_text(value) for value in table[each].tolist()] for each in table.colnames]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return _tabulated(list(table.colnames), rows, f"{name}, a table in {kind}")


def _as_text(value: Any, number_format: str = "") -> str:
    """Text of a cell that a program has as a number, text or nothing."""
    if value is None or value is np.ma.masked:
        return ""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, float):
        if np.isnan(value):
            return ""
        if value.is_integer() and abs(value) < 1e15:
            value = int(value)
    if isinstance(value, int) and re.fullmatch("0+", number_format):
        return str(value).zfill(len(number_format))  # shown so by Excel
    return _clean(str(value))


def _of_workbook(name, content):
    import openpyxl

    try:
        book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
        sheets = {
            sheet.title: [
                [_as_text(cell.value, cell.number_format or "") for cell in row]
                for row in sheet.iter_rows()
            ]
            for sheet in book.worksheets
        }
    except Exception as error:
        # openpyxl raises many kinds of exception on archives that are no workbook.
        raise UnusableError(
            "no Excel workbook", f"{name} is an archive that openpyxl cannot read: {error}; "
            "save the table as .xlsx or as text (.csv)",
        ) from error  # fmt: skip
    return _of_sheets(name, sheets)


def _of_old_workbook(name, content):
    try:
        book = pd.read_excel(io.BytesIO(content), sheet_name=None, header=None, engine="xlrd")
    except Exception as error:
        # Also a workbook with a password.
        raise UnusableError(
            "an old Excel workbook, or one with a password",
            f"{name}: save the table as .xlsx or as text (.csv)",
        ) from error
    return _of_sheets(
        name, {title: [[_as_text(v) for v in row] for row in t.to_numpy().tolist()]
               for title, t in book.items()}
    )  # fmt: skip


def _of_sheets(name, sheets):
    """The table of the sheet whose heading has the most usual names."""
    found = []
    for title, rows in sheets.items():
        rows = [(k, row) for k, row in enumerate(rows, 1) if any(row)]
        if len(rows) < 2:
            continue
        cells = [row for _, row in rows]
        widths = Counter(len(_without_end(row)) for row in cells[:_SAMPLE])
        start = _heading(cells, 0, widths.most_common(1)[0][0])
        found.append((sum(map(_is_usual, cells[start])), title, start, rows))
    if not found:
        words = ", ".join(
            f"{title!r} ({sum(map(any, rows))} rows)" for title, rows in sheets.items()
        )
        raise UnusableError("no table", f"{name} has no heading with rows in its sheets {words}")
    _, title, start, rows = max(found, key=lambda each: each[0])  # the first of equals
    width = max(len(_without_end(row)) for _, row in rows[start:])
    others = [f"{each!r} (row {r[s][0]})" for _, each, s, r in found if each != title]
    origin = f"{name}, sheet {title!r}, heading in row {rows[start][0]}"
    origin += f"; other sheets: {', '.join(others)}" if others else ""
    padded = [(row + [""] * width)[:width] for _, row in rows[start:]]
    return _tabulated(padded[0], padded[1:], origin)


# --- columns and cells ---------------------------------------------------------------------------
def plain_name(name: object) -> str:
    """Name of a column without its unit in brackets, its case, and with one kind of blank.

    Parameters
    ----------
    name : object
        As a table has it.

    Returns
    -------
    str

    Examples
    --------
    >>> plain_name(" RA (J2000) "), plain_name("Bending angle [deg]")
    ('ra', 'bending_angle')
    """
    word = re.sub(r"[(\[].*?[)\]]", "", str(name)).strip().lower()
    return re.sub(r"[\s-]+(?=.)", "_", word)


def find_column(table: pd.DataFrame, wanted: str) -> str | None:
    """The column of a table that is meant, without regard to case and blanks if need be.

    Parameters
    ----------
    table : pandas.DataFrame
    wanted : str

    Returns
    -------
    str or None
        None where there is no such column, or more than one.
    """
    if wanted in table.columns:
        return wanted
    for plain in (lambda name: " ".join(str(name).split()).casefold(), plain_name):
        alike = [name for name in table.columns if plain(name) == plain(wanted)]
        if len(alike) == 1:
            return alike[0]
    return None


def is_missing(cell: Any) -> bool:
    """Whether a cell tells nothing.

    Parameters
    ----------
    cell : object

    Returns
    -------
    bool
    """
    return cell is None or str(cell).strip().lower() in MISSING


def numbers(cells: pd.Series) -> pd.Series:
    """Numbers of a column of text; what is none counts as missing, and a warning says so.

    Parameters
    ----------
    cells : pandas.Series
        Text or numbers; its name is said in the warning.

    Returns
    -------
    pandas.Series of float
        NaN where there is nothing or no number. A comma is the decimal mark or one of thousands,
        as the whole column tells; where it does not (``15,000`` alone may be either) it is no
        number. Exponents may have a D, and the minus may be any that typesetters make.

    Examples
    --------
    >>> numbers(pd.Series(["9000,5", "−3", ""])).tolist()
    [9000.5, -3.0, nan]
    """
    text = cells.map(lambda cell: "" if is_missing(cell) else str(cell).strip().translate(MINUS))
    commas = text[text.str.contains(",", regex=False)]
    grouped = commas.str.fullmatch(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")
    if len(commas) and not grouped.all():
        text = text.str.replace(r"^([^,.]*),([^,.]*)$", r"\1.\2", regex=True)
    elif len(commas) and commas[grouped].str.contains(r",.*,|\.", regex=True).any():
        text = text.str.replace(",", "")
    text = text.str.replace(r"(?<=[\d.])[dD](?=[+-]?\d)", "e", regex=True)
    found = pd.to_numeric(text, errors="coerce").astype(float)
    wrong = cells[found.isna() & (text != "") & (text.str.lower() != "nan")]
    if len(wrong):
        logger.warning(
            "%d of %d values of the column %r are no numbers and count as missing, such as %s",
            len(wrong), len(cells), cells.name, some_of(wrong),
        )  # fmt: skip
    return found


def some_of(values: Iterable[Any], n: int = 3) -> str:
    """Name a few of some things.

    Parameters
    ----------
    values : iterable
    n : int
        How many.

    Returns
    -------
    str

    Examples
    --------
    >>> some_of(["a", "b", "a", "c", "d"])
    "'a', 'b', 'c' ..."
    """
    different = list(dict.fromkeys(values))
    return ", ".join(map(repr, different[:n])) + (" ..." if len(different) > n else "")


def warn_of_damaged(name: str, table: Sequence[Any], damaged: pd.DataFrame) -> None:
    """Say which lines of a table are no rows of it.

    Parameters
    ----------
    name : str
        Of the file.
    table : sequence
        Its rows that can be used.
    damaged : pandas.DataFrame
        As of `read_table`.
    """
    if len(damaged):
        words = "; ".join(
            f"line {row}: {reason} in {value[:80]!r}"
            for row, reason, value in damaged.head(5).itertuples(index=False)
        )
        logger.warning(
            "%d of %d rows of %s are damaged and left out: %s%s", len(damaged),
            len(damaged) + len(table), name, words, " ..." if len(damaged) > 5 else "",
        )  # fmt: skip
