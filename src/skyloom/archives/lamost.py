"""The LAMOST archive: its catalogue split by spectral class and sampled, and its spectra."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd

from skyloom.archives.downloads import Downloader, Wanted
from skyloom.raw_files.tables import find_column
from skyloom.spectra.optical.readers import read_spectrum
from skyloom.spectra.optical.spectral_types import CLASSES, parse_spectral_type

ADDRESS = "https://www.lamost.org/dr7/v2.0/spectrum/fits/{obsid}"
COUNT_COLUMNS = ("class", "n", "n_sampled")
"""Columns of the counts of a catalogue."""

NOT_UNDERSTOOD = "not_understood"
_BATCH = 100_000  # rows


def split_catalogue(
    path: Path,
    folder: Path,
    *,
    n_sampled: int = 1400,
    seed: int = 0,
    id_column: str = "obsid",
    kind_column: str = "class",
    class_column: str = "subclass",
    delimiter: str | None = None,
    memory: str = "512MB",
) -> pd.DataFrame:
    """Split a catalogue by spectral class and draw a random sample of each, in one pass.

    Memory does not grow with the catalogue.

    Parameters
    ----------
    path : pathlib.Path
        Table with a header, plain or gzipped.
    folder : pathlib.Path
        Where the parts go; it must not exist. Written under another name and renamed when whole:
        ``<class>.csv`` with all columns and the catalogue's delimiter, ``<class>_sample.txt`` with
        an id a line (the form the archive's search page takes), ``not_understood.csv`` with the
        rows that have no class and the ``reason``, ``damaged.csv`` with lines that are not rows,
        and ``counts.csv``.
    n_sampled : int
        Ids of each class; all where there are fewer.
    seed : int
        Of the sample. It does not depend on the order of the rows.
    id_column, kind_column, class_column : str
        Columns of the observation id, of what it is (only ``STAR`` has a spectral class; every
        row is a star where there is no such column), and of the spectral type.
    delimiter : str, optional
        Found out where it is not given, or empty.
    memory : str
        Limit of the reader, as DuckDB writes it.

    Returns
    -------
    pandas.DataFrame
        `COUNT_COLUMNS`, a row for each of the seven classes and one for each reason why rows have
        none.

    Raises
    ------
    FileExistsError
        If the folder is there.
    ValueError
        If the catalogue has no such columns, or no rows.
    """
    if folder.exists():
        msg = f"{folder} is there already: name another folder, or remove it"
        raise FileExistsError(msg)
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    reader, dialect, damaged = _open(path, delimiter, memory)
    names = pd.DataFrame(columns=reader.schema.names)
    id_name, kind_name, class_name = (
        find_column(names, wanted) for wanted in (id_column, kind_column, class_column)
    )
    for wanted, found in ((id_column, id_name), (class_column, class_name)):
        if found is None:
            msg = f"{path} has no column {wanted!r}, but {list(names)}"
            raise ValueError(msg)
    writers = _Writers(part, reader.schema, dialect)
    counts: dict[str, int] = {}
    samples: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for batch in reader:
        kind = batch.column(kind_name) if kind_name is not None else None
        labels = _labels(batch.column(class_name), kind)
        ids = batch.column(id_name).to_pandas().fillna("").str.strip().to_numpy(object)
        order = _random_order(ids, seed)
        for label in np.unique(labels):
            rows = labels == label
            counts[label] = counts.get(label, 0) + int(rows.sum())
            writers.write(label, batch, rows)
            if label in CLASSES:
                samples[label] = _smallest(samples.get(label), order[rows], ids[rows], n_sampled)
    writers.close()
    if not counts:
        msg = f"{path} has no rows"
        raise ValueError(msg)
    damaged().to_csv(part / "damaged.csv", index=False)
    for label, (_, ids) in samples.items():
        (part / f"{label}_sample.txt").write_text("".join(f"{i}\n" for i in ids))
    others = sorted(set(counts) - set(CLASSES))
    table = pd.DataFrame(
        [
            (label, counts.get(label, 0), len(samples[label][1]) if label in samples else 0)
            for label in (*CLASSES, *others)
        ],
        columns=list(COUNT_COLUMNS),
    )
    table.to_csv(part / "counts.csv", index=False)
    part.rename(folder)
    return table


def _open(path, delimiter, memory):
    """Batches of rows as text; the delimiter; and a function that tells of damaged lines."""
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"SET memory_limit = '{memory}'")
    connection.execute("SET preserve_insertion_order = false")
    name = str(path)
    try:
        if not delimiter:
            ((found,),) = connection.execute(
                # One ragged line would have any other delimiter taken without the last option.
                "SELECT Delimiter FROM sniff_csv(?, all_varchar = true, store_rejects = true)",
                [name],
            ).fetchall()
            delimiter = str(found)
        query = connection.sql(
            "SELECT * FROM read_csv(?, all_varchar = true, header = true, delim = ?, "
            "store_rejects = true)",
            params=[name, delimiter],
        )
        reader = query.to_arrow_reader(_BATCH)
    except duckdb.Error as error:
        msg = f"{path} is no table of text: {str(error).splitlines()[0]}"
        raise ValueError(msg) from error

    def damaged():
        return connection.execute(
            "SELECT line, any_value(csv_line) AS csv_line, "
            "string_agg(error_message, '; ') AS reason FROM reject_errors GROUP BY line "
            "ORDER BY line"
        ).df()

    return reader, delimiter, damaged


def _labels(types, kind):
    """Class of each row, or why it has none."""
    coded = types.dictionary_encode()
    words = [str(word) for word in coded.dictionary.fill_null("").to_pylist()]
    parsed = [parse_spectral_type(word) for word in words]
    # The last one is of missing values.
    each = np.array([p.spectral_class or p.reason for p in parsed] + ["no class"], dtype=object)
    codes = coded.indices.fill_null(len(words)).to_numpy(zero_copy_only=False)
    labels = each[codes]
    if kind is not None:
        star = np.asarray(kind.to_pandas().str.strip().str.upper().eq("STAR").fillna(False), bool)
        labels = np.where(star, labels, "no star")
    return labels


def _random_order(ids, seed):
    """A number for each id that depends on nothing but the id and the seed."""
    key = f"{seed:016d}"[-16:]
    return pd.util.hash_array(ids, hash_key=key, categorize=False)


def _smallest(before, order, ids, n):
    """The ids with the smallest numbers, of those before and these."""
    if before is not None:
        order, ids = np.append(before[0], order), np.append(before[1], ids)
    chosen = np.argsort(order, kind="stable")[:n]
    return order[chosen], ids[chosen]


class _Writers:
    """A file for each class, opened when its first row comes."""

    def __init__(self, folder, schema, delimiter):
        self._folder, self._schema, self._delimiter = folder, schema, delimiter
        self._open = {}

    def write(self, label, batch, rows):
        import pyarrow as pa
        from pyarrow import csv

        name, schema = label, self._schema
        chosen = batch.filter(pa.array(rows))
        if label not in CLASSES:
            name, schema = NOT_UNDERSTOOD, schema.append(pa.field("reason", pa.string()))
            chosen = chosen.append_column("reason", pa.array([label] * len(chosen)))
        if name not in self._open:
            options = csv.WriteOptions(delimiter=self._delimiter, quoting_style="needed")
            self._open[name] = csv.CSVWriter(
                self._folder / f"{name}.csv", schema, write_options=options
            )
        self._open[name].write_batch(chosen)

    def close(self):
        for writer in self._open.values():
            writer.close()


def read_sample(path: Path) -> list[str]:
    """Observation ids of a sample.

    Parameters
    ----------
    path : pathlib.Path
        An id a line.

    Returns
    -------
    list of str
    """
    return path.read_text().split()


def download_spectra(
    ids: Sequence[str],
    folder: Path,
    *,
    address: str = ADDRESS,
    interval: float = 1.0,
    retries: int = 4,
    backoff: float = 2.0,
    timeout: float = 60.0,
) -> pd.DataFrame:
    """Fetch the spectra that are not in a folder yet.

    Parameters
    ----------
    ids : sequence of str
        Observation ids, such as of `read_sample`.
    folder : pathlib.Path
        Where they go, as ``<id>.fits.gz``.
    address : str
        Of the archive, with ``{obsid}`` where the id goes; releases differ in it.
    interval, retries, backoff, timeout
        As in `skyloom.archives.downloads.Downloader`.

    Returns
    -------
    pandas.DataFrame
        As of `skyloom.archives.downloads.Downloader.download`.

    Raises
    ------
    ValueError
        If the address has no place for the id, or an id is no plain name or occurs twice.
    """
    if "{obsid}" not in address:
        msg = f"the address of the archive needs {{obsid}} where the id goes, got {address!r}"
        raise ValueError(msg)
    wanted = [
        Wanted(f"{i}.fits.gz", address.replace("{obsid}", quote(str(i), safe="")), {}) for i in ids
    ]
    downloader = Downloader(
        read_spectrum, interval=interval, retries=retries, backoff=backoff, timeout=timeout
    )
    return downloader.download(wanted, folder)
