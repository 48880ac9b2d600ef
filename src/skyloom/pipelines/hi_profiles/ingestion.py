"""Node functions of the ingestion: files in, line profiles and rejections out."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
from tqdm import tqdm

from skyloom.archives.catalogues import labels_by_id
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
from skyloom.raw_files.names import object_ids
from skyloom.spectra.hi.preparation import prepare_profile
from skyloom.spectra.hi.readers import read_spectrum

PROFILE_COLUMNS = (
    "id", "number", "file", "sha256", "layout", "axis", "velocity_convention", "object",
    "velocity_start", "channel_width", "noise", "snr", "line_centre", "line_width",
    "baseline_level_error", "baseline_slope_error", "class", "class_value", "label_source",
)  # fmt: skip
# Parameters of the ingestion that are also those of `prepare_profile`.
_OF_A_PROFILE = {
    "resolution", "min_channels", "max_channels", "baseline_order", "min_snr", "max_flux",
    "width_range", "min_contrast", "min_edge_steepness", "masked_velocities", "search_radius",
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
    classes, velocities = _label_columns(labels, ingestion)
    chosen = ingestion.classes or sorted(set(map(_whole_number, (classes or {}).values())) - {None})
    ids = object_ids(observations)
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
            keys = [key for key in (identifier, number) if key is not None]
            systemic = next((velocities[str(k)] for k in keys if str(k) in velocities), np.nan)
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
        accepted.append(about | measured | _label(keys, classes, chosen))
    table = tabulate_rejections(rejected, len(accepted), "a usable 21-cm line")
    profiles = pd.DataFrame(accepted, columns=list(PROFILE_COLUMNS))
    profiles["number"] = profiles["number"].astype("Int64")
    profiles[["class", "class_value"]] = profiles[["class", "class_value"]].astype("Int64")
    return profiles, np.stack(fluxes), table


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


def _label_columns(
    labels: pd.DataFrame, parameters: IngestionParameters
) -> tuple[dict[str, object] | None, dict[str, float]]:
    """Classes and systemic velocities by id, both as text; None without a table."""
    if labels.empty:
        return None, {}
    needed = [parameters.label_id_column, parameters.label_class_column]
    if parameters.label_velocity_column is not None:
        needed.append(parameters.label_velocity_column)
    labels = labels_by_id(labels, parameters.label_id_column, needed)
    keys = labels.index
    classes = dict(zip(keys, labels[parameters.label_class_column], strict=True))
    velocities = {}
    if parameters.label_velocity_column is not None:
        column = pd.to_numeric(labels[parameters.label_velocity_column], errors="coerce")
        velocities = dict(zip(keys, column, strict=True))
    # A catalogue number may be written with leading zeros; the id of a file comes first.
    for table in (classes, velocities):
        for key in [key for key in table if key.isdecimal()]:
            table.setdefault(str(int(key)), table[key])
    return classes, velocities


def _whole_number(value: object) -> int | None:
    """A class as a whole number from 0, or None."""
    number = pd.to_numeric(pd.Series([value]), errors="coerce").iloc[0]
    if not np.isfinite(number) or number < 0 or number != int(number):
        return None
    return int(number)


def _label(keys, classes, chosen):
    """Index and value of an object's class and where it is from, or why it has none."""
    label = value = pd.NA
    written = next((classes[str(key)] for key in keys if str(key) in (classes or {})), None)
    if classes is None:
        source = "no label table"
    elif written is None:
        source = "not in the label table"
    elif (number := _whole_number(written)) is None:
        source = f"class {written!r} is not a whole number"
    elif number not in chosen:
        value, source = number, f"class {number} not among the chosen classes"
    else:
        label, value, source = list(chosen).index(number), number, "label table"
    return {"class": label, "class_value": value, "label_source": source}
