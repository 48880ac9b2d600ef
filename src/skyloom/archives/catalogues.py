"""Source lists of catalogues, with coordinates as their authors wrote them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from skyloom.raw_files.positions import positions_of_table
from skyloom.raw_files.tables import find_column


def read_sources(
    table: pd.DataFrame,
    *,
    ra_column: str | None = None,
    dec_column: str | None = None,
    class_column: str | None = None,
    id_column: str | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Find the sources that a list names.

    Parameters
    ----------
    table : pandas.DataFrame of str
        As of `skyloom.raw_files.tables.read_table`.
    ra_column, dec_column : str, optional
        Coordinates; by default those with a usual name, as in
        `skyloom.raw_files.positions.positions_of_table`.
    class_column, id_column : str, optional
        By default none, and an id made of the coordinates (``J123456.7+012345``).

    Returns
    -------
    sources : pandas.DataFrame
        ``id``, ``ra``, ``dec`` (deg) and ``class`` (text, empty where there is none).
    rejected : pandas.DataFrame
        ``row`` (counted from 1), ``reason`` and ``value`` of the rows without coordinates.

    Raises
    ------
    ValueError
        If the table lacks a column; names what there is.

    Examples
    --------
    >>> table = pd.DataFrame(
    ...     {"name": ["A", "B", "C"], "ra": ["10.5", "12h34m56.7s", ""],
    ...      "dec": ["-3.25", "+01d23m45s", ""]}
    ... )
    >>> sources, rejected = read_sources(table, id_column="name")
    >>> sources[["id", "ra", "dec"]].round(3)
      id       ra    dec
    0  A   10.500 -3.250
    1  B  188.736  1.396
    >>> rejected
       row          reason   value
    0    3  no coordinates  '', ''
    """
    table = table.reset_index(drop=True)
    try:
        places = positions_of_table(table, ra_column, dec_column)
    except KeyError as error:
        msg = f"the source list has {error.args[0]}"
        raise ValueError(msg + ("" if ra_column else ": name it in the parameters")) from error
    good = places["ra"].notna()
    written = places.loc[~good, ["ra_text", "dec_text"]]
    rejected = pd.DataFrame(
        {
            "row": written.index + 1,
            "reason": "no coordinates",
            "value": [f"{ra!r}, {dec!r}" for ra, dec in written.itertuples(index=False)],
        }
    )
    sources = places.loc[good, ["ra", "dec"]].reset_index(drop=True)
    sources["class"] = _cells(table, class_column, good) if class_column else ""
    sources["class"] = sources["class"].astype(str)
    ids = _cells(table, id_column, good) if id_column else position_names(sources)
    sources.insert(0, "id", np.array(ids, dtype=object))
    return sources, rejected


def sources_to_fetch(
    table: pd.DataFrame, **columns: str | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Find the sources of a list that a file each can be fetched of.

    Parameters
    ----------
    table : pandas.DataFrame of str
        As of `skyloom.raw_files.tables.read_table`.
    **columns : str or None
        As in `read_sources`.

    Returns
    -------
    sources : pandas.DataFrame
        As of `read_sources`, with ids that differ and can be names of files.
    failed : pandas.DataFrame
        ``file``, ``status`` and ``reason`` of all other rows, for a manifest.

    Raises
    ------
    ValueError
        If the table lacks a column, or no row can be used.
    """
    sources, rejected = read_sources(table, **columns)
    taken = sources["id"].duplicated() | ~sources["id"].str.fullmatch(r"[^/.][^/]*")
    again = pd.DataFrame(
        {"row": sources["id"], "reason": "an id of its own is needed", "value": sources["id"]}
    )[taken]
    rejected, sources = pd.concat([rejected, again]), sources[~taken].reset_index(drop=True)
    if sources.empty:
        msg = (
            f"the source list names no place: {len(rejected)} rows are not usable, such as row "
            + (
                "; row ".join(
                    f"{row}: {why}: {value}" for row, why, value in rejected[:3].to_numpy()
                )
            )
        )
        raise ValueError(msg)
    failed = pd.DataFrame(
        {
            "file": "row " + rejected["row"].astype(str),
            "status": "failed",
            "reason": rejected["reason"] + ": " + rejected["value"],
        }
    )
    return sources, failed


def _cells(table, name, rows):
    """Cells of some rows of a column that there has to be."""
    column = find_column(table, name)
    if column is None:
        msg = f"the source list has no column {name!r}, only {', '.join(table.columns)}"
        raise ValueError(msg)
    return table.loc[rows, column].tolist()


def position_names(sources: pd.DataFrame) -> list[str]:
    """Names as in surveys: J, hours, minutes, seconds, then degrees, minutes, seconds.

    Parameters
    ----------
    sources : pandas.DataFrame
        ``ra`` and ``dec`` (ICRS, deg).

    Returns
    -------
    list of str
        Such as ``J123456.7+012345``.
    """
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    if sources.empty:
        return []
    places = SkyCoord(sources["ra"].to_numpy(), sources["dec"].to_numpy(), unit=u.deg)
    hours = places.ra.to_string(u.hourangle, sep="", precision=1, pad=True)
    degrees = places.dec.to_string(u.deg, sep="", precision=0, pad=True, alwayssign=True)
    return [f"J{ra}{dec}" for ra, dec in zip(hours, degrees, strict=True)]
