"""Node functions of the ingestion: files in, cut-outs, labels, a sample and rejections out."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from skyloom.images.cutouts import clip_background, remove_specks, resize, stretch
from skyloom.images.readers import all_members, read_cut_out, read_when_saved
from skyloom.images.selection import (
    apply_review,
    dark_on_white,
    inspect_cut_outs,
    mark_duplicates,
)
from skyloom.pipelines.radio_galaxies.parameters import (
    AugmentationParameters,
    Configuration,
    FeatureParameters,
    IngestionParameters,
    NetworkParameters,
    Sweep,
    SweepsParameters,
    TrainingParameters,
)
from skyloom.raw_files import UnusableError, load_bytes, tabulate_rejections
from skyloom.raw_files.labels import (
    labels_by_id,
    match_rows,
    plain_word,
    warn_of_unmatched,
    warn_of_words,
    with_positions,
)
from skyloom.raw_files.names import file_stem, object_ids
from skyloom.raw_files.tables import find_column, numbers
from skyloom.simulate.radio_galaxies import CLASSES

SOURCE_COLUMNS = (
    "id", "file", "sha256", "layout", "unit", "pixel_scale", "ra", "dec", "class", "role",
    "bending_angle", "label_source", "catalogue",
)  # fmt: skip
ROLES = {"train": "train", "valid": "validation", "validation": "validation", "test": "test"}
logger = logging.getLogger(__name__)

_CHUNK = 128
# What is further from the middle than a FIRST cut-out is wide is another source. arcmin
_FAR = 5.0
_THUMBNAIL = 75  # pixels


def configure_sweep(
    sweeps: SweepsParameters,
    features: FeatureParameters,
    augmentation: AugmentationParameters,
    network: NetworkParameters,
    training: TrainingParameters,
) -> Sweep:
    """Lay out the chosen sweep and check every configuration before any file is read."""
    base = Configuration(
        name="base",
        features=features,
        augmentation=augmentation,
        network=network,
        training=training,
    )
    return Sweep.lay_out(sweeps.parameters, base)


def ingest_cut_outs(
    observations: dict[str, Callable[[], bytes]],
    labels: pd.DataFrame,
    ingestion: IngestionParameters,
) -> tuple[pd.DataFrame, Any, pd.DataFrame]:
    """Read every file, inside archives and stacks too, and find out what it shows.

    Returns
    -------
    sources : pandas.DataFrame
        One row a cut-out that was read, with the columns `SOURCE_COLUMNS`; ``class`` is empty
        where nothing tells it.
    cutouts : dask.array.Array of float32, shape (n, size, size)
        As observed (mJy/beam, or counts); NaN where nothing was. They are read once more as they
        are saved, some at a time, so that memory does not grow with the number of files; an npy
        stack is in memory as a whole.
    rejected : pandas.DataFrame
        ``file``, ``reason`` and ``value`` of everything else, also of files whose names do not
        fit the pattern.

    Raises
    ------
    skyloom.raw_files.NothingUsableError
        If nothing was read.
    ValueError
        If the label table cannot be used.
    """
    table = _labels(labels, ingestion)
    pattern = re.compile(ingestion.file_pattern)
    class_of = {
        plain_word(word): name
        for name, words in ingestion.class_values.items()
        for word in (name, *words)
    }
    members, rejected = all_members(observations)
    told = {file: found.groupdict() for file in members if (found := pattern.search(file))}
    ids = object_ids(told, lambda file: file_stem(told[file].get("id") or file))
    rows, taken = [], {}
    for file in tqdm(sorted(members), desc="reading cut-outs", unit="file"):
        try:
            if file not in told:
                raise UnusableError("left out by file_pattern", pattern.pattern)
            row = {"id": ids[file]} | _told_by_name(told[file], class_of)
            content = load_bytes(members[file])
            cut_out = read_cut_out(file, content)
            if row["id"] in taken:
                raise UnusableError("duplicate id", f"{row['id']}, as {taken[row['id']]}")
        except UnusableError as error:
            rejected.append((file, error.reason, error.value))
            continue
        taken[row["id"]] = file
        row |= {"file": file, "sha256": hashlib.sha256(content).hexdigest()}
        row |= {name: getattr(cut_out, name) for name in ("layout", "unit", "pixel_scale")}
        if np.isnan(row["ra"]):
            row |= {"ra": cut_out.ra, "dec": cut_out.dec}
        rows.append(row)
    refused = tabulate_rejections(rejected, len(rows), "a usable cut-out")
    if table is not None:
        _tell_by_table(rows, table, class_of, ingestion)
    warn_of_words(
        pd.Series([row["word"] for row in rows if row["word"]], dtype=object), ", ".join(CLASSES)
    )
    sources = pd.DataFrame(rows, columns=list(SOURCE_COLUMNS))
    accepted = [(file, members[file]) for file in sources["file"]]
    return sources, read_when_saved(accepted, ingestion.size), refused


def _labels(labels, parameters):
    """The label table by id, or None."""
    if labels.empty:
        return None
    # A catalogue of bending angles needs no classes.
    optional = (parameters.class_column, parameters.angle_column)
    there = [name for name in optional if name and find_column(labels, name) is not None]
    table = labels_by_id(labels, parameters.id_column, there or optional[:1])
    if parameters.angle_column in there:
        angles = numbers(table[parameters.angle_column])
        impossible = angles[~(angles.isna() | angles.between(0, 180))]
        if len(impossible):
            logger.warning(
                "%d bending angles are not between 0 and 180 deg and count as missing, such as "
                "%s: %g", len(impossible), impossible.index[0], impossible.iloc[0],
            )  # fmt: skip
        table[parameters.angle_column] = angles.drop(impossible.index).reindex(table.index)
    return with_positions(table)


def _told_by_name(told, class_of):
    """What the file's name says of the source."""
    row = {"class": "", "role": "", "ra": np.nan, "dec": np.nan}
    row |= {"bending_angle": np.nan, "label_source": "no label", "word": ""}
    row["catalogue"] = told.get("catalogue") or ""
    if told.get("class"):
        row |= _class_said(told["class"], "file names", class_of)
    if told.get("role"):
        if told["role"] not in ROLES:
            raise UnusableError("unknown role", f"{told['role']!r}, expected {sorted(ROLES)}")
        row["role"] = ROLES[told["role"]]
    try:
        row |= {name: float(told[name]) for name in ("ra", "dec") if told.get(name)}
    except ValueError as error:
        raise UnusableError("no position", str(error)) from error
    return row


