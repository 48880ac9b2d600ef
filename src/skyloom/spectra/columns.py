"""Spectra in columns: FITS, VOTable and text tables, whatever their headings are called."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skyloom.raw_files.files import RawFile, UnusableError
from skyloom.raw_files.headers import number_of
from skyloom.raw_files.missing import without_missing
from skyloom.raw_files.text import decode
from skyloom.raw_files.units import parse_unit, split_heading, stated_unit, unit_factor


@dataclass(frozen=True)
class Columns:
    """A table of numbers.

    Attributes
    ----------
    names : tuple of str
        In lower case, with underscores for blanks, without units; empty where not told.
    units : tuple of str
        As written; empty where not told.
    values : tuple of numpy.ndarray, shape (m,)
        NaN where missing.
    notes : tuple of str
        Lines above a text table.
    written : tuple of str
        Headings as they are, for messages.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    values: tuple[np.ndarray, ...]
    notes: tuple[str, ...] = ()
    written: tuple[str, ...] = ()

    def find(self, names: Sequence[str]) -> int | None:
        """Index of the first column that has one of some names, first choice first.

        Parameters
        ----------
        names : sequence of str
            In lower case.

        Returns
        -------
        int or None
        """
        return next((self.names.index(name) for name in names if name in self.names), None)

    def factor(self, column: int, target: str, otherwise: str) -> float:
        """Factor from the unit of a column to another.

        Parameters
        ----------
        column : int
            Index.
        target : str
            As astropy writes it.
        otherwise : str
            Unit to assume where nothing is stated.

        Returns
        -------
        float

        Raises
        ------
        UnusableError
            If what is stated cannot be converted, or is contradictory.
        """
        unit = self.units[column] or stated_unit(self.notes, target)
        return unit_factor(unit or otherwise, target)


def fits_columns(file: RawFile, wanted: Sequence[str]) -> tuple[Columns, Any] | None:
    """Columns of the first FITS table that has one of some names, with its header.

    Parameters
    ----------
    file : RawFile
        Any.
    wanted : sequence of str
        In lower case, without units.

    Returns
    -------
    tuple of Columns and astropy.io.fits.Header, or None
        None where there is no such table. A table that has the spectrum in its only row is
        unrolled.
    """
    if not file.is_fits:
        return None
    for hdu in file.hdus:
        columns = getattr(hdu, "columns", None)
        if columns is None or hdu.is_image:
            continue
        split = [split_heading(name) for name in columns.names]
        if not {name for name, _ in split} & set(wanted):
            continue
        names, units, values = [], [], []
        for (name, in_name), column in zip(split, columns, strict=True):
            data = hdu.data[column.name]
            if data.dtype.kind not in "fiu" or (data.ndim > 1 and len(hdu.data) > 1):
                continue
            names.append(name)
            units.append(str(column.unit or in_name).strip())
            values.append(without_missing(np.ravel(data)))
        table = Columns(
            tuple(names), tuple(units), tuple(values), written=tuple(map(str, columns.names))
        )
        return table, hdu.header
    return None


def by_place(
    columns: Columns, axis_at: int | None, flux_at: int | None
) -> tuple[int | None, int | None]:
    """Columns of the axis and the flux of a text table where their names do not tell.

    Parameters
    ----------
    columns : Columns
        Of text.
    axis_at, flux_at : int or None
        Those that names tell.

    Returns
    -------
    axis_at, flux_at : int or None
        Of two columns the first and the second, whatever they are called; of three without names
        likewise, unless the first one numbers the rows. None where nothing tells.
    """
    n = len(columns.values)
    if n == 2:
        if axis_at is None:
            axis_at = 0 if flux_at is None else 1 - flux_at
        return axis_at, 1 - axis_at
    if n == 3 and not any(columns.names):
        first = columns.values[0]
        numbered = first[0] in (0, 1) and np.array_equal(first - first[0], np.arange(len(first)))
        return (1, 2) if numbered else (0, 1)  # the last one is an error
    return axis_at, flux_at


# --- text ----------------------------------------------------------------------------------------
_COMMENT = "#%!;/"
_HEADING_CELL = re.compile(r"[^\s\[(]*\s*[\[(][^\])]*[\])]|\S+")
_MISSING = {"", "-", "--", "nan", "null", "none", "na", "n/a", "inf", "-inf", "*", "..."}
_AXIS_LABEL = re.compile(r"([xy])\s*label\s*[:=]\s*(.*)", re.IGNORECASE)


