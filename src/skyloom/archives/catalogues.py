"""Source lists from catalogue text files, with coordinates as their authors wrote them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from skyloom.raw_files.positions import position

_RA = ("ra", "raj2000", "_ra", "_raj2000", "ra_deg", "radeg", "ra_icrs")
_DEC = ("dec", "de", "dej2000", "decj2000", "_de", "_dej2000", "dec_deg", "decdeg", "de_icrs")
_PARTS = (("rah", "ram", "ras"), ("de-", "ded", "dem", "des"))
_NUMBER = re.compile(r"(^|[\s,;|])[+-]?\d+(\.\d*)?([\s,;|]|$)")


def read_sources(
    text: str,
    *,
    ra_column: str | None = None,
    dec_column: str | None = None,
    class_column: str | None = None,
    id_column: str | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read a source list.

    Parameters
    ----------
    text : str
        The whole file: a heading, perhaps as the last of some comments, and rows separated by
        commas, semicolons, tabs, bars or blanks.
    ra_column, dec_column : str, optional
        Coordinates; by default those with a usual name, or the separate columns for hours,
        minutes, seconds and sign, degrees, minutes, seconds of CDS tables. Decimal numbers are
        degrees; ``hh mm ss``, ``hh:mm:ss`` and ``12h34m56s`` are hours.
    class_column, id_column : str, optional
        By default none, and an id made of the coordinates (``J123456.7+012345``).

    Returns
    -------
    sources : pandas.DataFrame
        ``id``, ``ra``, ``dec`` (deg) and ``class`` (text, empty where there is none).
    rejected : pandas.DataFrame
        ``row`` (counted from 1), ``reason`` and ``value`` of the lines without coordinates.

    Raises
    ------
    ValueError
        If the text is no table, or lacks a column; names what there is.

    Examples
    --------
    >>> text = '''name,ra,dec
    ... A,10.5,-3.25
    ... B,12h34m56.7s,+01d23m45s
    ... C,,'''
    >>> sources, rejected = read_sources(text, id_column="name")
    >>> sources[["id", "ra", "dec"]].round(3)
      id       ra    dec
    0  A   10.500 -3.250
    1  B  188.736  1.396
    >>> rejected
       row          reason   value
    0    3  no coordinates  '', ''
    """
    table = _table(text)
    columns = {name: np.ma.filled(table[name].astype(str), "").tolist() for name in table.colnames}
    by_name = {name.lower(): name for name in columns}
    ra_text = _coordinate(columns, by_name, ra_column, _RA, _PARTS[0])
    dec_text = _coordinate(columns, by_name, dec_column, _DEC, _PARTS[1])
    ra, dec = (
        np.array([position(*place) for place in zip(ra_text, dec_text, strict=True)])
        .reshape(-1, 2)
        .T
    )
    good = np.isfinite(ra)
    rejected = pd.DataFrame(
        {
            "row": np.flatnonzero(~good) + 1,
            "reason": "no coordinates",
            "value": [f"{ra_text[k]!r}, {dec_text[k]!r}" for k in np.flatnonzero(~good)],
        }
    )
    classes = columns[_named(columns, class_column)] if class_column else [""] * len(ra)
    sources = pd.DataFrame({"ra": ra, "dec": dec, "class": classes})[good].reset_index(drop=True)
    if id_column:
        names = pd.Series(columns[_named(columns, id_column)])[good].to_numpy()
    else:
        names = _position_names(sources)
    sources.insert(0, "id", names)
    return sources, rejected


def _table(text):
    """Table of text cells, whatever they look like: an id may begin with a zero."""
    from astropy.io import ascii

    lines = [line.strip() for line in text.lstrip("\ufeff").splitlines() if line.strip()]
    comments = list(itertools.takewhile(lambda line: line.startswith("#"), lines))
    body = lines[len(comments) :]
    if comments and body and _NUMBER.search(body[0]):  # the heading is a comment
        body.insert(0, comments[-1].lstrip("# "))
    separator = next((mark for mark in "|;\t," if body and mark in body[0]), " ")
    try:
        return ascii.read(
            [line.strip("|") for line in body] if separator == "|" else body,
            format="basic", delimiter=separator, guess=False, fast_reader=False,
            converters={"*": [ascii.convert_numpy(str)]},
        )  # fmt: skip
    except (ValueError, IndexError, ascii.InconsistentTableError) as error:
        msg = f"the source list is not a table: {text.strip()[:60]!r} ({error})"
        raise ValueError(msg) from error


def _named(columns, name):
    if name not in columns:
        msg = f"the source list has no column {name!r}, only {', '.join(columns)}"
        raise ValueError(msg)
    return name


