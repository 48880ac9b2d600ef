"""Tables that say what is known of stars: catalogues of spectra, and the parameters of MILES."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pandas as pd

from skyloom.raw_files.files import UnusableError
from skyloom.raw_files.labels import label_key, with_positions
from skyloom.raw_files.names import file_stem
from skyloom.raw_files.tables import DAMAGED_COLUMNS, is_missing, numbers, plain_name, read_table
from skyloom.raw_files.text import decode

STAR_COLUMNS = ("name", "file", "type", "velocity", "ra", "dec", "snr")
"""Columns of what a catalogue says of a star: velocity in km/s, position in deg."""

# What catalogues call these columns, in lower case, first choice first.
_CALLED = {
    "name": ("name", "star", "object", "designation"),
    "file": ("filename", "file", "obsid", "id"),
    "type": ("subclass", "spectral_type", "spt", "sptype", "type"),
    "velocity": ("rv", "velocity", "radial_velocity"),
    "snr": ("snrg", "sn_g", "snr"),
}
# One of the words that name a spectral type.
_WORDS = re.compile("|".join(_CALLED["type"]).replace("_", "."), re.IGNORECASE)
_HEAD = 5000  # characters in which they are sought
_MILES = re.compile(r"^Name\s+MILES\s+CaT\s+SpT", re.MULTILINE)
_VELOCITIES = 2000.0  # km/s: what is beyond is a placeholder such as -9999


def star_table(name: str, content: bytes) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Read a table of stars.

    Parameters
    ----------
    name : str
        File name, for messages only.
    content : bytes
        The whole file: a table of any layout (see `skyloom.raw_files.tables.read_table`) as for
        `stars_of_table`; or the parameter file of MILES.

    Returns
    -------
    stars : pandas.DataFrame
        As of `stars_of_table`.
    damaged : pandas.DataFrame
        Its lines that are no rows, as of `skyloom.raw_files.tables.read_table`.
        None in place of both where the file is no such table.

    References
    ----------
    Sanchez-Blazquez et al. (2006), MNRAS 371, 703 (MILES).
    """
    try:
        if _MILES.search(text := decode(content[:_HEAD])):
            return _miles(decode(content)), pd.DataFrame(columns=list(DAMAGED_COLUMNS))
        if not _WORDS.search(text):
            return None  # reading a spectrum as a table takes long
    except UnusableError:
        pass  # compressed, or no text
    try:
        table, damaged = read_table(name, content)
    except UnusableError:
        return None
    stars = stars_of_table(table)
    return None if stars is None else (stars, damaged)


def stars_of_table(table: pd.DataFrame) -> pd.DataFrame | None:
    """What a table tells of stars.

    Parameters
    ----------
    table : pandas.DataFrame of str
        With a column of spectral types (``subclass`` ...) and one of files or observation ids.

    Returns
    -------
    pandas.DataFrame or None
        `STAR_COLUMNS`: ``name`` of the star (empty where there is none), ``file`` (its name
        without endings, observation id, or number of MILES), ``type`` as written, ``velocity``
        (km/s), ``ra``, ``dec`` (deg) and ``snr`` (in g), NaN where they are not told. None where
        the table has no such columns.
    """
    called = {plain_name(name): name for name in reversed(table.columns)}
    chosen = {
        ours: next((called[name] for name in names if name in called), None)
        for ours, names in _CALLED.items()
    }
    if chosen["type"] is None or chosen["file"] is None:
        return None
    found = {
        ours: table[name].map(lambda cell: "" if is_missing(cell) else str(cell).strip())
        if name is not None
        else pd.Series("", table.index)
        for ours, name in chosen.items()
    }
    stars = pd.DataFrame(found, index=table.index)
    for column in ("velocity", "snr"):
        stars[column] = numbers(stars[column].rename(chosen[column]))
    stars[["ra", "dec"]] = with_positions(table, "table of stars")[["ra", "dec"]]
    stars.loc[stars["snr"] < 0, "snr"] = np.nan
    stars.loc[stars["velocity"].abs() > _VELOCITIES, "velocity"] = np.nan
    stars = stars[stars["file"] != ""]
    return stars.assign(file=stars["file"].map(_file_key))[list(STAR_COLUMNS)]


def _file_key(name):
    return key if (key := table_key(name)).startswith("miles ") else label_key(name)


def _miles(text):
    """Columns at fixed places; the number of a star is that in the names of its files."""
    lines = text.splitlines()
    head = next(k for k, line in enumerate(lines) if _MILES.match(line))
    starts = [lines[head].index(word) for word in ("Name", "MILES", "CaT", "SpT", "Teff")]
    rows = [
        [line[first:last].strip() for first, last in itertools.pairwise(starts)]
        for line in lines[head + 1 :]
    ]
    table = pd.DataFrame(rows, columns=["name", "file", "cat", "type"])
    table = table[table["file"].str.fullmatch(r"\d{4}")]
    table["file"] = "miles " + table["file"]
    unknown = dict.fromkeys(("ra", "dec", "snr"), float("nan"))
    return table.assign(velocity=0.0, **unknown)[list(STAR_COLUMNS)].reset_index(drop=True)


def table_key(name: str) -> str:
    """What a file is called in the tables of `star_table`.

    Parameters
    ----------
    name : str
        File name or observation id.

    Returns
    -------
    str
        Without folder and endings; of a MILES spectrum its number.
    """
    stem = file_stem(name)
    miles = re.match(r"MILES_\w*\.?\w*_star_m(\d{4})V?$", stem)
    return f"miles {miles[1]}" if miles else stem
