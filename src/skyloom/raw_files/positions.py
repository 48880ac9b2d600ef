"""Positions on the sky as people and programs write them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from skyloom.raw_files.tables import find_column, plain_name
from skyloom.raw_files.text import MINUS

_RA = (
    "ra", "raj2000", "ra_j2000", "_ra", "_raj2000", "ra_deg", "radeg", "ra_icrs", "_ra_icrs",
    "raicrs", "ra2000", "ra_d", "ra_2000", "alpha_j2000", "alphaj2000", "right_ascension",
)  # fmt: skip
_DEC = (
    "dec", "de", "decj2000", "dej2000", "dec_j2000", "de_j2000", "_de", "_dej2000", "_dec",
    "_decj2000", "dec_deg", "de_deg", "decdeg", "dedeg", "dec_icrs", "de_icrs", "_de_icrs",
    "deicrs", "decicrs", "dec2000", "de2000", "dec_d", "dec_2000", "delta_j2000", "deltaj2000",
    "declination",
)  # fmt: skip
_PARTS = (("rah", "ram", "ras"), ("ded", "dem", "des"))
_SIGN = "de-"

_SEXAGESIMAL = re.compile(r"[:hd\s]")


def degrees(value: Any, *, hours: bool = False) -> float:
    """Angle in degrees of a number or text.

    Parameters
    ----------
    value : object
        A number is in degrees, as FITS has it. Text may be a number, with a point or a comma, or
        sexagesimal: ``12:34:56.7``, ``12 34 56.7``, ``12h34m56.7s``, ``-00d12m15s``.
    hours : bool
        Whether sexagesimal text without letters is in hours, as of a right ascension.

    Returns
    -------
    float
        NaN of anything else.

    Examples
    --------
    >>> round(degrees("12:34:56.7", hours=True), 5), degrees("-0,25"), degrees("none")
    (188.73625, -0.25, nan)
    """
    text = str(value).strip().strip("'\"").translate(MINUS)
    if re.fullmatch(r"[+-]?\d+,\d+", text):
        text = text.replace(",", ".")
    try:
        return float(text)
    except ValueError:
        pass
    from astropy.coordinates import Angle  # slow to import

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # 60 seconds are a minute, as rounding writes them
            angle = Angle(text.replace(",", ".").lower(), "hourangle" if hours else "deg")
            return float(angle.deg)
    except ValueError:
        return np.nan


def position(ra: Any, dec: Any) -> tuple[float, float]:
    """Right ascension and declination in degrees.

    Parameters
    ----------
    ra, dec : object
        As for `degrees`.

    Returns
    -------
    ra, dec : float
        deg; both NaN where one is missing, not understood, or no place on the sky.

    Examples
    --------
    >>> position("10.5", "-00:15:00"), position(10, 127)
    ((10.5, -0.25), (nan, nan))
    """
    place = degrees(ra, hours=True), degrees(dec)
    # A right ascension may be counted from -180.
    if -360 <= place[0] <= 360 and abs(place[1]) <= 90:
        return place[0] % 360, place[1]
    return np.nan, np.nan


def positions_of_table(
    table: pd.DataFrame, ra_column: str | None = None, dec_column: str | None = None
) -> pd.DataFrame:
    """Positions that a table tells, in columns as catalogues call them.

    Parameters
    ----------
    table : pandas.DataFrame
        Numbers are in degrees, unless the column's name says hours or radians, in brackets; text
        as for `degrees`. There may be a column each for hours, minutes, seconds and sign,
        degrees, minutes, seconds, as in CDS tables.
    ra_column, dec_column : str, optional
        By default columns with a usual name.

    Returns
    -------
    pandas.DataFrame
        ``ra`` and ``dec`` (deg), NaN where a row has no position; ``ra_text`` and ``dec_text`` as
        written; with the index of the table.

    Raises
    ------
    KeyError
        If there is no such column; names what there is.

    Examples
    --------
    >>> table = pd.DataFrame({"RAJ2000": ["12:34:56.7"], "DEJ2000": ["-0,25"]})
    >>> positions_of_table(table)[["ra", "dec"]].round(5)
              ra   dec
    0  188.73625 -0.25
    """
    cells, scales = zip(
        _coordinate(table, ra_column, _RA, _PARTS[0]),
        _coordinate(table, dec_column, _DEC, _PARTS[1]),
        strict=True,
    )
    places = [
        position(*(_scaled(cell, scale) for cell, scale in zip(pair, scales, strict=True)))
        for pair in zip(*cells, strict=True)
    ]
    found = pd.DataFrame(places, columns=["ra", "dec"], index=table.index, dtype=float)
    return found.assign(ra_text=cells[0], dec_text=cells[1])


def _coordinate(table, chosen, usual: Sequence[str], parts: Sequence[str]):
    """Cells of a coordinate, joined where it has several columns, and degrees of their unit."""
    if chosen is not None:
        name = find_column(table, chosen)
        if name is None:
            msg = f"no column {chosen!r}, only {', '.join(map(str, table.columns))}"
            raise KeyError(msg)
        return table[name].tolist(), _unit(name)
    plain = [plain_name(name) for name in table.columns]
    by_name = dict(zip(reversed(plain), reversed(table.columns), strict=True))
    for each in usual:
        if each in by_name:
            return table[by_name[each]].tolist(), _unit(by_name[each])
    there = [by_name[part] for part in parts if part in by_name]
    if len(there) > 1 and parts[0] in by_name:
        signed = parts[0] == "ded" and _SIGN in by_name
        signs = table[by_name[_SIGN]].tolist() if signed else [""] * len(table)
        rows = table[there].astype(str).to_numpy().tolist()
        # A part that is left out is none: the position is not known so well.
        joined = [" ".join(row) if all(row) else "" for row in rows]
        return [f"{mark}{row}" for mark, row in zip(signs, joined, strict=True)], 1
    msg = f"no column for {usual[0]} among {', '.join(map(str, table.columns))}"
    raise KeyError(msg)


def _unit(name):
    """Degrees of a unit that stands in brackets in the name of a column."""
    unit = re.search(r"[(\[]\s*(h|hr|hour|rad)\w*\s*[)\]]", str(name), re.IGNORECASE)
    return 1 if unit is None else {"h": 15, "r": 180 / np.pi}[unit[1][0].lower()]


def _scaled(cell, scale):
    if scale == 1 or np.isnan(number := degrees(cell)) or _SEXAGESIMAL.search(str(cell).strip()):
        return cell
    return number * scale
