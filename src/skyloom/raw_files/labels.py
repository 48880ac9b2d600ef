"""Which row of a table tells of which object, and what is left over."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from skyloom.raw_files.names import file_stem
from skyloom.raw_files.positions import positions_of_table
from skyloom.raw_files.tables import find_column, is_missing, some_of

logger = logging.getLogger(__name__)


def label_key(value: object) -> str:
    """An id as a table has it, without what programs add: endings of files, ``.0``, blanks.

    Parameters
    ----------
    value : object

    Returns
    -------
    str
        With its folder.

    Examples
    --------
    >>> label_key(12.0), label_key(" sym/UGC7.fits "), label_key("J0123+45.6")
    ('12', 'sym/UGC7', 'J0123+45.6')
    """
    text = str(value).strip().replace("\\", "/")
    folder, slash, _ = text.rpartition("/")
    stem = file_stem(text)
    whole = stem.removesuffix(".0")
    return f"{folder}{slash}{whole if whole.isdecimal() else stem}"


def labels_by_id(labels: pd.DataFrame, id_column: str, columns: Sequence[str]) -> pd.DataFrame:
    """A table of labels indexed by id, after a look whether it can be used.

    Parameters
    ----------
    labels : pandas.DataFrame
        As read; rows without an id are labels of nothing.
    id_column : str
        Its column of ids.
    columns : sequence of str
        Others that it must have; case and blanks of names do not matter.

    Returns
    -------
    pandas.DataFrame
        Indexed by `label_key`, with these columns as they were asked for, NaN where a cell tells
        nothing, and the others. Of rows that tell the same there is one.

    Raises
    ------
    ValueError
        If a column is missing, or rows of one id contradict each other in these columns.

    Examples
    --------
    >>> import pandas as pd
    >>> labels = pd.DataFrame({"cig": ["1.0", "2"], "CLASS": ["0", "2"]})
    >>> labels_by_id(labels, "cig", ["Class"]).loc["2", "Class"]
    '2'
    """
    names = {name: find_column(labels, name) for name in (id_column, *columns)}
    missing = [name for name, found in names.items() if found is None]
    if missing:
        origin = labels.attrs.get("origin")
        msg = f"the label table has no column {missing}; its columns are {list(labels.columns)}" + (
            f" ({origin})" if origin else ""
        )
        raise ValueError(msg)
    table = labels.rename(columns={found: name for name, found in names.items()}).astype(object)
    used = [id_column, *columns]  # elsewhere a lone dash may be the sign of a declination
    table[used] = table[used].mask(table[used].map(is_missing))
    table = table.dropna(subset=[id_column])
    keys = pd.Index([label_key(value) for value in table[id_column]], name=id_column, dtype=object)
    return one_row_an_id(table.set_index(keys), columns)


def one_row_an_id(
    table: pd.DataFrame, columns: Sequence[str], name: str = "label table"
) -> pd.DataFrame:
    """Rows of one id as one row.

    Parameters
    ----------
    table : pandas.DataFrame
        Indexed by id; NaN where a cell tells nothing.
    columns : sequence of str
        In which they must say the same.
    name : str
        What it is called in the error.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    ValueError
        If rows contradict each other; names the id and what they say.
    """
    repeated = table[table.index.duplicated(keep=False)]
    for key, rows in repeated.groupby(level=0, sort=False):
        for column in columns:
            different = {_as_compared(value): value for value in rows[column].dropna()}
            if len(different) > 1:
                msg = (
                    f"the {name} has more than one row for {key!r}, and they contradict each "
                    f"other: {column} is {' and '.join(map(repr, different.values()))}"
                )
                raise ValueError(msg)
    if repeated.empty:
        return table
    # The first that tells anything: rows may be filled in parts.
    return table.groupby(level=0, sort=False).first()


def _as_compared(value):
    try:
        return float(value)
    except ValueError:
        return plain_word(value)


def plain_word(value: object) -> str:
    """A class as everybody would write it: without case, blanks, dashes and underscores.

    Parameters
    ----------
    value : object

    Returns
    -------
    str

    Examples
    --------
    >>> plain_word("FR-II"), plain_word("Wide-angle tail"), plain_word(2.0)
    ('frii', 'wideangletail', '2')
    """
    text = str(value).strip().removesuffix(".0")
    return re.sub(r"[\s_]|(?<=\w)[-–‐](?=\w)", "", text).casefold()


# What an id may have lost, from nothing to all: its folder, its case, zeros before it.
_WRITINGS = (
    str,
    label_key,
    lambda name: _without_zeros(label_key(name)),
    file_stem,
    lambda name: _without_zeros(file_stem(name)),
)


def _without_zeros(name):
    folder, slash, stem = name.casefold().rpartition("/")
    return f"{folder}{slash}{int(stem) if re.fullmatch(r'[0-9]+', stem) else stem}"


def match_ids(ids: Iterable[str], keys: Iterable[str]) -> dict[str, str | None]:
    """Which key of a table means which object, however people and Excel write it.

    Parameters
    ----------
    ids : iterable of str
        Of the objects.
    keys : iterable of str
        Of the rows.

    Returns
    -------
    dict of str to (str or None)
        Key by id, None of those that have none. The same text comes first; then without endings of
        files; then without zeros before a number and without case; then all of it without the
        folder. What could mean two objects, or two rows, means none.

    Examples
    --------
    >>> match_ids(["00012", "sym/1", "asym/1", "UGC7"], ["12", "ugc7.fits", "asym/0001", "1"])
    {'00012': '12', 'sym/1': None, 'asym/1': 'asym/0001', 'UGC7': 'ugc7.fits'}
    """
    keys = list(dict.fromkeys(map(str, keys)))
    found: dict[str, str | None] = dict.fromkeys(map(str, ids))
    for writing in _WRITINGS:
        taken = set(found.values())
        key_of, n_keys = _by_writing((key for key in keys if key not in taken), writing)
        # All ids count: a name that has its own row already is no name of another.
        _, n_ids = _by_writing(found, writing)
        for name in found:
            written = writing(name)
            if found[name] is None and n_ids[written] == 1 and n_keys[written] == 1:
                found[name] = key_of[written]
    return found


def _by_writing(names, writing):
    pairs = [(writing(name), name) for name in names]
    return dict(pairs), Counter(written for written, _ in pairs)


def match_rows(
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
        Indexed by id, with ``ra`` and ``dec`` (deg), NaN where they are not told.
    radius : float
        Within which a position is the same, arcsec.

    Returns
    -------
    list of str or None
    """
    matched = match_ids(ids, table.index)
    keys = [matched[str(name)] for name in ids]
    places = table[["ra", "dec"]].dropna()
    rest = [k for k, key in enumerate(keys) if key is None and abs(dec[k]) <= 90]
    if places.empty or not rest:
        return keys
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    catalogue = SkyCoord(places["ra"].to_numpy(), places["dec"].to_numpy(), unit=u.deg)
    nearest, distance, _ = SkyCoord(ra[rest], dec[rest], unit=u.deg).match_to_catalog_sky(catalogue)
    for k, row, apart in zip(rest, nearest, distance.arcsec, strict=True):
        if apart <= radius:
            keys[k] = places.index[row]
    return keys


