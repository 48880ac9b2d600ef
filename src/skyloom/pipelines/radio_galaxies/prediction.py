"""Node functions of the prediction: a folder of new cut-outs, classified by a finished network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from skyloom.evaluation.novelty import distance_from_sample
from skyloom.evaluation.population import describe_population, reweight, shares_in_population
from skyloom.images.orientations import neighbouring_offsets
from skyloom.pipelines.radio_galaxies.features import (
    likeness_features,
    measure_sample,
    prepare_images,
)
from skyloom.pipelines.radio_galaxies.fitting import ANGLES, predict_orientations, predict_views
from skyloom.pipelines.radio_galaxies.ingestion import ingest_cut_outs, inspect_sources
from skyloom.pipelines.radio_galaxies.parameters import (
    Configuration,
    FeatureParameters,
    IngestionParameters,
    PredictionParameters,
)

_ANY_FILE = IngestionParameters.model_fields["file_pattern"].default


def ingest_unlabelled_cut_outs(
    observations: dict[str, Callable[[], bytes]], ingestion: IngestionParameters
) -> tuple[pd.DataFrame, Any, pd.DataFrame]:
    """Read every file, whatever its name is, without labels.

    Returns
    -------
    sources, cutouts, rejected
        From `skyloom.pipelines.radio_galaxies.ingestion.ingest_cut_outs`, the first with what
        `skyloom.pipelines.radio_galaxies.ingestion.inspect_sources` finds wrong with a source.
    """
    any_name = ingestion.model_copy(update={"file_pattern": _ANY_FILE})
    sources, cutouts, rejected = ingest_cut_outs(observations, pd.DataFrame(), any_name)
    return inspect_sources(sources, cutouts, any_name), cutouts, rejected


def classify_cut_outs(
    sources: pd.DataFrame,
    cutouts: np.ndarray,
    classifier: tuple[Any, dict[str, Any]],
    angle_networks: dict[str, Callable[[], Any]],
    prediction: PredictionParameters,
) -> tuple[pd.DataFrame, Iterator[Any], dict[str, Any]]:
    """Classify every source and predict its bending angle.

    Returns
    -------
    table : pandas.DataFrame
        ``id``, ``file``, ``class``, ``probability_<class>`` (mean over orientations and shifts, in
        the population) and ``scatter_<class>`` (its standard deviation over them; missing where
        there is one view only), ``unlike_training`` (further from the training sample than 99 % of
        it), ``distance_from_training``, ``bending_angle`` (deg, by the regressor; missing without
        one and where the class is compact), ``moment_bending_angle`` (deg) and ``warning``: what
        the selection of a sample would have found wrong.
    sheets : iterator of matplotlib.figure.Figure
        Thumbnails with their classes.
    population : dict
        From `skyloom.evaluation.population.describe_population`.
    """
    from skyloom.plots.radio_galaxies import contact_sheets

    network, description = classifier
    features = Configuration.model_validate(description["configuration"]).features
    names = description["class_names"]
    images = prepare_images(cutouts, features)
    views = np.concatenate(
        [
            predict_views(
                network,
                prepare_images(cutouts, features, offset=offset),
                prediction.average_orientations,
            )
            for offset in neighbouring_offsets(prediction.shift)
        ]
    )
    mean = views.mean(axis=0)
    trained, shares = shares_in_population(prediction.population, mean, description)
    probability = reweight(mean, trained, shares)
    scatter = reweight(views, trained, shares).std(axis=0)
    measured = measure_sample(sources, cutouts, features)
    distance = distance_from_sample(likeness_features(measured), description["sample"])
    table = sources[["id", "file"]].copy()
    table["class"] = np.array(names, dtype=object)[probability.argmax(axis=1)]
    for k, name in enumerate(names):
        table[f"probability_{name}"] = probability[:, k]
        table[f"scatter_{name}"] = scatter[:, k] if len(views) > 1 else np.nan
    table["unlike_training"] = distance > 1
    table["distance_from_training"] = distance
    table["bending_angle"] = np.nan
    if description["angle_network"] in angle_networks:
        regressor = angle_networks[description["angle_network"]]()
        seen = FeatureParameters.model_validate(description["angle_features"])
        said = predict_orientations(regressor, prepare_images(cutouts, seen))
        angle = ANGLES.table(np.full(len(said), np.nan), said)["predicted"]
        table["bending_angle"] = np.where(table["class"] != "compact", angle, np.nan)
    table["moment_bending_angle"] = measured["bending_angle"]
    table["warning"] = sources["reason"]
    captions = [
        f"{row.id}: {name} ({share:.2f})"
        for row, name, share in zip(
            table.itertuples(), table["class"], probability.max(axis=1), strict=True
        )
    ]
    pictures = images[..., 0]
    sheets = contact_sheets(pictures, captions, title="Classified cut-outs")
    return table, sheets, describe_population(prediction.population, shares, names)
