"""Node functions that classify new spectra with a finished network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from skyloom.evaluation.novelty import distance_from_sample
from skyloom.evaluation.population import describe_population, reweight, shares_in_population
from skyloom.pipelines.hi_profiles.explanation import classify_lines, explain_lines
from skyloom.pipelines.hi_profiles.features import sample_features
from skyloom.pipelines.hi_profiles.ingestion import ingest_spectra
from skyloom.pipelines.hi_profiles.parameters import (
    Configuration,
    IngestionParameters,
    PredictionParameters,
)
from skyloom.plots.hi_profiles import explanations_figure
from skyloom.spectra.hi.asymmetry import INDICES
from skyloom.spectra.hi.lines import line_geometry

_CHUNK = 512
_N_EXPLAINED = 12


def ingest_unlabelled_spectra(
    observations: dict[str, Callable[[], bytes]], ingestion: IngestionParameters
) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    """Read and prepare every file, without labels.

    Returns
    -------
    profiles, flux, rejected
        As there.
    """
    return ingest_spectra(observations, pd.DataFrame(), ingestion)


def classify_profiles(
    profiles: pd.DataFrame,
    profile_flux: np.ndarray,
    fits: pd.DataFrame,
    asymmetry: pd.DataFrame,
    classifier: tuple[Any, dict[str, Any]],
    prediction: PredictionParameters,
) -> tuple[pd.DataFrame, Any, dict[str, Any]]:
    """Classify every accepted profile.

    Returns
    -------
    table : pandas.DataFrame
        ``id``, ``file``, ``class`` (name), ``class_value`` (number in the label table that it was
        trained on), ``probability_<class>`` (calibrated, in the population),
        ``unlike_training`` and ``distance_from_training`` (1 is the limit), S/N, W50, W20, the
        asymmetry indices with errors, and ``not_classified`` (why not; empty otherwise).
    figure : matplotlib.figure.Figure
        What the network looks at in the first galaxies; its probabilities are those of the
        training.
    population : dict
        From `skyloom.evaluation.population.describe_population`.
    """
    network, description = classifier
    configuration = Configuration.model_validate(description["configuration"])
    names = description["class_names"]
    usable = np.flatnonzero(fits["usable"])
    probability = np.full((len(profiles), len(names)), np.nan)
    for start in range(0, len(usable), _CHUNK):
        rows = usable[start : start + _CHUNK]
        line = line_geometry(profiles, profile_flux, fits, rows)
        probability[rows] = classify_lines(line, network, configuration)
    trained, shares = shares_in_population(prediction.population, probability, description)
    probability = reweight(probability, trained, shares)
    best = np.nan_to_num(probability, nan=-1.0).argmax(axis=1)
    done = fits["usable"].to_numpy()
    distance = distance_from_sample(
        sample_features(profiles, fits, asymmetry), description["sample"]
    )
    table = profiles[["id", "file"]].copy()
    table["class"] = np.where(done, np.array(names, dtype=object)[best], "")
    values = pd.array(np.array(description["class_values"])[best], dtype="Int64")
    table["class_value"] = pd.Series(values).where(done)
    for k, name in enumerate(names):
        table[f"probability_{name}"] = probability[:, k]
    table["unlike_training"] = distance > 1
    table["distance_from_training"] = distance
    table["snr"] = profiles["snr"]
    table = table.join(fits[["w50", "w20", "integrated_flux"]])
    chosen = [
        column for index in INDICES for column in (index, f"{index}_error") if column in asymmetry
    ]
    table = table.join(asymmetry[chosen])
    table["not_classified"] = np.where(done, "", "fit: " + fits["status"])
    figure = _explained(
        profiles, profile_flux, fits, usable[:_N_EXPLAINED], classifier, configuration
    )
    return table, figure, describe_population(prediction.population, shares, names)


def _explained(profiles, flux, fits, rows, classifier, configuration):
    network, description = classifier
    names = description["class_names"]
    lines, panels = [], []
    for row in rows:
        line = line_geometry(profiles, flux, fits, [row])
        table = explain_lines(line, network, configuration)
        name, share = names[table["predicted"].iloc[0]], table["probability"].iloc[0]
        lines.append(line)
        panels.append((f"{profiles['id'].iloc[row]}: {name} ({share:.2f})", "", table))
    return explanations_figure(lines, panels)
