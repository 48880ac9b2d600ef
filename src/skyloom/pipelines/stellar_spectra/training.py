"""Node functions of the training: baselines, the sweep and the final network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from skyloom import tracking
from skyloom.compute import ClusterParameters
from skyloom.evaluation.baselines import (
    compare_baselines,
    logistic_regression,
    majority,
    random_forest,
)
from skyloom.evaluation.measures import classification, classification_of
from skyloom.evaluation.novelty import describe_sample
from skyloom.evaluation.scores import class_scores
from skyloom.learning.comparison import Comparison, compare_configurations
from skyloom.learning.final import (
    describe_classifier,
    fit_final,
    rows_and_classes,
    shares_of_training,
    untrained,
)
from skyloom.learning.fitting import prepare_process
from skyloom.learning.results import scorer
from skyloom.learning.tasks import ResultStore
from skyloom.pipelines.stellar_spectra.augmentation import class_names
from skyloom.pipelines.stellar_spectra.features import likeness_features, line_widths
from skyloom.pipelines.stellar_spectra.fitting import (
    INPUTS,
    build_network,
    fit_network,
    fit_settings,
    fit_task,
    training_data,
)
from skyloom.pipelines.stellar_spectra.parameters import Configuration, Sweep

# MLflow cuts names to ten characters in its plots: they differ before that.
FOREST_BASELINE = "line indices, random forest"
REGRESSION_BASELINE = "indices, logistic regression"
MAJORITY_BASELINE = "majority class"
# Stars are told to be like those of the sample by the lines that nearly all of these have in the
# chosen window.
_MEASURED = 0.9


def fit_baselines(measurements: pd.DataFrame, split_manifest: pd.DataFrame) -> pd.DataFrame:
    """Classical classifiers on the same split, every class weighed alike.

    Returns
    -------
    pandas.DataFrame
        From `skyloom.evaluation.baselines.compare_baselines`.
    """
    widths = line_widths(measurements)
    methods = {
        FOREST_BASELINE: (random_forest(balanced=True), widths),
        REGRESSION_BASELINE: (logistic_regression(balanced=True), widths),
        MAJORITY_BASELINE: (majority(), widths),
    }
    return compare_baselines(methods, split_manifest)


def run_sweep(
    sample: pd.DataFrame,
    split_manifest: pd.DataFrame,
    inputs: dict[str, Callable[[], np.ndarray]],
    synthetic_spectra: dict[str, Callable[[], np.ndarray]],
    baseline_predictions: pd.DataFrame,
    sweep: Sweep,
    finished_fits: ResultStore,
    cluster: ClusterParameters,
) -> Comparison:
    """Train every configuration on every split.

    Returns
    -------
    Comparison
    """
    names = class_names(sample, split_manifest)
    return compare_configurations(
        sweep,
        split_manifest,
        sample["id"].to_numpy(),
        _shared_inputs(inputs, synthetic_spectra),
        _settings_for(names, sweep, synthetic_spectra),
        fit_task,
        finished_fits,
        cluster,
        inputs=INPUTS,
        measure=classification_of(split_manifest),
        score=rare_scorer(baseline_predictions, names, sweep),
        log=tracking.log_child,
    )


def rare_scorer(
    baselines: pd.DataFrame, names: list[str], sweep: Sweep, seed: int = 0
) -> Callable[[pd.DataFrame], dict[str, float]]:
    """Function that scores predictions beside the first baseline, those of the rare class too.

    Returns
    -------
    callable
        Predictions to scores, with ``rare_recall`` and ``rare_precision`` and the ends of their
        95 % intervals where the class was tested; the same permutations for every configuration.
    """
    score = scorer(baselines, FOREST_BASELINE, classification(len(names)), seed)
    rare = _rare_number(names, sweep)

    def with_rare(predictions):
        scores = score(predictions)
        if not (predictions["class"] == rare).any():
            return scores
        of_rare = class_scores(predictions, [1.0] * len(names)).iloc[rare]
        ends = [f"{each}{end}" for each in ("recall", "precision") for end in ("", "_low", "_high")]
        return scores | {f"rare_{name}": float(of_rare[name]) for name in ends}

    return with_rare


def _rare_number(names, sweep):
    """Number of the rare class; -1 where the split has none."""
    rare = sweep.base.augmentation.rare_class
    return names.index(rare) if rare in names else -1


def _settings_for(names, sweep, pools):
    """`fit_settings` of this split."""
    return partial(
        fit_settings, n_classes=len(names), rare=_rare_number(names, sweep), pools=tuple(pools)
    )


def _shared_inputs(inputs, synthetic_spectra):
    """What the fits read, by name."""
    shared = {f"spectra {name}": np.asarray(load()) for name, load in inputs.items()}
    return shared | {pool: np.asarray(load()) for pool, load in synthetic_spectra.items()}


def fit_final_network(
    sample: pd.DataFrame,
    measurements: pd.DataFrame,
    split_manifest: pd.DataFrame,
    inputs: dict[str, Callable[[], np.ndarray]],
    synthetic_spectra: dict[str, Callable[[], np.ndarray]],
    validation_predictions: pd.DataFrame,
    outcome: dict[str, Any],
    sweep: Sweep,
) -> tuple[Any, dict[str, Any], np.ndarray]:
    """Fit the chosen configuration to every star of the split and calibrate it.

    Returns
    -------
    network : keras.Model
        Its probabilities are calibrated; untrained where there was nothing to train on.
    description : dict
        From `skyloom.learning.final.describe_classifier`, with ``n_objects``, ``surveys``,
        ``label_source`` and ``sample``, which tells stars unlike those of the training (None
        where the window has none of the lines).
    example : numpy.ndarray of float32
        One input.
    """
    prepare_process(0)
    if outcome["chosen"] is None:
        base = sweep.base
        shape = base.features.input_shape
        return untrained(build_network(base.network, shape, 2, 0), shape)
    names = class_names(sample, split_manifest)
    rows, classes = rows_and_classes(sample, split_manifest)
    settings = _settings_for(names, sweep, synthetic_spectra)(
        [Configuration.model_validate(outcome["chosen"])],
        # Every fold's made spectra are of stars that are trained on here: the first will do.
        int(split_manifest["fold"].min()),
        sweep.parameters.seed,
    )
    shared = _shared_inputs(inputs, synthetic_spectra)
    network, example, learnt = fit_final(
        settings, shared, rows, classes, training_data=training_data, fit_network=fit_network
    )
    stars = sample.iloc[rows]
    likeness = likeness_features(measurements).loc[stars["id"]]
    likeness = likeness.loc[:, likeness.notna().mean() >= _MEASURED]
    description = describe_classifier(
        network, outcome, validation_predictions, names,
        shares_of_training(learnt, len(names), balanced=settings["balance"]),
        objects="spectra",
        n_objects=len(rows),
        surveys=sorted(stars["survey"].unique()),
        label_source=", ".join(sorted(stars["label_source"].unique())),
        sample=describe_sample(likeness) if len(likeness.columns) else None,
    )  # fmt: skip
    return network, description, example
