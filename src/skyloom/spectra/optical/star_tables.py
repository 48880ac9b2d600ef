"""Tables that say what is known of stars: catalogues of spectra, and the parameters of MILES."""

from __future__ import annotations

import io
import itertools
import re

import pandas as pd

from skyloom.raw_files.names import file_stem

STAR_COLUMNS = ("name", "file", "type", "velocity", "ra", "dec", "snr")
"""Columns of what a catalogue says of a star: velocity in km/s, position in deg."""

# What catalogues call these columns, in lower case, first choice first.
_CALLED = {
    "name": ("name", "star", "object", "designation"),
    "file": ("filename", "file", "obsid", "id"),
    "type": ("subclass", "spectral_type", "spt", "sptype", "type"),
    "velocity": ("rv", "velocity", "radial_velocity"),
    "ra": ("ra",),
    "dec": ("dec",),
    "snr": ("snrg", "sn_g", "snr"),
}
_MILES = re.compile(r"^Name\s+MILES\s+CaT\s+SpT", re.MULTILINE)
_VELOCITIES = 2000.0  # km/s: what is beyond is a placeholder such as -9999


def star_table(text: str) -> pd.DataFrame | None:
    """Read a table of stars.

    Parameters
    ----------
    text : str
        The whole file: rows separated by bars, commas, semicolons or tabs, with a heading that
        names a spectral type (``subclass`` ...) and a file or observation id; or the parameter
        file of MILES.

    Returns
    -------
    pandas.DataFrame or None
        `STAR_COLUMNS`: ``name`` of the star (empty where there is none), ``file`` (stem of the
        file name, observation id, or number of MILES), ``type`` as written, ``velocity`` (km/s),
        ``ra``, ``dec`` (deg) and ``snr`` (in g), NaN where they are not told. None where the
        text is no such table.

    References
    ----------
    Sanchez-Blazquez et al. (2006), MNRAS 371, 703 (MILES).
    """
    if _MILES.search(text):
        return _miles(text)
    first = text.partition("\n")[0]
    delimiters = [each for each in "|,;\t" if each in first]
    if not delimiters:
        return None
    try:
        table = pd.read_csv(
            io.StringIO(text), sep=max(delimiters, key=first.count), dtype=str,
            keep_default_na=False,
        )  # fmt: skip
    except (ValueError, pd.errors.ParserError):
        return None
    called = {str(name).strip().lower(): name for name in table.columns}
    chosen = {
        ours: next((called[name] for name in names if name in called), None)
        for ours, names in _CALLED.items()
    }
    if chosen["type"] is None or chosen["file"] is None:
        return None
    found = pd.DataFrame(
        {ours: table[name] if name else "" for ours, name in chosen.items()}, index=table.index
    )
    for column in ("velocity", "ra", "dec", "snr"):
        found[column] = pd.to_numeric(found[column], errors="coerce")
    found.loc[found["snr"] < 0, "snr"] = float("nan")
    found.loc[found["velocity"].abs() > _VELOCITIES, "velocity"] = float("nan")
    found["file"] = found["file"].map(table_key)
    return found[list(STAR_COLUMNS)]


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