def _class_said(value, source, class_of):
    """Class and where it is from; a source whose class is not among ours has none."""
    if (found := class_of.get(plain_word(value))) is not None:
        return {"class": found, "label_source": source, "word": ""}
    words = f"class {value!r} is none of {', '.join(CLASSES)}"
    return {"class": "", "label_source": words, "word": value}


def _tell_by_table(rows, table, class_of, parameters):
    """Add what the label table says of the sources; it has the last word."""
    ids, ra, dec = ([row[name] for row in rows] for name in ("id", "ra", "dec"))
    keys = match_rows(
        ids, np.array(ra, float), np.array(dec, float), table, parameters.duplicate_radius
    )
    elsewhere = []
    for row, key in zip(rows, keys, strict=True):
        if key is None:
            continue
        found = table.loc[key]
        if _far_apart(row, found):
            elsewhere.append(
                f"{row['id']}: {found['ra']:.4f}, {found['dec']:.4f} in the table, "
                f"{row['ra']:.4f}, {row['dec']:.4f} of the image"
            )
            row["label_source"] = "the label table has another position"
            continue
        if parameters.class_column in table.columns and pd.notna(found[parameters.class_column]):
            row |= _class_said(str(found[parameters.class_column]), "label table", class_of)
        if parameters.angle_column in table.columns:
            row["bending_angle"] = float(found[parameters.angle_column])
        if np.isfinite(found["ra"]):
            row |= {name: float(found[name]) for name in ("ra", "dec")}
    warn_of_unmatched("label table", table.index, dict(zip(ids, keys, strict=True)), "cut-outs")
    if elsewhere:
        logger.warning(
            "%d rows of the label table are not taken, since their positions are more than %g "
            "arcmin from those of the images (ids shifted against the other columns?), such as %s",
            len(elsewhere), _FAR, "; ".join(elsewhere[:3]),
        )  # fmt: skip
    if parameters.class_column not in table.columns:
        logger.warning(
            "the label table has no column %r, so it tells no classes", parameters.class_column
        )