def with_positions(table: pd.DataFrame, name: str = "label table") -> pd.DataFrame:
    """A table with its positions in degrees, whatever they are called and however written.

    Parameters
    ----------
    table : pandas.DataFrame
        As of `labels_by_id`.
    name : str
        What it is called in a warning, which counts positions that are not understood.

    Returns
    -------
    pandas.DataFrame
        With ``ra`` and ``dec``, NaN where there is none.
    """
    try:
        places = positions_of_table(table)
    except KeyError:
        return table.assign(ra=np.nan, dec=np.nan)
    written = ~places["ra_text"].map(is_missing) & ~places["dec_text"].map(is_missing)
    wrong = places[written & places["ra"].isna()]
    if len(wrong):
        logger.warning(
            "%d of %d positions of the %s are none on the sky, such as %r, %r",
            len(wrong), len(places), name, *wrong.iloc[0][["ra_text", "dec_text"]],
        )  # fmt: skip
    return table.assign(ra=places["ra"], dec=places["dec"])


def warn_of_unmatched(
    name: str, keys: Sequence[str], row_of: Mapping[str, str | None], objects: str
) -> None:
    """Say how many rows of a table are of no object, and how many objects have no row.

    Parameters
    ----------
    name : str
        Of the table, as in "rows of the label table".
    keys : sequence of str
        Of its rows.
    row_of : mapping of str to (str or None)
        Key by id of the objects; None of those without a row.
    objects : str
        What they are, in the plural, such as "spectra".
    """
    used = set(row_of.values())
    unused = [key for key in keys if key not in used]
    without = [each for each, key in row_of.items() if key is None]
    parts = []
    if unused:
        parts.append(
            f"{len(unused)} of {len(keys)} rows of the {name} are of none of the {objects}, such "
            f"as {some_of(unused)}"
        )
    if without:
        parts.append(
            f"{len(without)} of {len(row_of)} {objects} have no row in the {name}, such as "
            f"{some_of(without)}"
        )
    if parts:
        logger.warning("%s", "; ".join(parts))


def warn_of_words(words: pd.Series, expected: str) -> None:
    """Count the words in labels that are no class.

    Parameters
    ----------
    words : pandas.Series
        Those words, one an object.
    expected : str
        What would have been understood.
    """
    if len(words):
        counts = words.value_counts()
        said = ", ".join(f"{word!r} ({number})" for word, number in counts.head(5).items())
        logger.warning(
            "%d labels are no class, expected %s: %s%s", len(words), expected, said,
            " ..." if len(counts) > 5 else "",
        )  # fmt: skip