def _coordinate(
    columns, by_name, chosen, usual: Sequence[str], parts: Sequence[str]
) -> Sequence[str]:
    """Cells of a coordinate, joined where it has several columns."""
    if chosen is not None:
        return columns[_named(columns, chosen)]
    for name in usual:
        if name in by_name:
            return columns[by_name[name]]
    if parts[-1] in by_name and parts[-3] in by_name:
        there = [columns[by_name[part]] for part in parts if part in by_name]
        sign = there.pop(0) if parts[0] == "de-" and parts[0] in by_name else [""] * len(there[0])
        return [f"{mark}{' '.join(cells)}" for mark, *cells in zip(sign, *there, strict=True)]
    msg = f"no column for {usual[0]} among {', '.join(columns)}: name it in the parameters"
    raise ValueError(msg)


def _position_names(sources: pd.DataFrame) -> list[str]:
    """Names as in surveys: J, hours, minutes, seconds, then degrees, minutes, seconds."""
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    if sources.empty:
        return []
    places = SkyCoord(sources["ra"].to_numpy(), sources["dec"].to_numpy(), unit=u.deg)
    hours = places.ra.to_string(u.hourangle, sep="", precision=1, pad=True)
    degrees = places.dec.to_string(u.deg, sep="", precision=0, pad=True, alwayssign=True)
    return [f"J{ra}{dec}" for ra, dec in zip(hours, degrees, strict=True)]


def labels_by_id(labels: pd.DataFrame, id_column: str, columns: Sequence[str]) -> pd.DataFrame:
    """A table of labels indexed by id, after a look whether it can be used.

    Parameters
    ----------
    labels : pandas.DataFrame
        As read; rows without an id are labels of nothing.
    id_column : str
        Its column of ids.
    columns : sequence of str
        Others that it must have.

    Returns
    -------
    pandas.DataFrame
        Indexed by the ids as text, whole numbers without a decimal point.

    Raises
    ------
    ValueError
        If a column is missing, or an id occurs twice.

    Examples
    --------
    >>> import pandas as pd
    >>> labels = pd.DataFrame({"cig": [1.0, 2.0], "Class": [0, 2]})
    >>> labels_by_id(labels, "cig", ["Class"]).loc["2", "Class"].item()
    2
    """
    missing = [name for name in (id_column, *columns) if name not in labels.columns]
    if missing:
        msg = (
            f"the label table has no column {list(dict.fromkeys(missing))}; "
            f"its columns are {list(labels.columns)}"
        )
        raise ValueError(msg)
    labels = labels.dropna(subset=[id_column])
    keys = pd.Index([_as_key(value) for value in labels[id_column]], name=id_column)
    repeated = keys[keys.duplicated()].unique()
    if len(repeated):
        msg = f"the label table has more than one row for {sorted(repeated)[:5]}"
        raise ValueError(msg)
    return labels.set_index(keys)


def _as_key(value: object) -> str:
    """Text of an id; whole numbers without a decimal point."""
    text = str(value).strip()
    return text.removesuffix(".0") if text.removesuffix(".0").isdecimal() else text


def rows_of_table(
    ids: Sequence[str], ra: np.ndarray, dec: np.ndarray, table: pd.DataFrame, radius: float
) -> list[str | None]:
    """Key of the row of a table that tells of each object: by its id, else by its position.

    Parameters
    ----------
    ids : sequence of str
        Of the objects.
    ra, dec : numpy.ndarray, shape (n,)
        deg; NaN where a position is not known.
    table : pandas.DataFrame
        Indexed by id, perhaps with ``ra`` and ``dec`` (deg).
    radius : float
        Within which a position is the same, arcsec.

    Returns
    -------
    list of str or None
    """
    keys = [name if name in table.index else None for name in ids]
    if not {"ra", "dec"} <= set(table.columns):
        return keys
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    places = table[["ra", "dec"]].apply(pd.to_numeric, errors="coerce").dropna()
    places = places[places["ra"].between(0, 360) & places["dec"].between(-90, 90)]
    rest = [k for k, key in enumerate(keys) if key is None and abs(dec[k]) <= 90]
    if places.empty or not rest:
        return keys
    catalogue = SkyCoord(places["ra"].to_numpy(), places["dec"].to_numpy(), unit=u.deg)
    nearest, distance, _ = SkyCoord(ra[rest], dec[rest], unit=u.deg).match_to_catalog_sky(catalogue)
    for k, row, apart in zip(rest, nearest, distance.arcsec, strict=True):
        if apart <= radius:
            keys[k] = places.index[row]
    return keys