def text_columns(file: RawFile, wanted: Sequence[str]) -> Columns | None:
    """Columns of a text table.

    Parameters
    ----------
    file : RawFile
        Any.
    wanted : sequence of str
        Names of columns, in lower case: a comment is a heading only if it has two of them.

    Returns
    -------
    Columns or None
        None where the bytes are no table of numbers.

    Raises
    ------
    UnusableError
        If a row is damaged: names the line.
    """
    if file.is_fits or (
        b"\x00" in file.content[:1000] and not file.content.startswith((b"\xff\xfe", b"\xfe\xff"))
    ):
        return None
    try:
        text = decode(file.content)
    except UnusableError:
        return None
    if text.lstrip().startswith(("# %ECSV", "<?xml", "<VOTABLE")):
        return _astropy_columns(
            file.content, "ascii.ecsv" if text.lstrip()[0] == "#" else "votable"
        )
    lines = text.splitlines()
    found = _first_row(lines)
    if found is None:
        return None
    start, separator, n = found
    rows = []
    for number, line in enumerate(lines[start:], start + 1):
        stripped = line.strip()
        if not stripped or stripped[0] in _COMMENT:
            continue
        cells = _numbers(_cells(line, separator))
        if cells is None or len(cells) != n:
            raise UnusableError("damaged text", f"line {number}: {line[:60]!r}")
        rows.append(cells)
    values = without_missing(np.array(rows)).T
    above = [line.strip() for line in lines[:start] if line.strip()]
    heads = [line.lstrip(_COMMENT).strip() for line in above]
    names, units, written = _headings(heads, separator, n)
    is_comment = bool(above) and all(line[0] in _COMMENT for line in above)
    # The words of a comment may be as many as the columns: "wavelengths in nm".
    if is_comment and len(set(names) & set(wanted)) < 2:
        names = written = ("",) * n
    return Columns(names, units, tuple(values), tuple(heads), written)


def _astropy_columns(content, layout):
    """A table that says itself what its columns are."""
    from astropy.table import Table

    table = Table.read(io.BytesIO(content), format=layout)
    numeric = [name for name in table.colnames if table[name].dtype.kind in "fiu"]
    split = [split_heading(name) for name in numeric]
    units = [str(table[name].unit or "") for name in numeric]
    return Columns(
        tuple(name for name, _ in split),
        tuple(unit or in_name for unit, (_, in_name) in zip(units, split, strict=True)),
        tuple(without_missing(np.ma.filled(table[name].astype(float), np.nan)) for name in numeric),
        written=tuple(table.colnames),
    )


def _cells(line, separator):
    if separator is None:
        return line.split()
    cells = [cell.strip().strip("'\"").strip() for cell in line.strip().split(separator)]
    return (
        cells[1:-1]
        if separator == "|" and len(cells) > 2 and not cells[0] and not cells[-1]
        else cells
    )


def _numbers(cells):
    """Cells as numbers, or None where one is none."""
    numbers = [number_of(cell) for cell in cells]
    wrong = [
        np.isnan(number) and cell.strip("'\"").lower() not in _MISSING
        for number, cell in zip(numbers, cells, strict=True)
    ]
    return None if any(wrong) else numbers


def _first_row(lines):
    """Line at which numbers begin, what separates them, and how many there are."""
    for start, line in enumerate(lines):
        if not line.strip() or line.strip()[0] in _COMMENT:
            continue
        for separator in (";", "\t", "|", ",", None):
            if separator is not None and separator not in line:
                continue
            cells = _cells(line, separator)
            numbers = _numbers(cells)
            if numbers is not None and len(cells) > 1 and np.isfinite(numbers).any():
                return start, separator, len(cells)
    return None


def _headings(heads, separator, n):
    """Names, units and headings of the columns from the lines above them."""
    blank = ("",) * n
    labels = dict(filter(None, (_axis_label(line) for line in heads)))
    if labels and n >= 2:
        written = (labels.get("x", ""), labels.get("y", "")) + ("",) * (n - 2)
        split = [split_heading(each) for each in written]
        return tuple(name for name, _ in split), tuple(unit for _, unit in split), written
    for k, line in enumerate(reversed(heads)):
        cells = _heading_cells(line, separator, n)
        if cells is None:
            continue
        below = heads[len(heads) - k :]
        units = next(filter(None, (_units_row(each, separator, n) for each in below)), blank)
        if _units_row(line, separator, n):
            if k + 1 < len(heads) and _heading_cells(heads[-k - 2], separator, n):
                continue  # names stand above
            return blank, tuple(_units_row(line, separator, n)), blank
        split = [
            # A heading may be a bare unit, such as Ta.
            ("", cell) if len(cell) > 1 and parse_unit(cell) is not None else split_heading(cell)
            for cell in cells
        ]
        return (
            tuple(name for name, _ in split),
            tuple(own or unit for (_, own), unit in zip(split, units, strict=True)),
            tuple(cells),
        )
    return blank, blank, blank


def _axis_label(line):
    found = _AXIS_LABEL.search(line)
    return (found[1].lower(), found[2].strip()) if found else None


def _heading_cells(line, separator, n):
    """Cells of a heading with as many as there are columns, or None."""
    for mark in dict.fromkeys((separator, None, ",", "\t")):
        cells = _HEADING_CELL.findall(line) if mark is None else _cells(line, mark)
        if len(cells) == n:
            return [cell.strip().strip("'\"") for cell in cells]
    return None


def _units_row(line, separator, n):
    """Units of the columns where a line holds nothing else, or None."""
    cells = _heading_cells(line, separator, n)
    if cells is None:
        return None
    cells = [cell.strip("[]() ") for cell in cells]
    # A frame or a polarisation may be written to it, as in km/s-BARY.
    units = [
        re.sub(r"-(BARY|LSR\w?|HEL\w?|TOPO|GEO)$", "", cell, flags=re.IGNORECASE) for cell in cells
    ]
    stated = [parse_unit(unit, a_is_angstrom=True) is not None for unit in units]
    if not any(stated):
        return None
    none = {"", "-", "--", "none", "yy", "xx", "i", "1"}
    if all(is_unit or unit.lower() in none for is_unit, unit in zip(stated, units, strict=True)):
        return [unit if is_unit else "" for is_unit, unit in zip(stated, units, strict=True)]
    return None
