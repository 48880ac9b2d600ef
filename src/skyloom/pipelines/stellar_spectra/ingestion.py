"""Node functions of the ingestion: files in, stars with their classes and rejections out."""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from skyloom.evaluation.splits import names_in_one_place, same_objects
from skyloom.learning.fitting import TrainingParameters
from skyloom.pipelines.stellar_spectra.parameters import (
    AugmentationParameters,
    Configuration,
    FeatureParameters,
    IngestionParameters,
    NetworkParameters,
    Sweep,
    SweepsParameters,
)
from skyloom.raw_files import REJECTION_COLUMNS, UnusableError, load_bytes, tabulate_rejections
from skyloom.raw_files.labels import match_ids, one_row_an_id, warn_of_unmatched
from skyloom.raw_files.names import file_stem, names_an_object, object_ids, object_name
from skyloom.raw_files.tables import warn_of_damaged
from skyloom.spectra.optical.preparation import stack_spectra
from skyloom.spectra.optical.readers import read_spectrum
from skyloom.spectra.optical.spectral_types import parse_spectral_type
from skyloom.spectra.optical.star_tables import star_table, stars_of_table, table_key

STAR_TABLE_COLUMNS = (
    "id", "file", "sha256", "survey", "layout", "name", "spectral_type", "class", "subtype",
    "velocity", "ra", "dec", "snr", "n_pixels", "label_source", "group", "keep", "reason", "value",
)  # fmt: skip
logger = logging.getLogger(__name__)

_CHUNK = 256
_NUMBERS = ("velocity", "ra", "dec", "snr")  # of a table of stars
# Barnard's star, which moves fastest, takes eleven years for as much, 61 Cygni 23; members of a
# cluster that bear its name are further apart. arcsec
_NAME_RADIUS = 120.0
_FITS = re.compile(r"\.(fits?|fts|fz)(\.\w+)?$", re.IGNORECASE)  # what else may be a table


def configure_sweep(
    sweeps: SweepsParameters,
    features: FeatureParameters,
    augmentation: AugmentationParameters,
    network: NetworkParameters,
    training: TrainingParameters,
) -> Sweep:
    """Lay out the chosen sweep and check every configuration before any file is read."""
    base = Configuration(
        name="base", features=features, augmentation=augmentation, network=network,
        training=training,
    )  # fmt: skip
    return Sweep.lay_out(sweeps.parameters, base)


def ingest_spectra(
    observations: dict[str, Callable[[], bytes]],
    labels: pd.DataFrame,
    ingestion: IngestionParameters,
) -> tuple[pd.DataFrame, Any, pd.DataFrame]:
    """Read every file and find out which star it shows.

    Returns
    -------
    stars : pandas.DataFrame
        `STAR_TABLE_COLUMNS`, one row a spectrum that was read: ``survey`` is the folder it lies in
        (the layout where it lies in none), ``velocity`` (km/s) that of a table, else of the file;
        ``group`` the first spectrum of the same star, by position, name or content; ``reason`` and
        ``value`` tell why one is not kept.
    spectra : dask.array.Array of float32, shape (pixels of all, 4)
        From `skyloom.spectra.optical.preparation.stack_spectra`. They are read once more as they
        are saved, some at a time, so that memory does not grow with the number of files.
    rejected : pandas.DataFrame
        ``file``, ``reason`` and ``value`` of everything else.

    Raises
    ------
    skyloom.raw_files.NothingUsableError
        If no spectrum was read.
    ValueError
        If the label table is none of stars.
    """
    spectra, tables, damaged = _sort_out(observations, labels)
    ids = object_ids(spectra)
    called = {file: _name_in_tables(file, ids[file]) for file in spectra}
    matched = [match_ids(called.values(), table.index) for table in tables]
    rows, rejected, taken = [], [], {}
    for file in tqdm(spectra, desc="reading spectra", unit="file"):
        try:
            content = load_bytes(observations[file])
            spectrum = read_spectrum(file, content)
            keys = [rows_of.get(called[file]) for rows_of in matched]
            row = {"id": ids[file]} | _row(file, content, spectrum, tables, keys)
            if row["id"] in taken:
                raise UnusableError("duplicate id", f"{row['id']}, as {taken[row['id']]}")
        except UnusableError as error:
            rejected.append((file, error.reason, error.value))
            continue
        taken[row["id"]] = file
        rows.append(row)
    refused = tabulate_rejections(rejected, len(rows), "a usable spectrum")
    refused = pd.concat([refused, damaged], ignore_index=True)
    stars = pd.DataFrame(rows)
    group = same_objects(
        stars["ra"], stars["dec"], ingestion.duplicate_radius, _names_that_link(stars),
        stars["sha256"],
    )  # fmt: skip
    stars["group"] = stars["id"].to_numpy()[group]
    _judge(stars, ingestion)
    _warn_of_unmatched(stars, tables)
    return stars[list(STAR_TABLE_COLUMNS)], _read_when_saved(stars, observations), refused


def _names_that_link(stars):
    """Names by which spectra are of one star; empty where a name is none, or that of many."""
    names = stars["name"].map(object_name)
    one = names_in_one_place(names, stars["ra"], stars["dec"], _NAME_RADIUS)
    one &= stars["name"].map(names_an_object)
    shared = names[~one & (names != "")].value_counts()
    shared = shared[shared > 1]
    if len(shared):
        logger.warning(
            "%d names are not taken for those of one star, as they are no names, or positions of "
            "their spectra are more than %g arcmin off: %s", len(shared), _NAME_RADIUS / 60,
            ", ".join(f"{name!r} ({number} spectra)" for name, number in shared[:5].items()),
        )  # fmt: skip
    return names.where(one, "")


