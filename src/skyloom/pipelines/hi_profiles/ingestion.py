"""Node functions of the ingestion: files in, line profiles and rejections out."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

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
    SweepParameters,
    TrainingParameters,
)
from skyloom.raw_files import REJECTION_COLUMNS, UnusableError, load_bytes
from skyloom.spectra.hi.preparation import prepare_profile
from skyloom.spectra.hi.readers import read_spectrum

PROFILE_COLUMNS = (
    "id", "number", "file", "sha256", "layout", "axis", "object", "velocity_start",
    "channel_width", "noise", "snr", "line_centre", "line_width",
    "baseline_level_error", "baseline_slope_error", "class", "class_value", "label_source",
)  # fmt: skip


def configure_sweep(
    sweeps: SweepParameters,
    features: FeatureParameters,
    augmentation: AugmentationParameters,
    network: NetworkParameters,
    training: TrainingParameters,
) -> dict[str, Any]:
    """Lay out the sweep and check every configuration before any file is read.

    Returns
    -------
    dict
        A `skyloom.pipelines.hi_profiles.parameters.Sweep` as plain values.

    Raises
    ------
    pydantic.ValidationError
        If values of the sweep do not go together.
    """
    base = Configuration(
        name="base",
        features=features,
        augmentation=augmentation,
        network=network,
        training=training,
    )
    return Sweep.plan(sweeps, base).model_dump(mode="json")


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
    ValueError
        If no file is accepted, or the label table lacks a column.
    """
    classes, velocities = _label_columns(labels, ingestion)
    chosen = ingestion.classes or sorted(set(map(_whole_number, (classes or {}).values())) - {None})
    accepted, fluxes, rejected, taken = [], [], [], {}
    for file in tqdm(sorted(observations), desc="reading spectra", unit="file"):
        try:
            identifier, number = _identify(file, ingestion)
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
                resolution=ingestion.resolution,
                min_channels=ingestion.min_channels,
                max_channels=ingestion.max_channels,
                baseline_order=ingestion.baseline_order,
                min_snr=ingestion.min_snr,
                max_flux=ingestion.max_flux,
                width_range=ingestion.width_range,
                min_contrast=ingestion.min_contrast,
                min_edge_steepness=ingestion.min_edge_steepness,
                masked_velocities=ingestion.masked_velocities,
                systemic_velocity=systemic if np.isfinite(systemic) else spectrum.systemic_velocity,
                search_radius=ingestion.search_radius,
            )
            if identifier in taken:
                raise UnusableError("duplicate id", f"{identifier}, as {taken[identifier]}")
        except UnusableError as error:
            rejected.append((file, error.reason, error.value))
            continue
        taken[identifier] = file
        label, value, source = _label(keys, classes, chosen)
        row = np.full(ingestion.max_channels, np.nan, dtype=np.float32)
        row[: len(profile.flux)] = profile.flux
        fluxes.append(row)
        accepted.append(
            {
                "id": identifier,
                "number": number,
                "file": file,
                "sha256": hashlib.sha256(content).hexdigest(),
                "layout": spectrum.layout,
                "axis": spectrum.axis,
                "object": spectrum.object_name,
                "velocity_start": profile.velocity_start,
                "channel_width": profile.channel_width,
                "noise": profile.noise,
                "snr": profile.snr,
                "line_centre": profile.line_centre,
                "line_width": profile.line_width,
                "baseline_level_error": profile.baseline_level_error,
                "baseline_slope_error": profile.baseline_slope_error,
                "class": label,
                "class_value": value,
                "label_source": source,
            }
        )
    table = pd.DataFrame(rejected, columns=list(REJECTION_COLUMNS))
    if not accepted:
        reasons = table["reason"].value_counts().to_dict()
        msg = f"none of {len(observations)} files holds a usable 21-cm line: {reasons or 'no observations'}"
        raise ValueError(msg)
    profiles = pd.DataFrame(accepted, columns=list(PROFILE_COLUMNS))
    profiles["number"] = profiles["number"].astype("Int64")
    profiles[["class", "class_value"]] = profiles[["class", "class_value"]].astype("Int64")
    return profiles, np.stack(fluxes), table


def _identify(file: str, parameters: IngestionParameters) -> tuple[str, int | None]:
    """Id and catalogue number of a file from its name."""
    name = PurePosixPath(file).name
    stem = name.split(".fits")[0] if ".fits" in name else PurePosixPath(name).stem
    if parameters.id_pattern is None:
        identifier, number = stem, None
    else:
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
    # A catalogue number may be written with leading zeros; a file's own id comes first.
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
    if classes is None:
        return pd.NA, pd.NA, "no label table"
    found = next((classes[str(key)] for key in keys if str(key) in classes), None)
    if found is None:
        return pd.NA, pd.NA, "not in the label table"
    value = _whole_number(found)
    if value is None:
        return pd.NA, pd.NA, f"class {found!r} is not a whole number"
    if value not in chosen:
        return pd.NA, value, f"class {value} not among the chosen classes"
    return list(chosen).index(value), value, "label table"
