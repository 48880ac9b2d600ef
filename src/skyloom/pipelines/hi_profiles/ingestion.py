"""Node functions of the ingestion: files in, line profiles and rejections out."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from skyloom.pipelines.hi_profiles.parameters import (
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
from skyloom.raw_files.labels import labels_by_id, match_ids, warn_of_unmatched, warn_of_words
from skyloom.raw_files.names import object_ids
from skyloom.raw_files.tables import numbers
from skyloom.spectra.hi.preparation import prepare_profile
from skyloom.spectra.hi.readers import read_spectrum

PROFILE_COLUMNS = (
    "id", "number", "file", "sha256", "layout", "axis", "velocity_convention", "object",
    "velocity_start", "channel_width", "noise", "snr", "line_centre", "line_width",
    "window_low", "window_high", "flux_beside",
    "baseline_level_error", "baseline_slope_error", "warning",
    "class", "class_value", "label_source",
)  # fmt: skip
# Parameters of the ingestion that are also those of `prepare_profile`.
_OF_A_PROFILE = {
    "resolution", "min_channels", "max_channels", "baseline_order", "min_snr", "weak_snr",
    "max_flux", "width_range", "min_contrast", "min_edge_steepness", "max_trough",
    "masked_velocities", "interference_frequencies", "search_radius",
}  # fmt: skip


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


def ingest_spectra(
    observations: dict[str, Callable[[], bytes]],
    labels: pd.DataFrame,
    ingestion: IngestionParameters,
) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    """Read, prepare and label every file.

    Returns
    -------
    profiles : pandas.DataFrame
        One row an accepted file, with the columns `PROFILE_COLUMNS`. ``class`` is the
        index among the chosen classes and ``class_value`` what the table says; both are missing
        where it has no usable class, and ``label_source`` says why.
    flux : numpy.ndarray of float32, shape (n_profiles, max_channels)
        mJy; NaN where masked and beyond the end of the profile.
    rejected : pandas.DataFrame
        One row for each other file, with ``file``, ``reason`` and ``value``.

    Raises
    ------
    skyloom.raw_files.NothingUsableError
        If no file is accepted.
    ValueError
        If the label table lacks a column.
    """
    table = _label_columns(labels, ingestion)
    chosen = ingestion.classes or sorted(set(table["class_value"].dropna().astype(int)))
    ids = object_ids(observations)
    row_of = _rows_of_files(observations, ids, table.index, ingestion)
    accepted, fluxes, rejected, taken = [], [], [], {}
    for file in tqdm(sorted(observations), desc="reading spectra", unit="file"):
        try:
            identifier, number = _identify(file, ids[file], ingestion)
            content = load_bytes(observations[file])
            spectrum = read_spectrum(
                file,
                content,
                velocity_unit=ingestion.velocity_unit,
                flux_unit=ingestion.flux_unit,
            )
            key = row_of.get(file)
            systemic = np.nan if key is None else table.loc[key, "velocity"]
            profile = prepare_profile(
                spectrum,
                systemic_velocity=systemic if np.isfinite(systemic) else spectrum.systemic_velocity,
                **ingestion.model_dump(include=_OF_A_PROFILE),
            )
            if identifier in taken:
                raise UnusableError("duplicate id", f"{identifier}, as {taken[identifier]}")
        except UnusableError as error:
            rejected.append((file, error.reason, error.value))
            continue
        taken[identifier] = file
        measured = profile._asdict()
        row = np.full(ingestion.max_channels, np.nan, dtype=np.float32)
        row[: len(profile.flux)] = measured.pop("flux")
        fluxes.append(row)
        about = {"id": identifier, "number": number, "file": file}
        about |= {"sha256": hashlib.sha256(content).hexdigest(), "layout": spectrum.layout}
        about |= {"axis": spectrum.axis, "velocity_convention": spectrum.convention}
        about |= {"object": spectrum.object_name}
        accepted.append(about | measured | _label(key, table, chosen))
    refused = tabulate_rejections(rejected, len(accepted), "a usable 21-cm line")
    profiles = pd.DataFrame(accepted, columns=list(PROFILE_COLUMNS))
    profiles["number"] = profiles["number"].astype("Int64")
    profiles[["class", "class_value"]] = profiles[["class", "class_value"]].astype("Int64")
    if not labels.empty:
        by_id = {ids[file]: key for file, key in row_of.items() if key is not None}
        by_id |= {identifier: row_of[file] for identifier, file in taken.items()}
        warn_of_unmatched("label table", table.index, by_id, "spectra")
        words = table.loc[table["class_value"].isna(), "class"].dropna()
        warn_of_words(words, "a whole number from 0")
    return profiles, np.stack(fluxes), refused


def draw_spectra_sheets(
    observations: dict[str, Callable[[], bytes]],
    profiles: pd.DataFrame,
    rejected: pd.DataFrame,
    ingestion: IngestionParameters,
) -> Iterator[Any]:
    """Contact sheets of the whole spectra, accepted or not, to be looked through by eye.

    Returns
    -------
    iterator of matplotlib.figure.Figure
        A page at a time: each spectrum with the window of its line, or why it was rejected. Files
        that are no spectra, or have too few channels, are left out.
    """

    def spectra():
        windows = profiles.set_index("file")[["window_low", "window_high", "snr"]]
        reasons = rejected.set_index("file")[["reason", "value"]].agg(": ".join, axis=1)
        for file in sorted(observations):
            try:
                spectrum = read_spectrum(
                    file,
                    load_bytes(observations[file]),
                    velocity_unit=ingestion.velocity_unit,
                    flux_unit=ingestion.flux_unit,
                )
            except UnusableError:
                continue
            if np.isfinite(spectrum.flux).sum() < ingestion.min_channels:
                continue
            window, caption = None, reasons.get(file, "")
            if file in windows.index:
                low, high, snr = windows.loc[file]
                window, caption = (low, high), f"S/N {snr:.1f}"
            yield spectrum.velocity, spectrum.flux, window, f"{file}  {caption}"

    from skyloom.plots.hi_profiles import spectra_sheets

    return spectra_sheets(islice(spectra(), ingestion.sheet_spectra))


def _identify(
    file: str, identifier: str, parameters: IngestionParameters
) -> tuple[str, int | None]:
    """Id and catalogue number of a file from its name."""
    name, number = PurePosixPath(file).name, None
    if parameters.id_pattern is not None:
        match = re.search(parameters.id_pattern, name)
        if not match:
            raise UnusableError(
                "no catalogue number", f"file name does not match {parameters.id_pattern}"
            )
        try:
            number = int(match[1])
            np.int64(number)  # the type of the column
        except (TypeError, ValueError, OverflowError) as error:
            raise UnusableError("no catalogue number", f"{match[1]!r}") from error
        identifier = parameters.id_format.format(number)
    if parameters.index_range is not None:
        low, high = parameters.index_range
        if number is None or not low <= number <= high:
            raise UnusableError("outside index_range", f"{number} not in {low}..{high}")
    return identifier, number


def _rows_of_files(files, ids, keys, parameters):
    """Key of the row of each file by its id, else by its catalogue number; None without one."""
    numbers_of, ids_of = {}, {}
    for file in files:
        try:
            ids_of[file], numbers_of[file] = _identify(file, ids[file], parameters)
        except UnusableError:
            continue  # rejected below
    by_id = match_ids(ids_of.values(), keys)
    found = {file: by_id.get(identifier) for file, identifier in ids_of.items()}
    taken = set(by_id.values())
    by_number = match_ids(
        [str(n) for n in numbers_of.values() if n is not None], [k for k in keys if k not in taken]
    )
    return {
        file: by_number.get(str(numbers_of[file])) if key is None else key
        for file, key in found.items()
    }


def _label_columns(labels: pd.DataFrame, parameters: IngestionParameters) -> pd.DataFrame:
    """By id what the table says: ``class`` as written, ``class_value`` and ``velocity``."""
    if labels.empty:
        return pd.DataFrame({"class": [], "class_value": [], "velocity": []}, dtype=object)
    needed = [parameters.label_class_column]
    if parameters.label_velocity_column is not None:
        needed.append(parameters.label_velocity_column)
    labels = labels_by_id(labels, parameters.label_id_column, needed)
    table = pd.DataFrame({"class": labels[needed[0]]}, index=labels.index)
    table["class_value"] = table["class"].map(_whole_number, na_action="ignore").astype(float)
    table["velocity"] = numbers(labels[needed[1]]) if len(needed) > 1 else np.nan
    return table


def _whole_number(value: object) -> float:
    """A class as a whole number from 0, or NaN."""
    number = pd.to_numeric(pd.Series([value]), errors="coerce").iloc[0]
    return number if number >= 0 and number == np.floor(number) and number < np.inf else np.nan


def _label(key, table, chosen):
    """Index and value of an object's class and where it is from, or why it has none."""
    label = value = pd.NA
    if table.empty:
        source = "no label table"
    elif key is None:
        source = "not in the label table"
    elif np.isnan(number := table.loc[key, "class_value"]):
        source = f"class {table.loc[key, 'class']!r} is not a whole number"
    elif int(number) not in chosen:
        value, source = int(number), f"class {int(number)} not among the chosen classes"
    else:
        value = int(number)
        label, source = list(chosen).index(value), "label table"
    return {"class": label, "class_value": value, "label_source": source}