_one_at_a_time = threading.Lock()  # threads would mix up the warnings by which files are judged


def _read_when_saved(stars, files):
    """The spectra of all stars, chunk by chunk, as they are asked for."""
    import dask
    import dask.array as da

    later = dask.delayed(_read, pure=False)
    chunks = [stars.iloc[first : first + _CHUNK] for first in range(0, len(stars), _CHUNK)]
    return da.concatenate(
        [
            da.from_delayed(
                later([(file, files[file]) for file in part["file"]]),
                (int(part["n_pixels"].sum()), 4),
                np.float32,
            )
            for part in chunks
        ]
    )


def _read(files):
    with _one_at_a_time:
        return stack_spectra([read_spectrum(name, load_bytes(load)) for name, load in files])


def _sort_out(files, labels):
    """Files that hold spectra, the tables of stars by what they name, and their damaged rows.

    The user's own table is the last.
    """
    tables, spectra, damaged = [], [], []
    for file in sorted(files):
        found = None if _FITS.search(file) else star_table(file, _content(files[file]))
        if found is None:
            spectra.append(file)
            continue
        table, lost = found
        warn_of_damaged(file, table, lost)
        damaged += [
            (file, "damaged row", f"line {number}: {reason} in {line!r}")
            for number, reason, line in lost.itertuples(index=False)
        ]
        tables.append(table.assign(source=f"table {PurePosixPath(file).name}"))
    if not labels.empty:
        of_user = stars_of_table(labels)
        if of_user is None:
            msg = (
                "the label table needs a column of files or observation ids (filename, obsid, id) "
                f"and one of spectral types (subclass, spectral_type), but has {list(labels)}"
                + (f" ({origin})" if (origin := labels.attrs.get("origin")) else "")
            )
            raise ValueError(msg)
        tables.append(of_user.assign(source="label table"))
    told = ("type", "velocity", "ra", "dec")
    tables = [
        one_row_an_id(each.set_index("file").replace("", np.nan), told, each["source"].iloc[0])
        for each in tables
        if len(each)
    ]
    return spectra, tables, pd.DataFrame(damaged, columns=list(REJECTION_COLUMNS))


def _content(read):
    try:
        return load_bytes(read)
    except UnusableError:
        return b""


def _name_in_tables(file, identifier):
    """Id of a spectrum, or its number in MILES."""
    return key if (key := table_key(file)).startswith("miles ") else identifier


def _warn_of_unmatched(stars, tables):
    """Say which rows of each table are of no spectrum, and which spectra are in none of them."""
    for k, table in enumerate(tables):
        used = dict(zip(stars["id"], stars["keys"].str[k], strict=True))
        used = {name: key for name, key in used.items() if key is not None}
        warn_of_unmatched(table["source"].iloc[0], table.index, used, "spectra")
    if tables:
        row_of = {
            name: next((key for key in keys if key is not None), None)
            for name, keys in zip(stars["id"], stars["keys"], strict=True)
        }
        warn_of_unmatched("tables of stars", (), row_of, "spectra")


def _row(file, content, read, tables, keys):
    """What the file and the rows of the tables say of a spectrum."""
    stem = file_stem(file)
    row = {
        "file": file, "sha256": hashlib.sha256(content).hexdigest(),
        "survey": file.partition("/")[0] if "/" in file else read.layout, "layout": read.layout,
        "name": _star(read, stem), "spectral_type": read.spectral_type,
        "velocity": read.radial_velocity, "ra": read.ra, "dec": read.dec, "snr": read.snr,
        "n_pixels": len(read.flux),
        "label_source": "file header" if read.spectral_type else "no label",
    }  # fmt: skip
    keys = [
        read.identifier if key is None and read.identifier in table.index else key
        for key, table in zip(keys, tables, strict=True)
    ]
    for table, key in zip(tables, keys, strict=True):  # a later one has the last word
        if key is None:
            continue
        entry = table.loc[key].dropna()
        row |= {"name": entry["name"]} if "name" in entry else {}
        if "type" in entry:
            row |= {"spectral_type": entry["type"], "label_source": entry["source"]}
        row |= {name: float(entry[name]) for name in _NUMBERS if name in entry}
    kind = parse_spectral_type(row["spectral_type"])
    return row | {
        "keys": keys,
        "class": kind.spectral_class,
        "subtype": kind.subtype,
        "reason": "" if kind.spectral_class else kind.reason,
    }


def _star(read, stem):
    """Name of the star, where the file tells more than its own name."""
    return (
        "" if read.identifier in ("", stem) or read.layout.startswith("LAMOST") else read.identifier
    )


def _judge(stars, parameters):
    """Say which spectra are kept, and why the others are not."""
    stars["value"] = np.where(stars["reason"] != "", stars["spectral_type"], "")
    faint = (stars["reason"] == "") & (stars["snr"] < parameters.min_snr)
    stars.loc[faint, "reason"] = "too noisy"
    stars.loc[faint, "value"] = stars["snr"].map("S/N {:.1f}".format)
    copy = stars["sha256"].duplicated() & (stars["reason"] == "")
    stars.loc[copy, ["reason", "value"]] = ["duplicate", "the same file again"]
    stars["keep"] = stars["reason"] == ""
