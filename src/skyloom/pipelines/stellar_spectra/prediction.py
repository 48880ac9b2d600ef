"""Node functions of the prediction: new spectra classified by a finished network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from skyloom.evaluation.novelty import distance_from_sample
from skyloom.evaluation.population import describe_population, reweight, shares_in_population
from skyloom.pipelines.stellar_spectra.features import (
    as_input,
    likeness_features,
    measure_all,
    prepare_all,
    wavelengths,
)
from skyloom.pipelines.stellar_spectra.ingestion import ingest_spectra
from skyloom.pipelines.stellar_spectra.parameters import (
    Configuration,
    IngestionParameters,
    PredictionParameters,
)
from skyloom.spectra.optical.spectral_types import UNDECIDED

_CHUNK = 256


def ingest_unlabelled_spectra(
    observations: dict[str, Callable[[], bytes]], ingestion: IngestionParameters
) -> tuple[pd.DataFrame, Any, pd.DataFrame]:
    """Read every file; what is known of the classes of its stars is set aside.

    Returns
    -------
    stars, spectra, rejected
        From `skyloom.pipelines.stellar_spectra.ingestion.ingest_spectra`; in the first ``reason``
        and ``value`` do not tell that a class is unknown, only that it is none of the seven (a
        white dwarf, say).
    """
    stars, spectra, rejected = ingest_spectra(observations, pd.DataFrame(), ingestion)
    unknown = stars["reason"].isin(UNDECIDED)
    stars.loc[unknown, ["reason", "value"]] = ""
    faint = (stars["reason"] == "") & (stars["snr"] < ingestion.min_snr)
    stars.loc[faint, "reason"] = "too noisy"
    stars.loc[faint, "value"] = stars["snr"].map("S/N {:.1f}".format)
    return stars, spectra, rejected


def classify_spectra(
    stars: pd.DataFrame,
    stacked_spectra: np.ndarray,
    classifier: tuple[Any, dict[str, Any]],
    prediction: PredictionParameters,
) -> tuple[pd.DataFrame, Iterator[Any], dict[str, Any]]:
    """Classify every spectrum.

    Returns
    -------
    table : pandas.DataFrame
        ``id``, ``file``, ``class``, ``probability_<class>`` (in the population),
        ``spectral_type`` (what the file or a table says, where one does), ``unlike_training``
        (further from the training sample than 99 % of it, by the lines that are measured),
        ``distance_from_training`` (missing where no line can tell), ``not_covered`` (lines that
        the spectrum does not cover or that are masked, of those by which it is compared) and
        ``warning``: what a sample for training would not have had. Spectra that cannot be prepared
        have no class.
    sheets : iterator of matplotlib.figure.Figure
        Pages of spectra with their classes.
    population : dict
        From `skyloom.evaluation.population.describe_population`.
    """
    from skyloom.learning.fitting import predict
    from skyloom.plots.stellar_spectra import spectra_pages

    network, description = classifier
    features = Configuration.model_validate(description["configuration"]).features
    names = description["class_names"]
    flux = prepare_all(stars, stacked_spectra, features).compute()
    lines, errors = measure_all(stars, stacked_spectra, [features])
    probability = np.concatenate(
        [
            predict(network, as_input(flux[first : first + _CHUNK], features))
            for first in range(0, len(flux), _CHUNK)
        ]
    )
    usable = np.array([error is None for error in errors], bool)
    probability[~usable] = np.nan
    trained, shares = shares_in_population(prediction.population, probability, description)
    probability = reweight(probability, trained, shares)
    best = np.nan_to_num(probability, nan=-1.0).argmax(axis=1)
    distance, sample = np.full(len(stars), np.nan), description["sample"]
    likeness = likeness_features(lines)[[] if sample is None else sample["features"]]
    if sample is not None:
        distance = distance_from_sample(likeness, sample)
    table = stars[["id", "file"]].copy()
    table["class"] = np.where(usable, np.array(names, object)[best], "")
    for k, name in enumerate(names):
        table[f"probability_{name}"] = probability[:, k]
    table["spectral_type"] = stars["spectral_type"]
    table["unlike_training"] = distance > 1
    table["distance_from_training"] = distance
    missing = likeness.isna().to_numpy()
    table["not_covered"] = [", ".join(likeness.columns[row]) for row in missing]
    why = pd.Series([": ".join(error) if error else "" for error in errors], stars.index)
    doubts = stars["reason"] + np.where(stars["value"] != "", ": " + stars["value"].astype(str), "")
    table["warning"] = why + np.where((why != "") & (doubts != ""), "; ", "") + doubts
    captions = [
        f"{name}: {label or 'none'}"
        for name, label in zip(table["id"], table["class"], strict=True)
    ]
    pages = spectra_pages(wavelengths(features), flux, captions, title="Classified spectra")
    return table, pages, describe_population(prediction.population, shares, names)
