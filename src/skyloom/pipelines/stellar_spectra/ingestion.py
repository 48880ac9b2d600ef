"""Node functions of the ingestion: files in, stars with their classes and rejections out."""

from __future__ import annotations

import hashlib
import logging
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
from skyloom.raw_files import UnusableError, load_bytes, tabulate_rejections
from skyloom.raw_files.names import file_stem, names_an_object, object_ids, object_name
from skyloom.spectra.optical.preparation import stack_spectra
from skyloom.spectra.optical.readers import read_spectrum
from skyloom.spectra.optical.spectral_types import parse_spectral_type
from skyloom.spectra.optical.star_tables import star_table, table_key

STAR_TABLE_COLUMNS = (
    "id", "file", "sha256", "survey", "layout", "name", "spectral_type", "class", "subtype",
    "velocity", "ra", "dec", "snr", "n_pixels", "label_source", "group", "keep", "reason", "value",
)  # fmt: skip
logger = logging.getLogger(__name__)

_CHUNK = 256
# Barnard's star, which moves fastest, takes eleven years for as much, 61 Cygni 23; members of a
# cluster that bear its name are further apart. arcsec
_NAME_RADIUS = 120.0
_SPECTRA = (".fits", ".fit", ".gz")  # what else has text may be a table


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
    spectra, tables = _sort_out(observations, labels)
    ids = object_ids(spectra)
    rows, rejected, taken = [], [], {}
    for file in tqdm(spectra, desc="reading spectra", unit="file"):
        try:
            content = load_bytes(observations[file])
            spectrum = read_spectrum(file, content)
            row = {"id": ids[file]} | _row(file, content, spectrum, tables)
            if row["id"] in taken:
                raise UnusableError("duplicate id", f"{row['id']}, as {taken[row['id']]}")
        except UnusableError as error:
            rejected.append((file, error.reason, error.value))
            continue
        taken[row["id"]] = file
        rows.append(row)
    refused = tabulate_rejections(rejected, len(rows), "a usable spectrum")
    stars = pd.DataFrame(rows)
    group = same_objects(
        stars["ra"], stars["dec"], ingestion.duplicate_radius, _names_that_link(stars),
        stars["sha256"],
    )  # fmt: skip
    stars["group"] = stars["id"].to_numpy()[group]
    _judge(stars, ingestion)
    from_tables = set(stars["label_source"]) - {"file header", "no label"}
    if tables and not from_tables:
        logger.warning(
            "none of the %d rows of the tables of stars is of a spectrum: they name files or "
            "observation ids such as %r, spectra are like %r",
            sum(map(len, tables)), tables[0].index[0], stars["id"].iloc[0],
        )  # fmt: skip
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
    """Files that hold spectra, and the tables of stars by what they name, the user's own last."""
    tables, spectra = [], []
    for file in sorted(files):
        table = None if file.lower().endswith(_SPECTRA) else star_table(_text(files[file]))
        if table is None:
            spectra.append(file)
        else:
            tables.append(table.assign(source=f"table {PurePosixPath(file).name}"))
    if not labels.empty:
        of_user = star_table(labels.to_csv(index=False))
        if of_user is None:
            msg = (
                "the label table needs a column of files or observation ids (filename, obsid, id) "
                f"and one of spectral types (subclass, spectral_type), but has {list(labels)}"
            )
            raise ValueError(msg)
        tables.append(of_user.assign(source="label table"))
    return spectra, [each.drop_duplicates("file", keep="last").set_index("file") for each in tables]


def _text(read):
    try:
        return load_bytes(read).decode("utf-8-sig")
    except (UnusableError, UnicodeDecodeError):
        return ""


def _row(file, content, read, tables):
    """What the file and the tables say of a spectrum."""
    stem = file_stem(file)
    row = {
        "file": file, "sha256": hashlib.sha256(content).hexdigest(),
        "survey": file.partition("/")[0] if "/" in file else read.layout, "layout": read.layout,
        "name": _star(read, stem), "spectral_type": read.spectral_type,
        "velocity": read.radial_velocity, "ra": read.ra, "dec": read.dec, "snr": read.snr,
        "n_pixels": len(read.flux),
        "label_source": "file header" if read.spectral_type else "no label",
    }  # fmt: skip
    for table in tables:  # a later one has the last word on what it tells
        key = next((k for k in (table_key(file), read.identifier) if k in table.index), None)
        if key is None:
            continue
        entry = table.loc[key]
        if entry["type"]:
            row |= {"spectral_type": entry["type"], "label_source": entry["source"]}
        row |= {"name": entry["name"]} if entry["name"] else {}
        numbers = entry[["velocity", "ra", "dec", "snr"]].dropna()
        row |= {name: float(value) for name, value in numbers.items()}
    kind = parse_spectral_type(row["spectral_type"])
    return row | {
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