def _far_apart(row, found):
    """Whether a row of the table has a position that cannot be that of the image."""
    from astropy.coordinates import angular_separation

    here, there = (
        np.deg2rad([row["ra"], row["dec"]]),
        np.deg2rad(found[["ra", "dec"]].astype(float)),
    )
    return np.rad2deg(angular_separation(*here, *there)) * 60 > _FAR


def select_sample(
    sources: pd.DataFrame,
    cutouts: np.ndarray,
    review: pd.DataFrame,
    ingestion: IngestionParameters,
) -> tuple[pd.DataFrame, pd.DataFrame, Iterator[Any], dict[str, Callable[[], np.ndarray]]]:
    """Choose the sample: by rules with their reasons, and by eye where somebody has looked.

    Returns
    -------
    sample : pandas.DataFrame
        The sources, in the same order, with ``group`` (id of the first entry of the same source),
        ``snr``, ``at_edge``, ``neighbour_share``, ``keep``, and ``reason`` and ``value`` of what
        is not kept.
    table : pandas.DataFrame
        To be reviewed: ``id``, ``class``, ``keep``, ``reason``, ``value`` and ``page`` of the
        sheets.
    sheets : iterator of matplotlib.figure.Figure
        Pages of labelled thumbnails.
    class_samples : dict of str to callable
        Function that returns the cut-outs that are kept, by class.

    Raises
    ------
    ValueError
        If the review names a source that there is not, or nothing is kept.
    """
    from skyloom.plots.radio_galaxies import contact_sheets

    sample = inspect_sources(sources, cutouts, ingestion)
    sample["keep"] = sample["reason"] == ""
    apply_review(sample, review)
    if not sample["keep"].any():
        reasons = sample["reason"].value_counts().to_dict()
        msg = f"none of {len(sample)} cut-outs is kept: {reasons}"
        raise ValueError(msg)
    order = sample.sort_values(["class", "id"], kind="stable").index
    captions = [
        f"{row.id} {row.class_ or 'no class'}" + ("" if row.keep else f": no, {row.reason}")
        for row in sample.loc[order].rename(columns={"class": "class_"}).itertuples()
    ]
    thumbnails = np.concatenate(
        [
            stretch(resize(np.nan_to_num(cutouts[part]), _THUMBNAIL), "asinh")
            for part in np.array_split(order.to_numpy(), -(-len(order) // _CHUNK))
        ]
    )
    each = 56
    table = sample.loc[order, ["id", "class", "keep", "reason", "value"]].assign(
        keep=np.where(sample.loc[order, "keep"], "yes", "no"),
        page=np.arange(len(order)) // each + 1,
    )
    sheets = contact_sheets(thumbnails, captions, columns=7, rows=8, title="Cut-outs")
    kept = {}
    for name in CLASSES:
        rows = np.flatnonzero((sample["class"] == name) & sample["keep"])
        if len(rows):
            kept[name] = partial(np.take, cutouts, rows, axis=0)  # one class in memory at a time
    return sample, table, sheets, kept


def inspect_sources(
    sources: pd.DataFrame, cutouts: np.ndarray, parameters: IngestionParameters
) -> pd.DataFrame:
    """Find what is wrong with each source, by rules.

    Parameters
    ----------
    sources, cutouts, parameters
        As in `select_sample`.

    Returns
    -------
    pandas.DataFrame
        The sources with ``group``, ``snr``, ``at_edge``, ``neighbour_share``, ``reason`` and
        ``value``.
    """
    seen = []
    for first in range(0, len(sources), _CHUNK):
        part = np.asarray(cutouts[first : first + _CHUNK])
        clipped, noise = clip_background(part)
        seen.append(
            inspect_cut_outs(
                remove_specks(clipped),
                noise,
                np.isfinite(part),
                dark_on_white(part),
                min_snr=parameters.min_snr,
                radius=parameters.radius,
                max_neighbour_share=parameters.max_neighbour_share,
                reject_at_edge=parameters.reject_at_edge,
            )
        )
    sample = sources.join(pd.concat(seen, ignore_index=True))
    mark_duplicates(sample, parameters.duplicate_radius)
    return sample
